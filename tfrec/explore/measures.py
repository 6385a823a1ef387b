"""What a list is worth and how mixed it is, and how two lists differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tfrec.explore.answer import Answer
from tfrec.explore.shop import Shop
from tfrec.schema import ITEM_ID

P_PURCHASE, PURCHASE, REVENUE = "p_purchase", "purchase", "revenue"
MIX_SHOWN = 6


def revenue(
    answer: Answer, prices: np.ndarray, weights: Mapping[str, float | None]
) -> tuple[float, str] | None:
    """Expected revenue of showing the list, and how it was found; None where nothing tells.

    Of the first of these that there is: the sum of the output ``p_purchase`` times price, of the
    part ``revenue``, or of the chance in the part ``purchase`` times price. A part of the score
    that carries its weight is divided by it.

    Args:
        answer: the list.
        prices: float64 [item], NaN where unknown; adds nothing.
        weights: of the request by objective; None where it is not known.
    """
    price = np.nan_to_num(prices)
    priced = bool(np.isfinite(prices).any())
    chance = answer.details.get(P_PURCHASE)
    if chance is not None and priced:
        return float(chance @ price), "sum of p_purchase x price"
    weighted = is_weighted(answer)
    for name, factor, how in (
        (REVENUE, None, "sum of the part revenue"),
        (PURCHASE, price, "sum of the part purchase x price"),
    ):
        part, weight = answer.parts.get(name), weights.get(name)
        if part is None or (factor is not None and not priced):
            continue
        if weighted:
            if not weight:  # unknown, or 0: the share tells nothing of the part
                continue
            part = part / weight
        told = f"{how}, over its weight" if weighted else how
        return float(part.sum() if factor is None else part @ factor), told
    return None


def is_weighted(answer: Answer) -> bool:
    """Whether the parts are shares that add up to the score, so carry their weights."""
    if not answer.parts or not len(answer.scores):
        return False
    return bool(np.allclose(sum(answer.parts.values()), answer.scores, rtol=1e-3, atol=1e-6))


def mixing_columns(items: pa.Table) -> list[str]:
    """Item columns by which diversity can be counted: groups of items, and vectors.

    A text column counts where its values are few enough to be groups: a tenth of the items or 100.
    """
    found = []
    for column in items.schema:
        if column.name == ITEM_ID:
            continue
        if column.type == pa.list_(pa.float32()):
            found.append(column.name)
        elif column.type in (pa.string(), pa.list_(pa.string())):
            values = items.column(column.name).combine_chunks()
            flat = values.flatten() if column.type != pa.string() else values
            if 1 < len(flat.drop_null().unique()) <= max(100, items.num_rows // 10):
                found.append(column.name)
    # A taxonomy says more of how mixed a list is than who sells it.
    return sorted(found, key=lambda name: not name.lower().startswith(("categor", "genre")))


def marks(shop: Shop, items: Sequence[str], column: str) -> np.ndarray:
    """The items as vectors by a column, float64 [item, width]; zeros where nothing is known.

    A text or a list of texts becomes one 0/1 column a value, a vector is taken as it is.
    """
    rows = [shop.row(item) for item in items]
    kind = shop.items.schema.field(column).type
    index = pa.array([0 if r is None else r for r in rows], pa.int64())
    values = shop.items.column(column).take(index).to_pylist()
    values = [None if r is None else v for r, v in zip(rows, values, strict=True)]
    if kind == pa.list_(pa.float32()):
        width = max((len(v) for v in values if v), default=0)
        return np.array([v if v and len(v) == width else [0.0] * width for v in values], np.float64)
    groups = [[v] if isinstance(v, str) else v or [] for v in values]
    names = {name: at for at, name in enumerate(sorted({v for g in groups for v in g}))}
    out = np.zeros((len(items), len(names)))
    for row, group in enumerate(groups):
        out[row, [names[v] for v in group]] = 1.0
    return out


def diversity(vectors: np.ndarray) -> float | None:
    """One minus the mean cosine over all pairs of a list (Ziegler 2005); None for under two items.

    Args:
        vectors: float [item, dim]; an item of zeros is like no other.
    """
    n = len(vectors)
    if n < 2:
        return None
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)
    together = (unit.sum(axis=0) ** 2).sum() - (unit**2).sum()
    return float(1.0 - together / (n * (n - 1)))


def mix(shop: Shop, items: Sequence[str], column: str) -> list[tuple[str, int]]:
    """The most frequent values of a text column in a list; none for a column of vectors."""
    if shop.items.schema.field(column).type == pa.list_(pa.float32()):
        return []
    rows = [row for item in items if (row := shop.row(item)) is not None]
    values = shop.items.column(column).take(pa.array(rows, pa.int64())).to_pylist()
    counted = Counter(v for one in values for v in ([one] if isinstance(one, str) else one or []))
    return counted.most_common(MIX_SHOWN)


def measure(
    answer: Answer, shop: Shop, by: str | None, weights: Mapping[str, float | None]
) -> dict[str, Any]:
    """All measures of a list as JSON; those that nothing tells are missing.

    Returns:
        ``revenue`` and ``revenue_how``; ``mean_price``; ``diversity``, ``mix``, ``by``.
    """
    prices = shop.prices(answer.items)
    out: dict[str, Any] = {}
    if (found := revenue(answer, prices, weights)) is not None:
        out["revenue"], out["revenue_how"] = found
    if np.isfinite(prices).any():
        out["mean_price"] = float(np.nanmean(prices))
    if by is not None:
        out["by"] = by
        out["mix"] = mix(shop, answer.items, by)
        if (value := diversity(marks(shop, answer.items, by))) is not None:
            out["diversity"] = value
    return out


def overlap(first: Sequence[str], second: Sequence[str]) -> dict[str, Any]:
    """How two lists agree.

    Returns:
        ``shared``: items in both; ``jaccard``: over the items in either; ``mean_move``: mean
        places by which the shared items differ, None without any.
    """
    place = {item: at for at, item in enumerate(second)}
    moves = [abs(at - place[item]) for at, item in enumerate(first) if item in place]
    either = len(set(first) | set(second))
    return {
        "shared": len(moves),
        "jaccard": len(moves) / either if either else 0.0,
        "mean_move": float(np.mean(moves)) if moves else None,
    }
