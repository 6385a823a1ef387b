"""Trainings kept on disk, and the splits of VBPR's benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.kept import Kept, OutOfTime
from benchmarks.vbpr_parts.data import KEPT, leave_one_out, made_cold


def test_what_is_kept_is_made_once(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> dict[str, np.ndarray]:
        made.append("once")
        return {"auc/all": np.array([0.5, 0.75])}

    first = Kept(tmp_path)("set/a group/0", make)
    again = Kept(tmp_path)("set/a group/0", make)
    assert made == ["once"]
    np.testing.assert_array_equal(first["auc/all"], again["auc/all"])
    Kept(None)("set/a group/0", make)
    assert made == ["once", "once"]


def test_nothing_new_begins_after_the_limit(tmp_path: Path) -> None:
    Kept(tmp_path)("a", lambda: {"x": np.ones(1)})
    late = Kept(tmp_path, limit_s=-1.0)
    assert late("a", lambda: {})["x"] == [1.0]
    with pytest.raises(OutOfTime, match="b"):
        late("b", lambda: {"x": np.ones(1)})


@pytest.fixture(scope="module")
def log() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    pairs = np.unique(random.integers(0, 60 * 40, 900))
    return pairs // 40, pairs % 40


def test_leave_one_out_takes_two_events_of_each_user(log: tuple[np.ndarray, np.ndarray]) -> None:
    user, _ = log
    parts = leave_one_out(user, 0)
    every = np.concatenate(list(parts.values()))
    assert sorted(every.tolist()) == list(range(len(user)))
    for name in ("test", "validation"):
        assert sorted(user[parts[name]].tolist()) == sorted(set(user.tolist()))


def test_made_cold_asks_about_items_with_few_training_events_alone(
    log: tuple[np.ndarray, np.ndarray],
) -> None:
    user, item = log
    parts = made_cold(user, item, 0)
    counts = np.bincount(item[parts["train"]], minlength=40)
    asked = {name: set(item[parts[name]].tolist()) for name in ("test", "validation")}
    assert not asked["test"] & asked["validation"]
    assert 4 <= len(asked["test"]) <= 8
    assert 1 <= len(asked["validation"]) <= 4
    for name, items in asked.items():
        assert (counts[list(items)] == KEPT).all()
        assert len(set(user[parts[name]].tolist())) == len(parts[name])  # a question a user
        assert not set(parts["train"].tolist()) & set(parts[name].tolist())
    others = np.setdiff1d(np.arange(40), np.flatnonzero(counts == KEPT))
    assert (counts[others] == np.bincount(item, minlength=40)[others]).all()
