"""Exposure: who is shown, by group of items, with less attention further down a list.

A group's exposure is the attention its items get in all lists. Two yardsticks (Singh & Joachims,
KDD 2018): its share of the catalogue (*parity*: every item is shown alike) and its share of the
demand (*merit*: items are shown as they are asked for). NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Discount = Literal["log", "geometric", "none"]
Yardstick = Literal["catalogue", "demand"]
BANDS = ("(none)", "head", "middle", "tail")
PATIENCE = 0.8


def attention(k: int, discount: Discount = "log") -> np.ndarray:
    """How much a place of a list is looked at, float64 [k]; the first counts 1.

    Args:
        k: places.
        discount: ``log``: 1 / log2(rank + 1), as in DCG; ``geometric``: 0.8 ** (rank - 1), as in
            rank-biased precision (Moffat & Zobel 2008); ``none``: all alike.

    Raises:
        ValueError: no such discount.
    """
    rank = np.arange(1, k + 1)
    if discount == "log":
        return 1.0 / np.log2(rank + 1)
    if discount == "geometric":
        return PATIENCE ** (rank - 1.0)
    if discount == "none":
        return np.ones(k)
    raise ValueError(f"discount is 'log', 'geometric' or 'none'; got {discount!r}")


def _shares(weight: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """The share of each group in the items' weight, float64 [n_groups + 1]."""
    member = groups.reshape(len(groups), -1)
    known = member > 0
    parts = known.sum(axis=1)
    each = weight / np.maximum(parts, 1)
    total = np.bincount(
        np.where(known, member, 0).ravel(),
        weights=(known * each[:, None]).ravel(),
        minlength=n_groups + 1,
    )
    total[0] = weight[parts == 0].sum()
    return total / total.sum() if total.sum() > 0 else total


@dataclass(frozen=True)
class Exposure:
    """One grouping of the catalogue and who of it is shown.

    Attributes:
        by: what the groups are made by, e.g. ``popularity``.
        names: of the groups, [n_groups + 1]; index 0 are the items of no group.
        shown: float64 [n_groups + 1], each group's share of the attention; sums to 1.
        catalogue: float64 [n_groups + 1], its share of the items.
        demand: float64 [n_groups + 1], its share of the training events.
    """

    by: str
    names: tuple[str, ...]
    shown: np.ndarray
    catalogue: np.ndarray
    demand: np.ndarray

    def disparity(self, against: Yardstick = "catalogue") -> float:
        """Share of the attention that would have to move to match: ``sum |shown - other| / 2``.

        0 where groups are shown in proportion, near 1 where those with nothing get all.
        """
        return float(np.abs(self.shown - getattr(self, against)).sum() / 2)

    def ratio(self, against: Yardstick = "catalogue") -> np.ndarray:
        """Attention for what a group has, float64 [n_groups + 1]: 1 is proportional; NaN: empty."""
        other = getattr(self, against)
        return np.divide(self.shown, other, out=np.full(len(other), np.nan), where=other > 0)


def popularity_bands(counts: np.ndarray) -> np.ndarray:
    """Each item's band by ``BANDS``, int64 [n_items + 1]: 1 head, 2 middle, 3 tail, 0 for padding.

    The head are the most popular items that together hold a third of the events, the middle those
    of the next third.

    Args:
        counts: int [n_items + 1], training events of each item; row 0 is padding.
    """
    counts = np.asarray(counts, np.int64)
    order = np.argsort(-counts[1:], kind="stable") + 1
    before = np.cumsum(counts[order]) - counts[order]
    bands = np.zeros(len(counts), np.int64)
    bands[order] = 1 + np.minimum(3 * before // max(int(counts[1:].sum()), 1), 2)
    return bands


def measure_exposure(
    lists: np.ndarray,
    groups: np.ndarray,
    counts: np.ndarray,
    *,
    by: str,
    names: Sequence[str] | Mapping[int, str] = (),
    discount: Discount = "log",
) -> Exposure:
    """Who is shown.

    Args:
        lists: int [n, k] item indices, 0 behind a short list.
        groups: int [n_items + 1] or, where an item may be in several, [n_items + 1, membership];
            group numbers from 1, 0 is none. An item in several gives each an equal part.
        counts: int [n_items + 1], training events of each item.
        by: what the groups are made by.
        names: of the groups by number; the number itself where there is none.
        discount: see ``attention``.

    Raises:
        ValueError: shapes that do not fit.
    """
    lists, groups, counts = np.asarray(lists), np.asarray(groups), np.asarray(counts)
    if lists.ndim != 2:
        raise ValueError(f"lists are int [n, k]; got shape {lists.shape}")
    if len(groups) != len(counts) or groups.ndim not in (1, 2):
        raise ValueError(
            f"groups have one row an item and one for padding like counts, {len(counts)}; got "
            f"{groups.shape}"
        )
    n_groups = int(groups[1:].max(initial=0))
    looks = np.broadcast_to(attention(lists.shape[1], discount), lists.shape)
    seen = np.bincount(lists.ravel(), weights=looks.ravel(), minlength=len(counts))
    every = np.ones(len(counts))
    for weight in (seen, every):
        weight[0] = 0.0
    demand = counts.astype(np.float64)
    demand[0] = 0.0
    known = names if isinstance(names, Mapping) else dict(enumerate(names))
    return Exposure(
        by=by,
        names=tuple(known.get(g, str(g) if g else "(none)") for g in range(n_groups + 1)),
        shown=_shares(seen, groups, n_groups),
        catalogue=_shares(every, groups, n_groups),
        demand=_shares(demand, groups, n_groups),
    )
