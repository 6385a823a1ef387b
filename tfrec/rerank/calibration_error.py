"""How far predicted probabilities are from frequencies."""

from __future__ import annotations

import numpy as np


def expected_calibration_error(
    probability: np.ndarray, label: np.ndarray, bins: int = 15, equal_mass: bool = True
) -> float:
    """ECE: mean over rows of |mean label - mean probability| of the row's bin.

    Args:
        probability: float [row], in 0..1.
        label: [row], 0 or 1.
        bins: how many.
        equal_mass: bins of as many rows each, by ascending probability (Nixon et al. 2019), as
            recommenders' probabilities crowd near 0; False: bins of equal width (Guo et al. 2017).

    Returns:
        In 0..1.

    Raises:
        ValueError: no rows, lengths that differ, a probability outside 0..1, or bins below 1.
    """
    probability = np.asarray(probability, np.float64)
    label = np.asarray(label, np.float64)
    if probability.ndim != 1 or probability.shape != label.shape or not len(label):
        raise ValueError(
            f"probability and label are [row], one or more rows; got {probability.shape} and "
            f"{label.shape}"
        )
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError(
            f"probabilities are in 0..1; got {probability.min()} to {probability.max()}; calibrate "
            f"scores first"
        )
    if bins < 1:
        raise ValueError(f"bins is at least 1; got {bins}")
    if equal_mass:
        order = np.argsort(probability, kind="stable")
        which = np.empty(len(label), np.int64)
        which[order] = np.arange(len(label)) * bins // len(label)
    else:
        which = np.minimum((probability * bins).astype(np.int64), bins - 1)
    gap = np.bincount(which, weights=label - probability, minlength=bins)
    return float(np.abs(gap).sum() / len(label))
