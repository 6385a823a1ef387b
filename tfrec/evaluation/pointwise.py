"""Measures of predicted probabilities and ratings, row by row."""

from __future__ import annotations

import numpy as np

EPSILON = 1e-7  # probabilities are clipped to [EPSILON, 1 - EPSILON] in the log loss


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive outscores a negative, ties count half.

    Exact, by ranks (Mann-Whitney): ``(sum of the positives' ranks - p (p + 1) / 2) / (p n)``.

    Args:
        label: [row], positive above 0.5.
        score: float [row].

    Returns:
        In 0..1; NaN where only one class is there.
    """
    positive = np.asarray(label) > 0.5
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = last - (counts - 1) / 2.0
    total = rank[inverse][positive].sum()
    return float((total - n_positive * (n_positive + 1) / 2.0) / (n_positive * n_negative))


def binary_metrics(label: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """``auc``, ``log_loss`` (nats a row) and ``accuracy`` (cut at .5) of probabilities [row]."""
    label = np.asarray(label, np.float64)
    p = np.clip(np.asarray(score, np.float64), EPSILON, 1 - EPSILON)
    loss = -(label * np.log(p) + (1 - label) * np.log1p(-p))
    return {
        "auc": auc(label, score),
        "log_loss": float(loss.mean()),
        "accuracy": float(((p > 0.5) == (label > 0.5)).mean()),
    }


def rating_metrics(label: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """``rmse`` and ``mae`` of predicted ratings [row], in units of the rating."""
    error = np.asarray(score, np.float64) - np.asarray(label, np.float64)
    return {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.abs(error).mean())}
