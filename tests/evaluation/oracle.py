"""The metrics once more, slow and obvious: one user, one rank, one pair at a time."""

from __future__ import annotations

import math

import numpy as np


def ranking(scores: np.ndarray, banned: set[int]) -> list[int]:
    """All allowed item indices, best first, equal scores by lower index."""
    items = [i for i in range(1, len(scores) + 1) if i not in banned]
    return sorted(items, key=lambda i: (-scores[i - 1], i))


def user_metrics(
    recommended: list[int], held: set[int], candidates: int, k: int
) -> dict[str, float]:
    """Every metric of one list at one cut-off."""
    top = recommended[:k]
    hit_ranks = [r for r, item in enumerate(top, 1) if item in held]
    dcg = sum(1 / math.log2(r + 1) for r in hit_ranks)
    ideal = sum(1 / math.log2(r + 1) for r in range(1, min(len(held), k) + 1))
    precision_at = [sum(h <= r for h in hit_ranks) / r for r in hit_ranks]
    return {
        "recall": len(hit_ranks) / len(held),
        "precision": len(hit_ranks) / k,
        "hr": 1.0 if hit_ranks else 0.0,
        "ndcg": dcg / ideal,
        "map": sum(precision_at) / min(len(held), k),
        "mrr": 1 / hit_ranks[0] if hit_ranks else 0.0,
        "auc": limited_auc(top, held, candidates),
    }


def limited_auc(top: list[int], held: set[int], candidates: int) -> float:
    """Pairs in the right order; what lies beyond the list is tied with itself (counts half)."""
    negatives = candidates - len(held)
    if negatives == 0:
        return 0.5
    positives_found = [r for r, item in enumerate(top) if item in held]
    negatives_found = [r for r, item in enumerate(top) if item not in held]
    beyond_positives = len(held) - len(positives_found)
    beyond_negatives = negatives - len(negatives_found)
    right = sum(p < n for p in positives_found for n in negatives_found)
    right += len(positives_found) * beyond_negatives
    return (right + 0.5 * beyond_positives * beyond_negatives) / (len(held) * negatives)


def auc(scores: np.ndarray, positives: list[int], negatives: list[int]) -> float:
    """Share of rightly ordered pairs, ties half."""
    total = 0.0
    for p in positives:
        for n in negatives:
            a, b = scores[p - 1], scores[n - 1]
            total += 1.0 if a > b else 0.5 if a == b else 0.0
    return total / (len(positives) * len(negatives))
