"""A Beam job into LMDB and Redis: switched at the end, bundles tried again, a failure harmless."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipelines.store_sink import CommitVersion, WriteRows, _Write, begin_version
from tests.store.servers import RedisServer
from tfrec.config import StoreConfig
from tfrec.store import ITEMS, USERS, StoreError, open_store

SCHEMAS = {USERS: {"age": "string", "tags": "strings"}, ITEMS: {"price": "float"}}
PEOPLE = [{"user_id": f"u{i}", "age": f"a{i % 3}", "tags": ["x"] * (i % 3)} for i in range(500)]
THINGS = [{"item_id": f"i{i}", "price": float(i)} for i in range(40)]


@pytest.fixture(params=["lmdb", "redis"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreConfig]:
    if request.param == "lmdb":
        yield StoreConfig(path=str(tmp_path / "s.lmdb"), map_size_gib=0.25)
        return
    server = RedisServer(tmp_path)
    yield StoreConfig(kind="redis", url=server.url, timeout_ms=5000)
    server.kill()


def run(config: StoreConfig, version: str, people: list[dict[str, Any]]) -> None:
    with beam.Pipeline(runner="DirectRunner") as p:
        users = p | "Users" >> beam.Create(people)
        items = p | "Items" >> beam.Create(THINGS)
        counts = (
            users | "WriteUsers" >> WriteRows(config, version, USERS, "user_id"),
            items | "WriteItems" >> WriteRows(config, version, ITEMS, "item_id"),
        )
        assert_that(counts | CommitVersion(config, version), equal_to([len(people) + len(THINGS)]))


def test_a_job_fills_and_switches(config: StoreConfig) -> None:
    begin_version(config, "v1", SCHEMAS)
    run(config, "v1", PEOPLE)
    store = open_store(config)
    asked = ["u7", "nobody", "u0"]
    rows = store.get_many(USERS, asked)
    assert rows.columns["age"].to_pylist() == ["a1", None, "a0"]
    assert rows.columns["tags"].to_pylist() == [["x"], None, []]
    everyone = store.get_many(USERS, [p["user_id"] for p in PEOPLE])
    assert everyone.found.all()
    assert store.get_many(ITEMS, ["i39"]).columns["price"].to_pylist() == [39.0]
    begin_version(config, "v2", SCHEMAS)
    with pytest.raises(Exception, match="got also \\['colour'\\]"):
        run(config, "v2", [*PEOPLE, {"user_id": "u1", "colour": "red"}])
    assert store.status().live == {USERS: "v1", ITEMS: "v1"}
    assert store.get_many(USERS, asked).version == "v1"
    begin_version(config, "v2", SCHEMAS, mode="restart")
    run(config, "v2", PEOPLE[:5])
    assert store.get_many(USERS, asked).found.tolist() == [False, False, True]
    store.close()


def test_a_bundle_tried_again_changes_nothing(config: StoreConfig) -> None:
    begin_version(config, "v1", SCHEMAS)
    write = _Write(config, "v1", USERS, "user_id")
    write.setup()
    assert list(write.process(PEOPLE[:10])) == [10]
    assert list(write.process(PEOPLE[:10])) == [10]
    write.teardown()
    store = open_store(config)
    store.begin("v1", mode="resume").commit()
    found = store.get_many(USERS, [p["user_id"] for p in PEOPLE[:10]])
    assert found.columns["age"].to_pylist() == [p["age"] for p in PEOPLE[:10]]
    with pytest.raises(StoreError, match="a version is new; 'v1' is live"):
        _Write(config, "v1", USERS, "user_id").setup()
    store.close()
