"""Fronts against brute force, hypervolumes against inclusion-exclusion, rules by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.evaluation.pareto import choose, hypervolume, knee, non_dominated, parse_rule

CELLS = st.integers(0, 6)


def slow_front(points: np.ndarray) -> list[bool]:
    return [not any(all(q >= p) and any(q > p) for q in points) for p in points]


def slow_volume(points: np.ndarray, floor: np.ndarray) -> float:
    """Union of boxes by inclusion and exclusion."""
    boxes = np.maximum(points - floor, 0)
    total = 0.0
    for size in range(1, len(boxes) + 1):
        for group in combinations(boxes, size):
            total += (-1) ** (size + 1) * np.prod(np.min(group, axis=0))
    return total


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 4).flatmap(lambda m: st.lists(st.tuples(*[CELLS] * m), min_size=1, max_size=12))
)
def test_front_equals_brute_force(points: list[tuple[int, ...]]) -> None:
    array = np.array(points, float)
    assert non_dominated(array).tolist() == slow_front(array)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda m: st.tuples(
            st.lists(st.tuples(*[CELLS] * m), min_size=1, max_size=8), st.tuples(*[CELLS] * m)
        )
    )
)
def test_volume_equals_inclusion_exclusion(case: tuple[list, tuple]) -> None:
    points, floor = np.array(case[0], float), np.array(case[1], float)
    assert hypervolume(points, floor) == pytest.approx(slow_volume(points, floor))


def test_volume_of_many_points_equals_counted_cells() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(1, 20, (60, 3)).astype(float)
    grid = np.stack(np.meshgrid(*[np.arange(20) + 0.5] * 3, indexing="ij"), -1).reshape(-1, 3)
    covered = (grid[:, None, :] < points[None]).all(2).any(1).sum()
    assert hypervolume(points, np.zeros(3)) == pytest.approx(covered)
    kept = points[non_dominated(points)]
    assert hypervolume(kept, np.zeros(3)) == pytest.approx(covered)


def test_the_knee_is_where_both_are_good() -> None:
    points = np.array([[0.0, 100.0], [0.8, 80.0], [1.0, 0.0], [0.5, 50.0]])
    assert knee(points) == 1
    assert knee(points * [1000, 0.001]) == 1  # units do not matter
    assert knee(np.array([[1.0, 1.0]])) == 0
    # A point that is beaten stretches no scale.
    assert knee(np.concatenate([points, [[-500.0, -500.0]]])) == 1


METRICS = ["revenue@10", "ndcg@10", "diversity@10"]
POINTS = np.array([[1.0, 0.30, 0.2], [2.0, 0.25, 0.3], [3.0, 0.10, 0.9]])


@pytest.mark.parametrize(
    ("rule", "want"),
    [
        ("max revenue@10", 2),
        ("max revenue@10 with ndcg@10 >= 0.2", 1),
        ("max revenue@10 where ndcg@10>=95%", 0),
        ("max ndcg@10 with diversity@10 >= 0.25 and revenue@10 >= 1.5", 1),
        ("max ndcg@10 with diversity@10 >= 0.25, revenue@10 >= 2.5", 2),
        ("knee", 1),
    ],
)
def test_rules(rule: str, want: int) -> None:
    assert choose(parse_rule(rule), METRICS, POINTS, ["revenue@10", "ndcg@10"]) == want


def test_wrong_rules_and_points_are_told() -> None:
    for text in ("most revenue", "max", "max a with b < 3", "max a with b >= x"):
        with pytest.raises(ValueError, match="a rule is 'knee'"):
            parse_rule(text)
    with pytest.raises(ValueError, match="'profit@10'"):
        choose(parse_rule("max profit@10"), METRICS, POINTS, [])
    with pytest.raises(ValueError, match=r"the most that any reached alone is 0\.3"):
        choose(parse_rule("max revenue@10 with ndcg@10 >= 0.5"), METRICS, POINTS, [])
    with pytest.raises(ValueError, match="NaN"):
        non_dominated(np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match="1 to 3 objectives"):
        hypervolume(np.ones((2, 4)), np.zeros(4))
    with pytest.raises(ValueError, match="at least one point"):
        knee(np.zeros((0, 2)))
