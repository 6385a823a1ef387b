"""Rules of a list: against the oracle that counts afresh, and by cases with one right answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rerank import oracle
from tests.rerank.test_lists import Batch
from tfrec.rerank import Limit, rerank

FALLING = np.linspace(1.0, 0.1, 10, dtype=np.float32)[None]


def relevance_gain(relevance: np.ndarray) -> Any:
    return lambda i, chosen: float(relevance[i])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    k=st.integers(0, 14),
    most=st.tuples(st.integers(-1, 3), st.integers(0, 4)),
    pins=st.booleans(),
    musts=st.booleans(),
    method=st.sampled_from(["none", "mmr", "dpp"]),
)
def test_rules_are_those_of_the_oracle(
    seed: int, k: int, most: tuple[int, int], pins: bool, musts: bool, method: str
) -> None:
    batch = Batch(seed, coarse=True)
    rng = np.random.default_rng(seed)
    shape = batch.relevance.shape
    seller = rng.integers(0, 4, shape)
    genres = rng.integers(0, 5, (*shape, 3))
    pinned = np.where(rng.random(shape) < 0.2, rng.integers(0, 16, shape), -1) if pins else None
    must = rng.random(shape) < 0.2 if musts else None
    found = batch.asked(
        method,
        k,
        None,
        limits=[Limit(seller, most[0]), Limit(genres, np.full(3, most[1]))],
        pinned=pinned,
        must=must,
    )
    for row in range(3):
        rules = oracle.Rules(
            batch.valid[row],
            k,
            [
                ([{int(g)} - {0} for g in seller[row]], most[0]),
                ([{int(g) for g in each} - {0} for each in genres[row]], most[1]),
            ],
            None if pinned is None else pinned[row],
            None if must is None else must[row],
        )
        if method == "none":
            expected = oracle.pick_greedily(
                relevance_gain(batch.relevance[row]), batch.valid[row], k, 0.0, rules
            )
        else:
            expected = batch.expected_row(method, row, k, None, rules)
        assert found.indices.numpy()[row].tolist() == expected
        assert found.relaxed.numpy()[row].tolist() == rules.relaxed(expected)


def test_at_most_two_a_seller() -> None:
    seller = np.array([[1, 1, 1, 1, 2, 2, 2, 0, 0, 0]])
    found = rerank(FALLING, 7, limits=[Limit(seller, 2)])
    assert found.indices.numpy().tolist() == [[0, 1, 4, 5, 7, 8, 9]]
    assert found.relaxed.numpy().tolist() == [[0]]


def test_a_list_is_never_shortened_and_says_what_gave_way() -> None:
    seller = np.array([[1, 1, 1, 1, 1, 2, 2, 2, 2, 2]])
    found = rerank(FALLING, 6, limits=[Limit(seller, 1)])
    assert found.indices.numpy().tolist() == [[0, 5, 1, 2, 3, 4]]
    assert found.relaxed.numpy().tolist() == [[4]]


def test_of_two_limits_the_item_that_breaks_fewer_gives_way_first() -> None:
    seller = np.array([[1, 1, 1]])
    shelf = np.array([[1, 1, 2]])
    found = rerank(FALLING[:, :3], 2, limits=[Limit(seller, 1), Limit(shelf, 1)])
    assert found.indices.numpy().tolist() == [[0, 2]]
    assert found.relaxed.numpy().tolist() == [[1, 0]]


def test_pinned_items_stand_where_they_are_pinned() -> None:
    pinned = np.full((1, 10), -1)
    pinned[0, [9, 7, 8]] = [0, 3, 12]
    found = rerank(FALLING, 5, pinned=pinned)
    assert found.indices.numpy().tolist() == [[9, 0, 1, 7, 2]]
    pinned[0, [9, 7, 8]] = 1  # three to one place: the better first, the others behind it
    assert rerank(FALLING, 5, pinned=pinned).indices.numpy().tolist() == [[0, 7, 8, 9, 1]]


def test_an_item_pinned_to_a_later_place_waits_for_it_though_it_is_the_best() -> None:
    pinned = np.full((1, 10), -1)
    pinned[0, 0] = 2
    assert rerank(FALLING, 3, pinned=pinned).indices.numpy().tolist() == [[1, 2, 0]]


def test_compulsory_items_are_in_the_list_and_no_place_is_lost() -> None:
    must = np.zeros((1, 10), bool)
    must[0, [1, 8, 9]] = True
    assert rerank(FALLING, 5, must=must).indices.numpy().tolist() == [[0, 1, 2, 8, 9]]
    assert rerank(FALLING, 2, must=must).indices.numpy().tolist() == [[1, 8]]


def test_compulsory_items_take_their_share_of_a_limit_first() -> None:
    seller = np.array([[1, 1, 1, 2, 2, 2, 3, 3, 3, 1]])
    must = np.zeros((1, 10), bool)
    must[0, 9] = True
    found = rerank(FALLING, 4, limits=[Limit(seller, 1)], must=must)
    assert found.indices.numpy().tolist() == [[3, 6, 9, 0]]
    assert found.relaxed.numpy().tolist() == [[1]]  # three sellers cannot fill four places
    found = rerank(FALLING, 3, limits=[Limit(seller, 1)], must=must)
    assert found.indices.numpy().tolist() == [[3, 6, 9]]
    assert found.relaxed.numpy().tolist() == [[0]]


def test_errors_say_the_rule_and_what_came() -> None:
    with pytest.raises(ValueError, match=r"groups of limit 0 is \[batch, candidate\] or .*1, 4"):
        rerank(FALLING, 3, limits=[Limit(np.ones((1, 4), np.int64), 1)])
    with pytest.raises(ValueError, match=r"groups of limit 0 are whole numbers.*got string"):
        rerank(FALLING, 3, limits=[Limit(np.full((1, 10), "a"), 1)])
    with pytest.raises(ValueError, match=r"pinned is \[batch, candidate\].*got \(2, 10\)"):
        rerank(FALLING, 3, pinned=np.zeros((2, 10), np.int32))
