"""What both kinds of store promise, on LMDB, Redis and a Redis cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.store.conftest import Clock
from tfrec.store import (
    HISTORIES,
    HISTORY_SCHEMA,
    ITEMS,
    USER_VECTORS,
    USERS,
    RowSchema,
    StoreError,
)
from tfrec.store.base import BaseStore

AGE = {"age": "string"}
EVERYTHING = {
    USERS: {"age": "string", "income": "float", "tags": "strings"},
    USER_VECTORS: {"embedding": "vector:4"},
}
IDS = ["u1", "ü€ 2", "a}b{c", "x" * 600, "u:users:v1"]


def load(store: BaseStore, version: str, ages: dict[str, str | None]) -> None:
    with store.begin(version, {USERS: AGE}) as one:
        one.put_many(USERS, list(ages), {"age": pa.array(ages.values(), pa.string())})
        one.commit()


def ages(store: BaseStore, keys: list[str]) -> list[str | None]:
    return store.get_many(USERS, keys).columns["age"].to_pylist()


def test_rows_come_back_in_the_order_asked(store: BaseStore) -> None:
    n = len(IDS)
    vectors = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    with store.begin("v1", EVERYTHING) as one:
        columns = {"age": [f"a{i}" for i in range(n)], "tags": [["t"] * i for i in range(n)]}
        assert one.put_many(USERS, IDS, columns) == n
        assert one.put_many(USER_VECTORS, pa.array(IDS), {"embedding": vectors}) == n
        one.commit()
    asked = [IDS[3], "nobody", *IDS, IDS[0], "nobody"]
    place = [3, None, *range(n), 0, None]
    rows = store.get_many(USERS, asked)
    assert rows.version == "v1"
    assert rows.found.tolist() == [p is not None for p in place]
    assert rows.columns["age"].to_pylist() == [None if p is None else f"a{p}" for p in place]
    assert rows.columns["tags"].to_pylist() == [None if p is None else ["t"] * p for p in place]
    assert rows.columns["income"].null_count == len(asked)
    both = store.get_groups(
        {USER_VECTORS: (IDS, None), USERS: (IDS[:2], ["age"]), ITEMS: (IDS, None)}
    )
    found = both[USER_VECTORS].columns["embedding"]
    np.testing.assert_array_equal(found.flatten().to_numpy().reshape(n, 4), vectors)
    assert both[USERS].columns["age"].to_pylist() == ["a0", "a1"]
    assert list(both[USERS].columns) == ["age"]
    assert not both[ITEMS].found.any()
    assert both[ITEMS].version is None


def test_asking_for_nothing_and_of_nothing(store: BaseStore) -> None:
    assert store.get_many(USERS, ["u1"], ["age"]).columns["age"].to_pylist() == [None]
    assert store.schema(USERS) is None
    load(store, "v1", {"u1": "young"})
    assert ages(store, []) == []
    assert store.schema(USERS).names == ("age",)  # type: ignore[union-attr]
    with pytest.raises(StoreError, match="no column 'height'"):
        store.get_many(USERS, ["u1"], ["height"])
    with pytest.raises(StoreError, match="a key is text that is not empty; got None"):
        store.get_many(USERS, ["u1", None])  # type: ignore[list-item]


def test_readers_see_the_old_version_till_the_switch(opened: Callable[..., BaseStore]) -> None:
    writer, reader = opened(), opened()
    load(writer, "v1", {"u1": "old", "u2": "old"})
    assert ages(reader, ["u1", "u2"]) == ["old", "old"]
    one = writer.begin("v2", {USERS: {"age": "string", "city": "string"}})
    one.put_many(USERS, ["u1"], {"age": ["new"], "city": ["Rome"]})
    assert ages(reader, ["u1", "u2"]) == ["old", "old"]
    assert reader.status().loading == {"v2": [USERS]}
    one.commit()
    rows = reader.get_many(USERS, ["u1", "u2"])  # other columns at once, and u2 is gone
    assert rows.columns["city"].to_pylist() == ["Rome", None]
    assert rows.version == "v2"
    assert reader.status().live == {USERS: "v2"}
    with pytest.raises(StoreError, match="'v2' is not being loaded"):
        one.commit()
    with pytest.raises(StoreError, match="'v2' is not being loaded"):
        one.put_many(USERS, ["u1"], {"age": ["late"]})
    with pytest.raises(StoreError, match="a version is new; 'v2' is live in \\['users'\\]"):
        writer.begin("v2", {USERS: AGE})


def test_a_load_leaves_other_namespaces_alone(store: BaseStore) -> None:
    with store.begin("v1", {USERS: AGE, ITEMS: {"price": "float"}}) as one:
        one.put_many(USERS, ["a"], {"age": ["young"]})
        one.put_many(ITEMS, ["a"], {"price": [1.5]})
        one.commit()
    for version in ("v2", "v3"):
        load(store, version, {"a": version})
    assert ages(store, ["a"]) == ["v3"]
    assert store.get_many(ITEMS, ["a"]).columns["price"].to_pylist() == [1.5]
    assert store.status().live == {ITEMS: "v1", USERS: "v3"}


def test_abort_resume_and_restart(store: BaseStore) -> None:
    load(store, "v1", {"u1": "old"})
    one = store.begin("v2", {USERS: AGE})
    one.put_many(USERS, ["u1"], {"age": ["new"]}, source="users.parquet", done=1)
    with pytest.raises(StoreError, match="mode='resume' goes on with it"):
        store.begin("v2", {USERS: AGE})
    again = store.begin("v2", mode="resume")
    assert again.done("users.parquet") == 1
    assert again.done("other") == 0
    with pytest.raises(StoreError, match="begun with other columns"):
        store.begin("v2", {USERS: {"age": "int"}}, mode="resume")
    fresh = store.begin("v2", {USERS: AGE}, mode="restart")
    assert fresh.done("users.parquet") == 0
    fresh.put_many(USERS, ["u9"], {"age": ["newest"]})
    fresh.commit()
    assert ages(store, ["u1", "u9"]) == [None, "newest"]
    one = store.begin("v3", {USERS: AGE})
    one.put_many(USERS, ["u9"], {"age": ["never"]})
    one.abort()
    assert ages(store, ["u9"]) == ["newest"]
    assert store.status().loading == {}
    store.prune()
    assert store.prune() == []
    with pytest.raises(StoreError, match="'v3' is not being loaded"):
        one.put_many(USERS, ["u9"], {"age": ["late"]})


def test_pruning_removes_what_is_neither_live_nor_loading(store: BaseStore) -> None:
    ids = {f"u{i}": "x" for i in range(3000)}
    load(store, "v1", ids)
    load(store, "v2", ids)
    assert _rows(store, "v1") == 3000  # a slow reader may still be at it
    open_ = store.begin("v3", {USERS: AGE})
    open_.put_many(USERS, ["a"], {"age": ["y"]})
    assert [_rows(store, v) for v in ("v1", "v2", "v3")] == [0, 3000, 1]
    assert store.prune() == []


def _rows(store: BaseStore, version: str) -> int:
    counted = store._count(USERS, version)
    if counted is not None:
        return counted
    client: Any = store._writer()  # type: ignore[attr-defined]
    return sum(1 for _ in client.scan_iter(match=f"tfrec:{{u:*}}:users:{version}", count=1000))


def test_online_rows_replace_those_of_the_live_version(store: BaseStore) -> None:
    with pytest.raises(StoreError, match="'users' has none; load one first"):
        store.put_many(USERS, ["u1"], {"age": ["x"]})
    load(store, "v1", {"u1": "old", "u2": "old"})
    assert store.put_many(USERS, ["u2", "u3"], {"age": ["new", None]}) == 2
    rows = store.get_many(USERS, ["u1", "u2", "u3"])
    assert rows.columns["age"].to_pylist() == ["old", "new", None]
    assert rows.found.all()


def test_rows_go_when_their_time_is_over(opened: Callable[..., BaseStore], clock: Clock) -> None:
    store = opened(ttl=100)
    with store.begin("v1", {USERS: AGE}) as one:
        one.put_many(USERS, ["default"], {"age": ["x"]})
        one.put_many(USERS, ["long"], {"age": ["x"]}, ttl=1000)
        one.commit()
    clock.now += 99
    assert store.get_many(USERS, ["default", "long"]).found.tolist() == [True, True]
    clock.now += 1
    assert store.get_many(USERS, ["default", "long"]).found.tolist() == [False, True]


def test_histories_join_both_parts(store: BaseStore) -> None:
    with store.begin("v1", {HISTORIES: HISTORY_SCHEMA}) as one:
        lists = {"item": [["a", "b", "b"], ["c"]], "time": [[1, 2, 2], [5]]}
        one.put_many(HISTORIES, ["u1", "u2"], lists)
        one.commit()
    store.append_history(["u1", "u3", "u1", "u1"], ["b", "z", "late", "ä"], [2, 9, 1, 7])
    rows = store.get_many(HISTORIES, ["u1", "u2", "u3", "nobody"])
    # (b, 2) is in the loaded part already; what came late stands where it belongs
    assert rows.columns["item"].to_pylist() == [["a", "late", "b", "b", "ä"], ["c"], ["z"], None]
    assert rows.columns["time"].to_pylist() == [[1, 1, 2, 2, 7], [5], [9], None]
    assert rows.found.tolist() == [True, True, True, False]
    store.append_history(["u1"], ["d"], np.array([8]))
    store.append_history(["u1"], ["d"], [8])  # a retry
    rows = store.get_many(HISTORIES, ["u1"], ["item"])
    assert rows.columns["item"].to_pylist() == [["late", "b", "b", "ä", "d"]]  # 5 are kept


def test_histories_keep_the_ratings_of_their_events(store: BaseStore) -> None:
    with store.begin("v1", {HISTORIES: HISTORY_SCHEMA}) as one:
        rated = {"item": [["a", "b"]], "time": [[1, 3]], "weight": [[4.5, 1.0]]}
        one.put_many(HISTORIES, ["u1"], rated)
        one.put_many(HISTORIES, ["u2"], {"item": [["c", "d"]], "time": [[5, 6]]})
        one.commit()

    def weights(*users: str) -> list[list[float | None] | None]:
        lists = store.get_many(HISTORIES, users).columns["weight"].to_pylist()
        return [None if row is None else [None if np.isnan(v) else v for v in row] for row in lists]

    assert weights("u1", "u2", "nobody") == [[4.5, 1.0], [None, None], None]
    users, items = ["u1", "u2", "u1", "u3"], ["late", "e", "ä", "z"]
    store.append_history(users, items, [2, 7, 9, 1], [2.5, np.nan, -3.0, 5.0])
    store.append_history(users, items, [2, 7, 9, 1], [2.5, np.nan, -3.0, 5.0])  # a retry
    store.append_history(["u3"], ["y"], [2])
    rows = store.get_many(HISTORIES, ["u1", "u2", "u3"])
    assert rows.columns["item"].to_pylist() == [
        ["a", "late", "b", "ä"],
        ["c", "d", "e"],
        ["z", "y"],
    ]
    assert weights("u1", "u2", "u3") == [[4.5, 2.5, 1.0, -3.0], [None] * 3, [5.0, None]]
    store.append_history(["u1", "u1"], ["f", "g"], [10, 11], [1.5, 3.5])
    assert weights("u1") == [[2.5, 1.0, -3.0, 1.5, 3.5]]  # 5 are kept
    with pytest.raises(StoreError, match="got 1, 1, 1, 2"):
        store.append_history(["u1"], ["i1"], [1], [1.0, 2.0])


def test_a_version_from_before_ratings_is_read_and_added_to(
    store: BaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = RowSchema.of({"item": "strings", "time": "ints"})
    monkeypatch.setattr("tfrec.store.base.HISTORY_SCHEMA", old)
    with store.begin("v1", {HISTORIES: old}) as one:
        one.put_many(HISTORIES, ["u1"], {"item": [["a"]], "time": [[1]]})
        one.commit()
    monkeypatch.undo()
    store.append_history(["u1"], ["b"], [2], [4.0])
    rows = store.get_many(HISTORIES, ["u1"])
    assert rows.columns["item"].to_pylist() == [["a", "b"]]
    first, second = rows.columns["weight"].to_pylist()[0]
    assert (np.isnan(first), second) == (True, 4.0)


def test_no_event_is_lost_in_a_switch(store: BaseStore) -> None:
    one = store.begin("v1", {HISTORIES: HISTORY_SCHEMA})
    one.put_many(HISTORIES, ["u1"], {"item": [["a"]], "time": [[1]]})
    store.append_history(["u1"], ["b"], [2])  # while the load is under way
    one.commit()
    assert store.get_many(HISTORIES, ["u1"]).columns["item"].to_pylist() == [["a", "b"]]
    with store.begin("v2", {HISTORIES: HISTORY_SCHEMA}) as one:  # has caught up
        one.put_many(HISTORIES, ["u1"], {"item": [["a", "b"]], "time": [[1, 2]]})
        one.commit()
    assert store.get_many(HISTORIES, ["u1"]).columns["item"].to_pylist() == [["a", "b"]]


def test_online_events_are_trimmed_where_they_lie_and_expire(
    opened: Callable[..., BaseStore], clock: Clock
) -> None:
    store = opened(history_ttl=50)
    for i in range(12):
        store.append_history(["u1"], [f"i{i}"], [i])
    (fetched,) = store._fetch({HISTORIES: ["u1"]}).values()
    assert len(fetched.recent[0] or b"") == sum(12 + len(f"i{i}") for i in range(7, 12))
    found = store.get_many(HISTORIES, ["u1"]).columns["item"].to_pylist()
    assert found == [[f"i{i}" for i in range(7, 12)]]
    if store.config.kind == "lmdb":  # Redis keeps its own clock
        clock.now += 51
        assert not store.get_many(HISTORIES, ["u1"]).found.any()
        assert store.sweep() == 1  # type: ignore[attr-defined]


def test_mistakes_are_told(store: BaseStore) -> None:
    with pytest.raises(StoreError, match="a namespace is lower-case"):
        store.get_many("Users!", ["u1"])
    with pytest.raises(StoreError, match="a version is up to 64"):
        store.begin("v 1", {USERS: AGE})
    with pytest.raises(StoreError, match="names its namespaces"):
        store.begin("v1")
    with pytest.raises(StoreError, match="mode is new, resume or restart"):
        store.begin("v1", {USERS: AGE}, mode="again")
    with pytest.raises(StoreError, match=r"use tfrec\.store\.HISTORY_SCHEMA"):
        store.begin("v1", {HISTORIES: {"item": "strings"}})
    one = store.begin("v1", {USERS: AGE})
    with pytest.raises(StoreError, match="begun for \\['users'\\]; got 'items'"):
        one.put_many(ITEMS, ["i1"], {"age": ["x"]})
    with pytest.raises(StoreError, match="got 2 keys and 1 rows"):
        one.put_many(USERS, ["u1", "u2"], {"age": ["x"]})
    with pytest.raises(StoreError, match="at least one column"):
        one.put_many(USERS, [], {})
    with pytest.raises(StoreError, match="weight an event; got 1, 1, 2, 1"):
        store.append_history(["u1"], ["i1"], [1, 2])
