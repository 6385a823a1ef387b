"""Beyond accuracy: what the lists are like as a whole."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.protocol import blocks
from tfrec.evaluation.result import Evaluation


def _counts(lists: np.ndarray, n_items: int) -> np.ndarray:
    """How often each item is recommended, int64 [n_items]."""
    return np.bincount(lists.ravel(), minlength=n_items + 1)[1:]


def coverage(lists: np.ndarray, n_items: int) -> float:
    """Share of the catalogue that is recommended to anybody.

    Args:
        lists: int [n, k] item indices, 0 behind a short list.
        n_items: size of the catalogue.
    """
    return float((_counts(lists, n_items) > 0).mean())


def gini(lists: np.ndarray, n_items: int) -> float:
    """Inequality of exposure: 0 where every item is shown as often, near 1 where few take all.

    Args:
        lists: int [n, k] item indices, 0 behind a short list.
        n_items: size of the catalogue; items never shown count.
    """
    shown = np.sort(_counts(lists, n_items)).astype(np.float64)
    if shown.sum() == 0:
        return 0.0
    weight = 2 * np.arange(1, n_items + 1) - n_items - 1
    return float((weight * shown).sum() / (n_items * shown.sum()))


def popularity(lists: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """How popular the recommended items are.

    Args:
        lists: int [n, k] item indices, 0 behind a short list.
        counts: int [n_items + 1], training events of each item.

    Returns:
        Means of each list, float64 [n]: ``arp``, the average recommendation popularity in events
        (Yin 2012); ``popularity_rank``, rank among all items over n_items (0 most, 1 least
        popular; equal counts share the middle of their ranks); ``novelty``, -log2 of the item's
        share of the events, with one event added to each item (Zhou 2010). NaN for an empty list.
    """
    counts = np.asarray(counts, np.float64)
    n_items = len(counts) - 1
    ordered = np.sort(-counts[1:])
    above = np.searchsorted(ordered, -counts, "left")
    below = np.searchsorted(ordered, -counts, "right")
    rank = (above + below) / (2.0 * n_items)
    share = (counts + 1) / (counts[1:] + 1).sum()
    inside = lists > 0
    length = inside.sum(axis=1)

    def mean(values: np.ndarray) -> np.ndarray:
        total = (values[lists] * inside).sum(axis=1)
        return np.where(length > 0, total / np.maximum(length, 1), np.nan)

    return {"arp": mean(counts), "popularity_rank": mean(rank), "novelty": mean(-np.log2(share))}


def intra_list_diversity(lists: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """One minus the mean cosine of all pairs in a list (Ziegler 2005), float64 [n].

    The sum over pairs follows from the norm of the summed unit vectors, so that no pair is formed.
    NaN for a list of fewer than two items.

    Args:
        lists: int [n, k] item indices, 0 behind a short list.
        vectors: float [n_items + 1, dim], row 0 is padding; an item of zeros is like no other.
    """
    vectors = np.asarray(vectors, np.float64)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)
    unit[0] = 0.0
    own = (unit**2).sum(axis=1)
    out = np.full(len(lists), np.nan)
    rows = max(1, (32 << 20) // (8 * max(1, lists.shape[1] * unit.shape[1])))
    for start, stop in blocks(len(lists), rows):
        part = lists[start:stop]
        length = (part > 0).sum(axis=1)
        pairs = length * (length - 1)
        together = (unit[part].sum(axis=1) ** 2).sum(axis=1) - own[part].sum(axis=1)
        out[start:stop] = np.where(pairs > 0, 1.0 - together / np.maximum(pairs, 1), np.nan)
    return out


def feature_vectors(data: RetrievalData) -> np.ndarray | None:
    """Items by their features: one-hot groups and numbers side by side.

    Each categorical or multi-valued feature becomes its marks scaled to length one, each embedding
    its unit vector; ids, texts and numbers are left out.

    Returns:
        float32 [n_items + 1, width], or None where items have no such feature.
    """
    rows = data.n_items + 1
    parts = []
    for feature in data.features.of("item", ids=False):
        values = data.items.get(feature.name)
        if values is None or feature.kind not in ("categorical", "multi", "embedding"):
            continue
        if feature.kind == "embedding":
            part = np.asarray(values[:rows], np.float32)
        else:
            index = values[:rows].reshape(rows, -1)
            part = np.zeros((rows, data.sizes[feature.name]), np.float32)
            part[np.arange(rows)[:, None], index] = 1.0
            part[:, 0] = 0.0  # padding and missing values
        norm = np.linalg.norm(part, axis=1, keepdims=True)
        parts.append(np.divide(part, norm, out=np.zeros_like(part), where=norm > 0))
    return np.concatenate(parts, axis=1) if parts else None


class Beyond:
    """Figures of the first ``k`` ranks of an evaluation's lists, for ``evaluate(beyond=...)``.

    Args:
        data: its training events say what is popular, its item features what is alike.
        k: ranks looked at.
        vectors: float [n_items + 1, dim] by which diversity is measured (row 0 padding); None
            takes ``feature_vectors(data)``, and leaves diversity out where there are none.

    Calling it gives ``coverage@k``, ``gini@k``, ``arp@k``, ``popularity_rank@k``, ``novelty@k`` and
    ``diversity@k``.

    Raises:
        ValueError: vectors whose rows are not the catalogue, or lists shorter than k.
    """

    def __init__(self, data: RetrievalData, k: int = 10, vectors: np.ndarray | None = None) -> None:
        if vectors is not None and len(vectors) != data.n_items + 1:
            raise ValueError(
                f"vectors have one row an item and one for padding, {data.n_items + 1} in all; "
                f"got {len(vectors)}"
            )
        self.k = k
        self.n_items = data.n_items
        self.counts = data.train.item_counts()
        self.vectors = feature_vectors(data) if vectors is None else vectors

    def __call__(self, evaluation: Evaluation) -> Mapping[str, float]:
        if evaluation.lists.shape[1] < self.k:
            raise ValueError(
                f"lists have {evaluation.lists.shape[1]} ranks, Beyond looks at {self.k}; pass a "
                f"larger cut-off to evaluate or a smaller k"
            )
        lists = evaluation.lists[:, : self.k]
        out = {"coverage": coverage(lists, self.n_items), "gini": gini(lists, self.n_items)}
        values = popularity(lists, self.counts)
        if self.vectors is not None:
            values["diversity"] = intra_list_diversity(lists, self.vectors)
        for name, each in values.items():
            known = each[np.isfinite(each)]
            out[name] = float(known.mean()) if len(known) else float("nan")
        return {f"{name}@{self.k}": value for name, value in out.items()}
