from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.config import SplitConfig
from tfrec.data import DataError, assign

events = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 6)), min_size=1, max_size=60)


def table(rows: list[tuple[str, int]]) -> pa.Table:
    users, times = zip(*rows, strict=True)
    return pa.table({"user_id": list(users), "timestamp": pa.array(times, pa.int64())})


def last_out_oracle(rows: list[tuple[str, int]]) -> list[str]:
    by_user = defaultdict(list)
    for at, (user, time) in enumerate(rows):
        by_user[user].append((time, at))
    out = ["train"] * len(rows)
    for mine in by_user.values():
        mine.sort()
        if len(mine) >= 3:
            out[mine[-1][1]] = "test"
            out[mine[-2][1]] = "eval"
    return out


@given(events)
@settings(max_examples=80, deadline=None)
def test_last_out_equals_the_slow_way(rows: list[tuple[str, int]]) -> None:
    assert assign(table(rows), SplitConfig()).to_pylist() == last_out_oracle(rows)


@given(events, st.floats(0, 0.4), st.floats(0.05, 0.4))
@settings(max_examples=80, deadline=None)
def test_time_never_tests_the_past(
    rows: list[tuple[str, int]], validation: float, test: float
) -> None:
    split = SplitConfig(method="time", validation=validation, test=test)
    names = assign(table(rows), split).to_pylist()
    # Equal times keep the order of the file: position is part of the key.
    keys = [(time, at) for at, (_, time) in enumerate(rows)]
    in_order = [name for _, name in sorted(zip(keys, names, strict=True))]
    assert in_order == sorted(in_order, key=["train", "eval", "test"].index)
    assert names.count("test") == int(test * len(rows) + 1e-9)
    assert names.count("eval") == int(validation * len(rows) + 1e-9)


def test_random_has_the_right_shares_and_depends_on_the_seed_alone() -> None:
    rows = [("u", i) for i in range(1000)]
    split = SplitConfig(method="random", validation=0.2, test=0.1, seed=3)
    first, again = assign(table(rows), split), assign(table(rows), split)
    other = assign(table(rows), split.model_copy(update={"seed": 4}))
    assert first == again
    assert first != other
    values, counts = np.unique(first.to_pylist(), return_counts=True)
    assert dict(zip(values, counts, strict=True)) == {"eval": 200, "test": 100, "train": 700}
    # Random means spread over the log, not a tail of it.
    at = np.flatnonzero(np.array(first.to_pylist()) == "test")
    assert at.min() < 100
    assert at.max() > 900


def test_ties_keep_the_order_of_the_file_across_chunks() -> None:
    rows = [("a", 5), ("a", 5), ("b", 1), ("a", 5), ("b", 2), ("b", 0)]
    whole = table(rows)
    chunked = pa.concat_tables([whole.slice(0, 2), whole.slice(2)])
    expected = ["train", "eval", "eval", "test", "test", "train"]
    assert assign(whole, SplitConfig()).to_pylist() == expected
    assert assign(chunked, SplitConfig()).to_pylist() == expected


def test_users_with_two_events_stay_in_training() -> None:
    assert assign(table([("a", 1), ("a", 2)]), SplitConfig()).to_pylist() == ["train", "train"]


def test_one_event_and_none() -> None:
    assert assign(table([("a", 1)]), SplitConfig()).to_pylist() == ["train"]
    with pytest.raises(DataError, match="at least one event"):
        assign(table([("a", 1)]).slice(0, 0), SplitConfig())


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValueError, match=r"leave a share for training; got 0.5 \+ 0.9"):
        SplitConfig(method="time", validation=0.5, test=0.9)


@given(st.integers(1, 40), st.floats(0, 0.49), st.floats(0.01, 0.49))
def test_something_is_always_left_for_training(n: int, validation: float, test: float) -> None:
    for method in ("time", "random"):
        split = SplitConfig(method=method, validation=validation, test=test)  # type: ignore[arg-type]
        assert "train" in assign(table([("a", i) for i in range(n)]), split).to_pylist()
