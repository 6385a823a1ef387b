"""Pareto fronts: which points nothing beats, how much they cover, and which one to take.

Every objective counts upwards: turn a cost round before it comes here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def _points(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or not len(points):
        raise ValueError(
            f"points are float [point, objective] with at least one point; got {points.shape}"
        )
    if not np.isfinite(points).all():
        raise ValueError("points hold NaN or infinity; leave out what could not be measured")
    return points


def non_dominated(points: np.ndarray) -> np.ndarray:
    """Which points no other one beats: as good in every objective and better in one.

    Args:
        points: float [point, objective], larger is better.

    Returns:
        bool [point]; equal points are all kept.

    Raises:
        ValueError: no points, or numbers that are not finite.
    """
    points = _points(points)
    kept = np.ones(len(points), bool)
    for at, point in enumerate(points):
        if kept[at]:
            # What this point beats goes; it cannot beat what beats others in its place.
            beaten = (points <= point).all(axis=1) & (points < point).any(axis=1)
            kept &= ~beaten
    return kept


def _area(points: np.ndarray) -> float:
    """Area between the origin and points of positive coordinates, [point, 2]."""
    order = np.lexsort((-points[:, 1], -points[:, 0]))
    x, y = points[order].T
    height = np.maximum.accumulate(y)
    width = x - np.append(x[1:], 0.0)
    return float(width @ height)


def hypervolume(points: np.ndarray, reference: Sequence[float] | np.ndarray) -> float:
    """Volume of what the points beat, above the reference (Zitzler & Thiele 1998); exact.

    Two objectives: a sweep, O(n log n). Three: slices between the heights of the third objective,
    each a sweep, O(n^2 log n).

    Args:
        points: float [point, objective] with 1 to 3 objectives, larger is better.
        reference: float [objective], what counts as nothing; points that do not exceed it in every
            objective add nothing.

    Raises:
        ValueError: no points, another number of objectives, numbers that are not finite.
    """
    points, floor = _points(points), np.asarray(reference, np.float64)
    size = points.shape[1]
    if size not in (1, 2, 3) or floor.shape != (size,) or not np.isfinite(floor).all():
        raise ValueError(
            f"a hypervolume is of 1 to 3 objectives and a reference of as many finite numbers; got "
            f"{size} objectives and a reference of shape {floor.shape}"
        )
    above = points[(points > floor).all(axis=1)] - floor
    if not len(above):
        return 0.0
    if size == 1:
        return float(above.max())
    if size == 2:
        return _area(above)
    above = above[np.argsort(-above[:, 2])]
    depth = above[:, 2] - np.append(above[1:, 2], 0.0)
    slices = [_area(above[: i + 1, :2]) for i in range(len(above)) if depth[i] > 0]
    return float(depth[depth > 0] @ np.array(slices))


def knee(points: np.ndarray) -> int:
    """The point nearest to the best of every objective (compromise programming, Zeleny 1973).

    Objectives are put on 0..1 by the extremes of the non-dominated points, so that units do not
    matter; of equal distances the first.

    Args:
        points: float [point, objective], larger is better.

    Returns:
        Position of a non-dominated point.
    """
    points = _points(points)
    front = np.flatnonzero(non_dominated(points))
    low, high = points[front].min(axis=0), points[front].max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    missing = (high - points[front]) / span
    return int(front[np.argmin(np.sqrt((missing**2).sum(axis=1)))])


@dataclass(frozen=True)
class Bound:
    """``metric >= value``, or ``>= value`` percent of the best that was measured."""

    metric: str
    value: float
    percent: bool


@dataclass(frozen=True)
class Rule:
    """How a point is chosen: the knee, or the most of one metric under bounds on others."""

    metric: str | None
    bounds: tuple[Bound, ...]


_MAX = re.compile(r"^max\s+(\S+)(?:\s+(?:with|where)\s+(.+))?$")
_BOUND = re.compile(r"^(\S+)\s*>=\s*([-+0-9.eE]+)\s*(%?)$")


def parse_rule(text: str) -> Rule:
    """``knee``, or ``max revenue@10 with ndcg@10 >= 0.1 and diversity@10 >= 95%``.

    A bound in percent is a share of the best that any point reached.

    Raises:
        ValueError: it is neither.
    """
    if text.strip() == "knee":
        return Rule(None, ())
    found = _MAX.match(text.strip())
    bounds = []
    for part in re.split(r"\s+and\s+|\s*,\s*", found.group(2)) if found and found.group(2) else ():
        bound = _BOUND.match(part.strip())
        if bound is None:
            found = None
            break
        bounds.append(Bound(bound.group(1), float(bound.group(2)), bound.group(3) == "%"))
    if found is None:
        raise ValueError(
            f"a rule is 'knee' or 'max METRIC with METRIC >= NUMBER and ...' (a number may be a "
            f"percentage of the best, as 95%); got {text!r}"
        )
    return Rule(found.group(1), tuple(bounds))


def choose(rule: Rule, metrics: Sequence[str], points: np.ndarray, front: Sequence[str]) -> int:
    """The position of the chosen point.

    Args:
        rule: see ``parse_rule``.
        metrics: names of the columns of ``points``.
        points: float [point, metric], larger is better.
        front: the metrics that make the front, for ``knee``.

    Raises:
        ValueError: a metric that was not measured, or bounds that no point keeps; the message says
            what was reached.
    """
    metrics, points = list(metrics), _points(points)

    def column(name: str) -> np.ndarray:
        if name not in metrics:
            raise ValueError(f"a rule names what was measured, {metrics}; got {name!r}")
        return points[:, metrics.index(name)]

    if rule.metric is None:
        return knee(np.stack([column(name) for name in front], axis=1))
    worth = column(rule.metric)
    fits = np.ones(len(points), bool)
    for bound in rule.bounds:
        values = column(bound.metric)
        least = bound.value / 100 * values.max() if bound.percent else bound.value
        fits &= values >= least
        if not fits.any():
            raise ValueError(
                f"no point keeps the bounds up to {bound.metric} >= {least:.6g} (the most that any "
                f"reached alone is {values.max():.6g}); lower a bound or search more weights"
            )
    return int(np.argmax(np.where(fits, worth, -np.inf)))
