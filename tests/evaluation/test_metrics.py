"""List metrics against a loop over ranks and pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.oracle import user_metrics
from tfrec.evaluation.metrics import METRICS, list_metrics, parse_metric


@st.composite
def one_list(draw: st.DrawFn) -> tuple[list[int], set[int], int, int]:
    """A list, the held-out items, the number of candidates and a cut-off up to its length."""
    candidates = draw(st.integers(1, 12))
    order = draw(st.permutations(range(1, candidates + 1)))
    held = draw(st.sets(st.integers(1, candidates), min_size=1))
    k = draw(st.integers(1, 15))
    return list(order), held, candidates, k


@settings(max_examples=200, deadline=None)
@given(st.lists(one_list(), min_size=1, max_size=5))
def test_equal_the_oracle(rows: list[tuple[list[int], set[int], int, int]]) -> None:
    ks = sorted({k for *_, k in rows})
    hits = np.zeros((len(rows), ks[-1]), bool)
    for row, (order, held, _, _) in enumerate(rows):
        for rank, item in enumerate(order[: ks[-1]]):
            hits[row, rank] = item in held
    relevant = np.array([len(held) for _, held, _, _ in rows])
    candidates = np.array([c for _, _, c, _ in rows])
    found = list_metrics(hits, relevant, candidates, ks)
    assert set(found) == {f"{m}@{k}" for m in METRICS for k in ks}
    for row, (order, held, count, _) in enumerate(rows):
        for k in ks:
            expected = user_metrics(order, held, count, k)
            for metric, value in expected.items():
                assert found[f"{metric}@{k}"][row] == pytest.approx(value), (metric, k)


def test_by_hand() -> None:
    """Hits at ranks 1 and 4 of three held-out items among ten."""
    hits = np.array([[True, False, False, True]])
    found = {k: v[0] for k, v in list_metrics(hits, np.array([3]), np.array([10]), [1, 4]).items()}
    assert found["recall@4"] == pytest.approx(2 / 3)
    assert found["precision@4"] == 0.5
    assert found["map@4"] == pytest.approx((1 + 2 / 4) / 3)
    assert found["mrr@4"] == 1
    assert found["ndcg@1"] == 1
    assert found["ndcg@4"] == pytest.approx((1 + 1 / np.log2(5)) / (1 + 1 / np.log2(3) + 0.5))


def test_perfect_list_gets_one_everywhere() -> None:
    hits = np.array([[True, True, False]])
    found = list_metrics(hits, np.array([2]), np.array([9]), [2, 3])
    for name in ("recall@2", "precision@2", "hr@2", "ndcg@3", "map@3", "mrr@3", "auc@3"):
        assert found[name][0] == pytest.approx(1), name


@pytest.mark.parametrize(
    ("hits", "relevant", "ks", "message"),
    [
        (np.zeros((1, 3), bool), [1], [5], "K >= 5"),
        (np.zeros((2, 3), bool), [1], [3], "one number a list"),
        (np.zeros((1, 3), bool), [0], [3], "without held-out items"),
        (np.zeros((1, 3), bool), [1], [], "cut-offs are whole numbers"),
        (np.zeros((1, 3), bool), [1], [0], "cut-offs are whole numbers"),
    ],
)
def test_bad_input(hits: np.ndarray, relevant: list[int], ks: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list_metrics(hits, np.array(relevant), np.full(len(relevant), 9), ks)


@pytest.mark.parametrize("metric", ["ndcg", "ndcg@", "ndcg@0", "accuracy@10", "@3"])
def test_bad_metric_name(metric: str) -> None:
    with pytest.raises(ValueError, match="'@' and a cut-off from 1"):
        parse_metric(metric)
