"""Loads that are killed, switches under readers, and canonical folders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.store.loader import load, value
from tfrec.config.store import StoreConfig
from tfrec.store import HISTORIES, ITEMS, USER_VECTORS, USERS, StoreError, StoreUnavailable
from tfrec.store.base import BaseStore
from tfrec.store.tables import load_tables

ROWS = 4000
READERS = 3


def written(config: StoreConfig, version: str) -> dict[str, list[str | None]]:
    return {"age": [value(i, version) for i in range(ROWS)]}


def ask(store: BaseStore) -> tuple[str | None, list[str | None]]:
    rows = store.get_many(USERS, [f"u{i}" for i in range(ROWS)])
    return rows.version, rows.columns["age"].to_pylist()


def test_a_loader_killed_in_the_middle_tears_nothing_and_is_resumed(
    opened: Callable[..., BaseStore], config: StoreConfig, repository: Path
) -> None:
    load(config, ROWS, "v1")
    store = opened()
    old = ("v1", [value(i, "v1") for i in range(ROWS)])
    assert ask(store) == old
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.loader", config.model_dump_json(), str(10**9)],
        cwd=repository,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        for line in process.stdout:
            if int(line) >= 1500:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert ask(store) == old
    assert store.status().loading == {"v2": [USERS]}
    begun = store.begin("v2", mode="resume").done("rows")
    assert begun >= 1500
    load(config, max(ROWS, begun), "v2", mode="resume")
    assert ask(store) == ("v2", [value(i, "v2") for i in range(ROWS)])
    assert store.status().loading == {}


def test_readers_never_see_two_versions_in_one_answer(opened: Callable[..., BaseStore]) -> None:
    """Every value says its version, and rows come and go with it."""
    writer = opened()
    keys = [f"u{i}" for i in range(300)]

    def publish(number: int) -> None:
        one = writer.begin(f"v{number}", {USERS: {"age": "string"}})
        held = keys if number % 2 else keys[:200]
        one.put_many(USERS, held, {"age": [f"v{number}"] * len(held)})
        one.commit()

    publish(1)
    stop, seen, wrong = threading.Event(), set(), []

    def read() -> None:
        store = opened()
        while not stop.is_set():
            try:
                rows = store.get_many(USERS, keys)
            except Exception as error:
                wrong.append(repr(error))
                return
            seen.add(rows.version)
            count = 300 if int((rows.version or "v0")[1:]) % 2 else 200
            if set(rows.columns["age"].drop_null().to_pylist()) != {rows.version}:
                wrong.append(str(rows.version))
            if rows.found.sum() != count:
                wrong.append(f"{rows.version}: {rows.found.sum()} rows")

    threads = [threading.Thread(target=read) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    for number in range(2, 25):
        publish(number)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(seen) > 2


def test_readers_in_other_processes_see_the_switch(tmp_path: Path, repository: Path) -> None:
    config = StoreConfig(path=str(tmp_path / "s.lmdb"), map_size_gib=0.1)
    load(config, 10, "v1")
    code = (
        "import sys; from tfrec.store import *; from tfrec.config import StoreConfig\n"
        "store = open_store(StoreConfig.model_validate_json(sys.argv[1]))\n"
        "for line in sys.stdin:\n"
        "    print(store.get_many('users', ['u3']).version, flush=True)\n"
        "assert 'redis' not in sys.modules and 'tensorflow' not in sys.modules\n"
    )
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", code, config.model_dump_json()],
            cwd=repository,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]

    def versions() -> list[str]:
        answers = []
        for reader in readers:
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.write("\n")
            reader.stdin.flush()
            answers.append(reader.stdout.readline().strip())
        return answers

    assert versions() == ["v1", "v1"]
    load(config, 10, "v2")
    assert versions() == ["v2", "v2"]
    for reader in readers:
        reader.communicate()
        assert reader.returncode == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A canonical folder of 50 users, with images that are not stored."""
    random = np.random.default_rng(0)
    base = tmp_path / "tables"
    (base / "interactions").mkdir(parents=True)
    n = 600
    events = pa.table(
        {
            "user_id": [f"u{i}" for i in random.integers(0, 40, n)],
            "item_id": [f"i{i}" for i in random.integers(0, 30, n)],
            "timestamp": random.integers(0, 100, n),
        }
    )
    for part in range(2):
        half = events.slice(part * 300, 300)
        pq.write_table(half, base / "interactions" / f"part-{part:05d}.parquet")
    users = pa.table(
        {
            "user_id": [f"u{i}" for i in range(50)],
            "age": [None if i % 7 == 0 else f"a{i % 4}" for i in range(50)],
        }
    )
    items = pa.table(
        {
            "item_id": [f"i{i}" for i in range(30)],
            "price": pa.array(range(30), pa.float32()),
            "genres": [[f"g{i % 3}"] * (i % 3) for i in range(30)],
            "image": [b"png"] * 30,
        }
    )
    pq.write_table(users, base / "users.parquet", row_group_size=10)
    pq.write_table(items, base / "items.parquet")
    return base


