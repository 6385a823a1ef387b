"""The re-rankers as one would write them well in NumPy: one list at a time, incremental.

Each step is a product of [candidate, dim] with one vector, as in the papers; what is compared with
the graph is therefore the same algorithm, not a slow one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

NOISE, RIDGE, SMOOTHING = 1e-9, 1e-3, 0.01


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)


def _fill(
    k: int, gain: Callable[[int], np.ndarray], add: Callable[[int, int], None], noise: float
) -> list[int]:
    """The greedy loop: ``gain(step)`` of all candidates, then ``add(step, chosen)``."""
    chosen: list[int] = []
    for step in range(k):
        value = gain(step)
        value[chosen] = -np.inf
        best = int(np.argmax(value >= value.max() - noise))
        chosen.append(best)
        add(step, best)
    return chosen


def mmr(relevance: np.ndarray, vectors: np.ndarray, k: int, t: float) -> list[int]:
    """relevance [candidate], vectors [candidate, dim] -> k positions."""
    v, scaled = _unit(vectors), (1 - t) * relevance.astype(np.float64)
    closest = np.full(len(v), -np.inf)

    def gain(step: int) -> np.ndarray:
        return scaled - t * closest if step else scaled.copy()

    def add(step: int, j: int) -> None:
        np.maximum(closest, v @ v[j], out=closest)

    return _fill(k, gain, add, NOISE * t)


def dpp(relevance: np.ndarray, vectors: np.ndarray, k: int, t: float) -> list[int]:
    """relevance [candidate], vectors [candidate, dim] -> k positions (Chen et al. 2018)."""
    v, scaled = _unit(vectors), (1 - t) * relevance.astype(np.float64)
    factor, left = np.zeros((k, len(v))), np.ones(len(v))
    least = RIDGE / (1 + RIDGE)

    def gain(step: int) -> np.ndarray:
        return scaled + t * np.log(np.maximum(left, least))

    def add(step: int, j: int) -> None:
        row = v @ v[j] / (1 + RIDGE)
        row[j] = 1.0
        e = (row - factor[:step, j] @ factor[:step]) / np.sqrt(max(left[j], least))
        factor[step] = e
        left[:] -= e * e

    return _fill(k, gain, add, NOISE * t)


def calibrated(
    relevance: np.ndarray, categories: np.ndarray, target: np.ndarray, k: int, t: float
) -> list[int]:
    """relevance [candidate], categories [candidate, category], target [category] -> k positions."""
    total = categories.sum(axis=1, keepdims=True).astype(np.float64)
    shares = np.divide(categories, total, out=np.zeros(categories.shape), where=total > 0)
    p = target.astype(np.float64) / target.sum()
    known = p > 0
    scaled, seen = (1 - t) * relevance.astype(np.float64), np.zeros(len(p))

    def gain(step: int) -> np.ndarray:
        q = (1 - SMOOTHING) * (seen + shares) / (step + 1) + SMOOTHING * p
        return scaled - t * (p[known] * np.log(p[known] / q[:, known])).sum(axis=1)

    def add(step: int, j: int) -> None:
        seen[:] += shares[j]

    return _fill(k, gain, add, NOISE * t)
