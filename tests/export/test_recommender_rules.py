"""Which items a request allows and which rules a list broke, against loops over sets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.recommender_parts import NUMBERS, config
from tfrec.export.raw import excludes_seen
from tfrec.export.recommender.catalogue import Groups
from tfrec.export.recommender.filters import allowed_items
from tfrec.export.recommender.module import Recommendation
from tfrec.export.recommender.rules import over_limit

N = 30
NAMES = ("colour", "shape")


def random_catalogue(rng: np.random.Generator) -> tuple[Any, dict[str, list[set[str]]]]:
    """Items with up to two values of two features; a third of them is sold out."""
    values = {
        name: [set(rng.choice(list("abcd"), rng.integers(0, 3)).tolist()) for _ in range(N)]
        for name in NAMES
    }
    catalogue = SimpleNamespace(
        n_items=N,
        groups={name: Groups(name, [sorted(v) for v in rows]) for name, rows in values.items()},
        in_stock=tf.constant([False, *(rng.random(N) > 1 / 3)]),
    )
    return catalogue, values


def allowed_by_hand(
    catalogue: Any,
    values: dict[str, list[set[str]]],
    wanted: dict[str, set[str]],
    excluded: set[int],
    strict: tuple[str, ...],
) -> set[int]:
    def passes(item: int, name: str) -> bool:
        return not wanted[name] or bool(values[name][item - 1] & wanted[name])

    may = [i for i in range(1, N + 1) if all(passes(i, name) for name in strict)]
    loose = [name for name in NAMES if name not in strict]
    there = [i for i in may if catalogue.in_stock.numpy()[i] and i not in excluded]
    most = max((sum(passes(i, name) for name in loose) for i in there), default=0)
    return {i for i in may if sum(passes(i, name) for name in loose) >= most}


@pytest.mark.parametrize("strict", [(), ("colour",), NAMES])
def test_as_many_filters_hold_as_an_item_that_is_there_passes(strict: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    gave_way = 0
    for _ in range(40):
        catalogue, values = random_catalogue(rng)
        rows = 3
        wanted = [
            {name: set(rng.choice(list("abcdxyz"), rng.integers(0, 3)).tolist()) for name in NAMES}
            for _ in range(rows)
        ]
        excluded = rng.integers(0, N + 1, (rows, 12))
        raw = {
            f"among_{name}": tf.constant(
                [[*sorted(w[name]), *[""] * (3 - len(w[name]))] for w in wanted]
            )
            for name in NAMES
        }
        got = allowed_items(catalogue, raw, tf.constant(excluded), strict).numpy()
        for row in range(rows):
            barred = set(excluded[row].tolist())
            want = allowed_by_hand(catalogue, values, wanted[row], barred, strict)
            assert set(np.flatnonzero(got[row]).tolist()) == want
            gave_way += any(
                wanted[row][name] and not values[name][i - 1] & wanted[row][name]
                for name in NAMES
                for i in want
            )
    assert (gave_way > 0) == (strict != NAMES)


def test_items_beyond_a_limit_are_those_that_come_when_their_group_is_full() -> None:
    rng = np.random.default_rng(1)
    # Three different groups an item at most, 0 behind.
    lists = np.array(
        [
            [
                np.where(np.arange(3) < rng.integers(0, 4), rng.permutation(6)[:3] + 1, 0)
                for _ in range(9)
            ]
            for _ in range(20)
        ]
    )
    for most in (1, 2, 5):
        got = over_limit(tf.constant(lists, tf.int32), most).numpy()
        for row, groups in enumerate(lists):
            counted: dict[int, int] = {}
            for place, own in enumerate(groups):
                full = [g for g in own.tolist() if g and counted.get(g, 0) >= most]
                assert got[row, place] == bool(full)
                for group in own.tolist():
                    counted[group] = counted.get(group, 0) + 1


@pytest.mark.parametrize("seen", [True, False])
def test_a_saved_recommender_tells_whether_it_leaves_the_history_out(
    tmp_path: Path, seen: bool
) -> None:
    settings = config(recommender={**NUMBERS, "exclude_seen": seen})
    parts: list[Any] = [None] * 7
    tf.saved_model.save(Recommendation(settings, [], *parts), str(tmp_path))
    assert excludes_seen(tf.saved_model.load(str(tmp_path))) is seen