def test_a_canonical_folder_becomes_a_version(
    store: BaseStore, folder: Path, tmp_path: Path
) -> None:
    vectors = tmp_path / "vectors.parquet"
    made = [[float(i), 0.5] for i in range(50)]
    pq.write_table(pa.table({"user_id": [f"u{i}" for i in range(50)], "embedding": made}), vectors)
    counts = load_tables(store, folder, "v1", user_vectors=vectors, history_length=4)
    events = pq.read_table(folder / "interactions").to_pylist()
    users = sorted({e["user_id"] for e in events})
    assert counts == {USERS: 50, ITEMS: 30, USER_VECTORS: 50, HISTORIES: len(users)}
    rows = store.get_many(HISTORIES, users)
    for user, items, times in zip(users, rows.columns["item"], rows.columns["time"], strict=True):
        own = sorted((e for e in events if e["user_id"] == user), key=lambda e: e["timestamp"])[-4:]
        assert items.as_py() == [e["item_id"] for e in own]
        assert times.as_py() == [e["timestamp"] for e in own]
    table = pq.read_table(folder / "users.parquet")
    found = store.get_many(USERS, table.column("user_id"))  # type: ignore[arg-type]
    assert found.columns["age"].to_pylist() == table.column("age").to_pylist()
    assert store.schema(ITEMS).names == ("price", "genres")  # type: ignore[union-attr]
    vector = store.get_many(USER_VECTORS, ["u7"]).columns["embedding"]
    assert (vector.type, vector.to_pylist()) == (pa.list_(pa.float32(), 2), [[7.0, 0.5]])


def test_ratings_of_the_log_come_along(store: BaseStore, folder: Path) -> None:
    parts = sorted((folder / "interactions").glob("*.parquet"))
    random = np.random.default_rng(1)
    for part in parts:
        events = pq.read_table(part)
        rating = pa.array(random.integers(1, 11, events.num_rows) / 2.0, pa.float32())
        pq.write_table(events.append_column("weight", rating), part)
    load_tables(store, folder, "v1", history_length=4)
    log = pq.read_table(folder / "interactions").to_pylist()
    users = sorted({e["user_id"] for e in log})
    found = store.get_many(HISTORIES, users).columns["weight"]
    for user, ratings in zip(users, found, strict=True):
        own = sorted((e for e in log if e["user_id"] == user), key=lambda e: e["timestamp"])[-4:]
        assert ratings.as_py() == [e["weight"] for e in own]
    # Where all events weigh the same there are no ratings, and none are stored.
    for part in parts:
        events = pq.read_table(part).drop(["weight"])
        ones = pa.array(np.ones(events.num_rows, np.float32))
        pq.write_table(events.append_column("weight", ones), part)
    load_tables(store, folder, "v2", history_length=4)
    (plain,) = store.get_many(HISTORIES, users[:1]).columns["weight"].to_pylist()
    assert np.isnan(plain).all()


def test_a_folder_load_that_loses_its_store_is_resumed(
    store: BaseStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows already written are not written again, and the result is as if nothing had happened."""
    monkeypatch.setattr("tfrec.store.tables.BLOCK", 16)
    whole, calls = type(store)._write, []

    def failing(self: BaseStore, namespace: str, version: str, *rest: object) -> None:
        if len(calls) == 3:
            calls.append("down")
            raise StoreUnavailable("gone")
        calls.append(namespace)
        whole(self, namespace, version, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store), "_write", failing)
    with pytest.raises(StoreUnavailable):
        load_tables(store, folder, "v1", history_length=4)
    counts = load_tables(store, folder, "v1", history_length=4, mode="resume")
    assert calls == [*[USERS] * 3, "down", USERS, *[ITEMS] * 2, *[HISTORIES] * 3]
    assert counts[USERS] == 50
    assert store.get_many(USERS, [f"u{i}" for i in range(50)]).found.all()
    assert store.get_many(HISTORIES, ["u0", "u39"]).found.all()


def test_the_command_loads_and_shows(folder: Path, tmp_path: Path) -> None:
    from tfrec.cli import app

    config = tmp_path / "c.yaml"
    config.write_text(
        "name: t\ndata: {format: synthetic}\nstore: {path: s.lmdb, map_size_gib: 0.1}\n"
    )
    runner = CliRunner()
    options = ["--config", str(config)]
    load_v1 = ["store", "load", *options, "--data", str(folder), "--version", "v1"]
    done = runner.invoke(app, load_v1)
    assert done.exit_code == 0, done.output
    assert '"users": 50' in done.output
    assert (tmp_path / "s.lmdb").is_file()
    shown = runner.invoke(app, ["store", "status", *options])
    assert "users" in shown.output
    assert "price float" in shown.output
    got = runner.invoke(app, ["store", "get", *options, "users", "u8", "nobody"])
    assert got.output == '{"u8": {"age": "a0"}}\n{"nobody": null}\n'
    past = runner.invoke(app, ["store", "get", *options, "histories", "u8"])
    row = json.loads(past.output)["u8"]
    assert row["weight"] == [None] * len(row["item"])  # not known, in JSON that anybody reads
    again = runner.invoke(
        app, ["store", "load", *options, "--data", str(folder), "--version", "v1"]
    )
    assert again.exit_code == 2
    assert "'v1' is live in" in again.output
    lost = runner.invoke(app, ["store", "load", *options, "--data", str(tmp_path)])
    assert lost.exit_code == 2
    assert "a Parquet file is needed" in lost.output


def test_a_full_file_and_a_wrong_file_are_told(tmp_path: Path) -> None:
    config = StoreConfig(path=str(tmp_path / "s.lmdb"), map_size_gib=0.001)
    with pytest.raises(StoreError, match=r"holds at most 0.001 GiB; it is full; raise store\."):
        load(config, 50_000, "v1")
    (tmp_path / "text").write_text("no database " * 1000)
    with pytest.raises(StoreError, match="an LMDB file is needed"):
        load(StoreConfig(path=str(tmp_path / "text")), 1, "v1")
    with pytest.raises(StoreError, match="the store's folder is there"):
        load(StoreConfig(path=str(tmp_path / "no" / "s.lmdb")), 1, "v1")
