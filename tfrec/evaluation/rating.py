"""Metrics of predicted ratings."""

from __future__ import annotations

import numpy as np


def _pair(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if truth.shape != predicted.shape or truth.ndim != 1 or not len(truth):
        raise ValueError(
            f"truth and predictions are one number a row, [n] with n >= 1; got {truth.shape} and "
            f"{predicted.shape}"
        )
    if not (np.isfinite(truth).all() and np.isfinite(predicted).all()):
        raise ValueError("ratings and predictions are finite numbers; got NaN or infinity")
    return truth, predicted


def rmse(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Root of the mean squared error; both float [n], in stars.

    Raises:
        ValueError: shapes that differ, no rows, or a number that is not finite.
    """
    truth, predicted = _pair(truth, predicted)
    return float(np.sqrt(np.mean((truth - predicted) ** 2)))


def mae(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error; see ``rmse``."""
    truth, predicted = _pair(truth, predicted)
    return float(np.mean(np.abs(truth - predicted)))
