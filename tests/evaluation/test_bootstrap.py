"""Intervals and p-values against exact answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.builders import random_data, retrieval_data
from tests.evaluation.stub import Fixed
from tfrec.evaluation import bootstrap, evaluate
from tfrec.evaluation.bootstrap import compare, confidence_interval, sign_flip_p


def test_interval_is_that_of_the_normal_law_for_many_users() -> None:
    values = np.random.default_rng(0).normal(3, 2, 5000)
    found = confidence_interval(values, 0.95, 4000, seed=1)
    error = values.std() / np.sqrt(len(values))
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    wider = confidence_interval(values, 0.99, 4000, seed=1)
    assert wider.low < found.low < found.high < wider.high


def test_interval_of_one_value_is_a_point() -> None:
    found = confidence_interval(np.full(7, 0.25))
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        found = confidence_interval(random.random(60) < 0.3, 0.9, 300, seed)
        covered += found.low <= 0.3 <= found.high
    assert 0.82 <= covered / 200 <= 0.97


def test_p_equals_all_sign_vectors() -> None:
    differences = np.array([0.4, -0.1, 0.3, 0.25, -0.05, 0.2, 0.0])
    observed = abs(differences.sum())
    every = [
        abs(np.dot(signs, differences[:6])) >= observed - 1e-12
        for signs in itertools.product((-1, 1), repeat=6)
    ]
    assert sign_flip_p(differences, 20_000) == pytest.approx(np.mean(every), abs=0.01)


def test_p_at_both_ends() -> None:
    assert sign_flip_p(np.zeros(5)) == 1
    assert sign_flip_p(np.array([1.0, -1.0])) == 1
    assert sign_flip_p(np.ones(60), 999) == pytest.approx(1 / 1000)


def test_blocks_bound_memory_and_change_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(0.01, 1, 501)
    whole = confidence_interval(values, resamples=100), sign_flip_p(values, 100)
    monkeypatch.setattr(bootstrap, "DRAWN", 4200)
    assert bootstrap._block(501) == 8
    assert (confidence_interval(values, resamples=100), sign_flip_p(values, 100)) == whole
    assert bootstrap._block(10_000) == 4


def test_compare_is_paired() -> None:
    """Two models that differ on few users: the pairing sees it, the separate means would not."""
    data = random_data(60, 20)
    a = evaluate(Fixed.random(data, 1), data, ks=(5,), name="a")
    values = a.per_user["ndcg@5"]
    from dataclasses import replace

    b = replace(a, name="b", per_user={"ndcg@5": values + 0.01})
    found = compare(a, b, "ndcg@5")
    assert found.difference.mean == pytest.approx(0.01)
    assert found.difference.low == pytest.approx(0.01)
    assert found.p < 0.01
    assert (found.wins, found.losses, found.ties) == (len(values), 0, 0)
    back = compare(b, a, "ndcg@5")
    assert back.difference.mean == pytest.approx(-0.01)
    assert compare(a, a, "ndcg@5").p == 1


def test_compare_refuses_different_questions() -> None:
    data = random_data(60, 20)
    a = evaluate(Fixed.random(data), data, ks=(5,))
    b = evaluate(Fixed.random(data), data, "validation", ks=(5,))
    with pytest.raises(ValueError, match="same users and held-out items"):
        compare(a, b, "ndcg@5")
    with pytest.raises(KeyError, match="ndcg@7"):
        compare(a, a, "ndcg@7")
    # The same users with as many items each, but others: no pair either.
    one = retrieval_data([(1, 1), (2, 2)], test=[(1, 3), (2, 4)], n_items=6)
    other = retrieval_data([(1, 1), (2, 2)], test=[(1, 5), (2, 6)], n_items=6)
    found = [evaluate(Fixed.random(d), d, ks=(2,), progress=False) for d in (one, other)]
    with pytest.raises(ValueError, match="same users and held-out items"):
        compare(found[0], found[1], "recall@2")


@pytest.mark.parametrize(
    ("values", "confidence", "message"),
    [
        ([], 0.95, "n >= 1"),
        ([[1.0]], 0.95, "n >= 1"),
        ([np.nan], 0.95, "NaN"),
        ([1.0], 1.0, "between 0 and 1"),
    ],
)
def test_bad_input(values: list[float], confidence: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confidence_interval(np.array(values), confidence)
