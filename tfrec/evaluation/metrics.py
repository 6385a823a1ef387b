"""Ranking metrics of many lists at once.

All of them read one bool matrix ``hits`` [batch, k]: True where the item at that rank is relevant
(held out). No loop over users or ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

METRICS = ("recall", "precision", "hr", "ndcg", "map", "mrr", "auc")


def parse_metric(metric: str) -> tuple[str, int]:
    """Splits ``'ndcg@10'`` into ``('ndcg', 10)``.

    Raises:
        ValueError: not of the form name@k, or no such name.
    """
    name, _, k = metric.partition("@")
    if name not in METRICS or not k.isdigit() or int(k) < 1:
        raise ValueError(
            f"a metric is one of {list(METRICS)}, '@' and a cut-off from 1; got {metric!r}; "
            f"write e.g. 'ndcg@10'"
        )
    return name, int(k)


def check_cutoffs(ks: Sequence[int]) -> tuple[int, ...]:
    """The cut-offs, ascending and each once.

    Raises:
        ValueError: none given, or one below 1.
    """
    out = tuple(sorted({int(k) for k in ks}))
    if not out or out[0] < 1:
        raise ValueError(f"cut-offs are whole numbers from 1; got {tuple(ks)}; pass e.g. (10, 100)")
    return out


def list_metrics(
    hits: np.ndarray,
    relevant: np.ndarray,
    candidates: np.ndarray,
    ks: Sequence[int],
) -> dict[str, np.ndarray]:
    """Every metric at every cut-off, for each list by itself.

    With ``h_r`` the hit at rank ``r`` and ``R`` the number of relevant items:

    - ``recall@k`` = sum h_r / R; ``precision@k`` = sum h_r / k; ``hr@k`` = 1 if any hit
    - ``ndcg@k`` = sum h_r / log2(r + 1), over its largest value (min(R, k) hits in front)
    - ``map@k`` = sum h_r precision@r / min(R, k)
    - ``mrr@k`` = 1 / rank of the first hit, 0 without one
    - ``auc@k`` = area under the ROC curve that follows the list for k ranks and then goes straight
      to (1, 1), as if the unseen remainder were in random order (1 needs all R within the list)

    Args:
        hits: bool [batch, K], K at least the largest cut-off; ranks beyond a short list are False.
        relevant: int [batch], R, held-out items of each user, from 1.
        candidates: int [batch], items that could have been recommended (relevant ones included).
        ks: cut-offs.

    Returns:
        ``'<metric>@<k>'`` -> float64 [batch].

    Raises:
        ValueError: shapes that do not fit, or a user without relevant items.
    """
    ks = check_cutoffs(ks)
    hits = np.asarray(hits, bool)
    relevant = np.asarray(relevant, np.int64)
    candidates = np.asarray(candidates, np.int64)
    if hits.ndim != 2 or hits.shape[1] < ks[-1]:
        raise ValueError(
            f"hits are [batch, K] with K >= {ks[-1]}, the largest cut-off; got {hits.shape}; "
            f"ask for longer lists or for smaller cut-offs"
        )
    if relevant.shape != hits.shape[:1] or candidates.shape != hits.shape[:1]:
        raise ValueError(
            f"relevant and candidates hold one number a list, shape {hits.shape[:1]}; "
            f"got {relevant.shape} and {candidates.shape}"
        )
    if len(relevant) and relevant.min() < 1:
        raise ValueError("a user without held-out items has no metric; leave such users out")
    top = ks[-1]
    at = np.arange(1, top + 1)
    found = hits[:, :top].astype(np.float64)
    discount = 1.0 / np.log2(at + 1.0)
    ideal = np.cumsum(discount)
    total = np.cumsum(found, axis=1)  # hits up to and with each rank
    dcg = np.cumsum(found * discount, axis=1)
    precision_sum = np.cumsum(found * total / at, axis=1)
    misses_after_hits = np.cumsum((1.0 - found) * total, axis=1)
    first = np.where(found.any(axis=1), found.argmax(axis=1) + 1, top + 1)
    negatives = (candidates - relevant).astype(np.float64)

    out: dict[str, np.ndarray] = {}
    for k in ks:
        count = total[:, k - 1]
        reachable = np.minimum(relevant, k)
        out[f"recall@{k}"] = count / relevant
        out[f"precision@{k}"] = count / k
        out[f"hr@{k}"] = (count > 0).astype(np.float64)
        out[f"ndcg@{k}"] = dcg[:, k - 1] / ideal[reachable - 1]
        out[f"map@{k}"] = precision_sum[:, k - 1] / reachable
        out[f"mrr@{k}"] = np.where(first <= k, 1.0 / first, 0.0)
        out[f"auc@{k}"] = _limited_auc(count, misses_after_hits[:, k - 1], relevant, negatives, k)
    return out


def _limited_auc(
    count: np.ndarray,
    area: np.ndarray,
    relevant: np.ndarray,
    negatives: np.ndarray,
    k: int,
) -> np.ndarray:
    """ROC area of lists cut at ``k``; .5 where there is nothing to rank against.

    ``area`` [batch] counts, over the misses in the list, the hits before each. Where k exceeds the
    candidates, the ranks behind them were counted as misses too and are taken off again.
    """
    misses = k - count
    surplus = np.maximum(misses - negatives, 0.0)
    rest = np.maximum(negatives - misses, 0.0)
    area = area - surplus * count + rest * (count + relevant) / 2.0
    return np.where(negatives > 0, area / np.maximum(relevant * negatives, 1.0), 0.5)
