"""Exposure: against loops over lists, and by cases with one right answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.rerank.exposure import Discount, attention, measure_exposure, popularity_bands


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), discount=st.sampled_from(["log", "geometric", "none"]))
def test_shares_are_those_of_a_loop(seed: int, discount: Discount) -> None:
    rng = np.random.default_rng(seed)
    lists = rng.integers(0, 9, (5, 4))
    groups = rng.integers(0, 4, (9, 2))
    counts = rng.integers(0, 5, 9)
    shown, catalogue, demand = np.zeros((3, 4))
    names = {"log": lambda r: 1 / np.log2(r + 1), "geometric": lambda r: 0.8 ** (r - 1)}
    look = names.get(discount, lambda r: 1.0)

    def spread(total: np.ndarray, item: int, weight: float) -> None:
        mine = [g for g in groups[item] if g > 0]
        for g in mine or [0]:
            total[g] += weight / max(len(mine), 1)

    for row in lists:
        for rank, item in enumerate(row, start=1):
            if item > 0:
                spread(shown, item, look(rank))
    for item in range(1, 9):
        spread(catalogue, item, 1.0)
        spread(demand, item, counts[item])
    found = measure_exposure(lists, groups, counts, by="seller", discount=discount)
    width = len(found.names)
    for got, total in ((found.shown, shown), (found.catalogue, catalogue), (found.demand, demand)):
        expected = total / total.sum() if total.sum() else total
        np.testing.assert_allclose(got, expected[:width])
        assert expected[width:].sum() == 0


def test_proportional_exposure_has_no_disparity() -> None:
    lists = np.array([[1, 2], [3, 4]])
    found = measure_exposure(
        lists, np.array([0, 1, 2, 2, 1]), np.array([0, 9, 1, 0, 0]), by="x", names=["-", "a", "b"]
    )
    assert found.names == ("-", "a", "b")
    assert found.disparity("catalogue") == pytest.approx(0.0)
    assert found.disparity("demand") == pytest.approx(0.4)
    np.testing.assert_allclose(found.ratio("demand"), [np.nan, 0.5 / 0.9, 5.0])


def test_one_group_takes_all() -> None:
    groups = np.array([0, 1, *[2] * 98, 0])
    found = measure_exposure(np.ones((7, 1), int), groups, np.ones(101, int), by="x")
    np.testing.assert_allclose(found.shown, [0, 1, 0])
    assert found.disparity() == pytest.approx(0.99)
    assert found.names == ("(none)", "1", "2")


def test_bands_hold_a_third_of_the_events_each() -> None:
    counts = np.array([0, 1, 1, 1, 3, 1, 1, 1, 3, 3])
    np.testing.assert_array_equal(popularity_bands(counts), [0, 2, 3, 3, 1, 3, 3, 3, 1, 2])
    np.testing.assert_array_equal(popularity_bands(np.array([7, 0, 0])), [0, 1, 1])


def test_attention_falls_down_the_list() -> None:
    np.testing.assert_allclose(attention(3), [1, 0.63093, 0.5], atol=1e-5)
    np.testing.assert_allclose(attention(3, "geometric"), [1, 0.8, 0.64])
    np.testing.assert_array_equal(attention(2, "none"), [1, 1])


def test_errors_say_the_rule_and_what_came() -> None:
    with pytest.raises(ValueError, match=r"discount is .*; got 'linear'"):
        attention(3, "linear")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"lists are int \[n, k\]; got shape \(3,\)"):
        measure_exposure(np.zeros(3, int), np.zeros(4, int), np.zeros(4, int), by="x")
    with pytest.raises(ValueError, match=r"one row an item and one for padding like counts, 4"):
        measure_exposure(np.zeros((1, 3), int), np.zeros(3, int), np.zeros(4, int), by="x")
