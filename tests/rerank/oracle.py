"""The slow, obvious answer: NumPy loops that recompute everything for every candidate.

Nothing is carried from one place of a list to the next; the determinant is a determinant.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

NOISE = 1e-9


def unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)


def pick_greedily(
    gain: Callable[[int, list[int]], float],
    valid: np.ndarray,
    k: int,
    noise: float,
    rules: Rules | None = None,
) -> list[int]:
    """One list: the earliest candidate within the noise of the best, k times, -1 behind."""
    chosen: list[int] = []
    for place in range(k):
        free = [i for i in range(len(valid)) if valid[i] and i not in chosen]
        if rules is not None:
            free = rules.admitted(free, chosen, place, min(k, len(valid)))
        if not free:
            break
        gains = {i: gain(i, chosen) for i in free}
        best = max(gains.values())
        chosen.append(min(i for i in free if gains[i] >= best - noise))
    return chosen + [-1] * (k - len(chosen))


class Rules:
    """The rules of ``Constraints`` for one row, counted afresh at every place.

    Args:
        limits: (groups of each candidate as sets, most).
        pinned: place or -1 of each candidate.
        must: bool of each candidate.
    """

    def __init__(
        self,
        valid: np.ndarray,
        k: int,
        limits: list[tuple[list[set[int]], int]],
        pinned: np.ndarray | None = None,
        must: np.ndarray | None = None,
    ) -> None:
        self.limits = limits
        places = min(k, len(valid))
        self.place = np.full(len(valid), -1) if pinned is None else pinned.copy()
        self.place[(self.place >= places) | ~valid] = -1
        reserved = self.place >= 0
        if must is not None:
            reserved |= must & valid
        self.reserved = {int(i) for i in np.flatnonzero(reserved)}

    def breaks(self, i: int, chosen: list[int]) -> list[bool]:
        """Which limits would be broken with ``i`` (and what is reserved) in the list."""
        together = (set(chosen) | self.reserved) - {i}
        out = []
        for groups, most in self.limits:
            full = [g for g in groups[i] if sum(g in groups[j] for j in together) + 1 > most]
            out.append(most >= 0 and bool(full))
        return out

    def admitted(self, free: list[int], chosen: list[int], place: int, places: int) -> list[int]:
        owed = [i for i in free if i in self.reserved]
        if owed and len(owed) >= places - place:
            free = owed
        free = [i for i in free if self.place[i] <= place] or free
        free = [i for i in owed if 0 <= self.place[i] <= place] or free
        if not free:
            return []
        broken = {i: sum(self.breaks(i, chosen)) for i in free}
        return [i for i in free if broken[i] == min(broken.values())]

    def relaxed(self, chosen: list[int]) -> list[int]:
        """How many items of a list broke each limit when they were taken."""
        out = np.zeros(len(self.limits), int)
        for at, i in enumerate(c for c in chosen if c >= 0):
            out += np.array(self.breaks(i, chosen[:at]), int)
        return out.tolist()


def mmr_gain(
    relevance: np.ndarray, vectors: np.ndarray, t: float, window: int | None
) -> Callable[[int, list[int]], float]:
    v = unit(vectors)

    def gain(i: int, chosen: list[int]) -> float:
        seen = chosen if window is None else chosen[-(window - 1) :]
        return (1 - t) * relevance[i] - t * max((v[i] @ v[j] for j in seen), default=0.0)

    return gain


def dpp_gain(
    relevance: np.ndarray, vectors: np.ndarray, t: float, window: int | None, ridge: float = 1e-3
) -> Callable[[int, list[int]], float]:
    v = unit(vectors)
    s = v @ v.T / (1 + ridge)
    np.fill_diagonal(s, 1.0)

    def log_det(items: list[int]) -> float:
        return np.linalg.slogdet(s[np.ix_(items, items)])[1] if items else 0.0

    def gain(i: int, chosen: list[int]) -> float:
        seen = chosen if window is None else chosen[-(window - 1) :]
        return (1 - t) * relevance[i] + t * (log_det([*seen, i]) - log_det(seen))

    return gain


def calibrated_gain(
    relevance: np.ndarray,
    categories: np.ndarray,
    target: np.ndarray,
    t: float,
    window: int | None,
    smoothing: float = 0.01,
) -> Callable[[int, list[int]], float]:
    def shares(values: np.ndarray) -> np.ndarray:
        return values / values.sum() if values.sum() > 0 else values * 0.0

    p = shares(target.astype(np.float64))

    def gain(i: int, chosen: list[int]) -> float:
        seen = chosen if window is None else chosen[-(window - 1) :]
        q = np.mean([shares(categories[j].astype(np.float64)) for j in [*seen, i]], axis=0)
        mixed = (1 - smoothing) * q + smoothing * p
        apart = sum(p[g] * np.log(p[g] / mixed[g]) for g in range(len(p)) if p[g] > 0)
        return (1 - t) * relevance[i] - t * apart

    return gain
