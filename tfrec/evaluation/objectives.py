"""Measures of a multi-task ranker, objective by objective."""

from __future__ import annotations

import numpy as np

from tfrec.config.objectives import Objectives, primary_of
from tfrec.evaluation.pointwise import binary_metrics, rating_metrics

BINS = 10  # of the expected calibration error


def calibration_ratio(label: np.ndarray, predicted: np.ndarray) -> float:
    """Sum of the predictions over the sum of the labels, 1 where they agree; NaN without labels."""
    total = float(np.sum(label, dtype=np.float64))
    return float(np.sum(predicted, dtype=np.float64)) / total if total else float("nan")


def calibration_error(label: np.ndarray, predicted: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (Naeini, Cooper & Hauskrecht 2015) over bins of equal size.

    Args:
        label: float [row].
        predicted: float [row], in the label's unit.
        bins: rows sorted by the prediction are cut into so many equal parts.

    Returns:
        Mean over the rows of |mean label - mean prediction| of their bin.
    """
    order = np.argsort(predicted, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [abs(float(label[p].mean()) - float(predicted[p].mean())) * len(p) for p in parts]
    return float(sum(gaps) / len(order))


def objective_metrics(
    objectives: Objectives, primary: str | None, label: np.ndarray, predicted: np.ndarray
) -> dict[str, float]:
    """Figures of all objectives.

    Args:
        objectives: by name.
        primary: whose figures stand without a name, too; None: the first.
        label: float [row, objective], NaN where a row has none.
        predicted: float [row, objective].

    Returns:
        ``auc``, ``log_loss``, ``accuracy`` (or ``rmse``, ``mae``) of the primary; and of each
        objective ``<name>/auc``, ``/log_loss``, ``/ece`` (binary), ``/rmse``, ``/mae`` (rating,
        spend), ``/calibration`` (predicted over observed, all kinds) and ``/rows``, the labelled
        ones. Objectives without any labelled row have ``/rows`` 0 alone.
    """
    out: dict[str, float] = {}
    first = primary_of(objectives, primary)
    for at, (name, objective) in enumerate(objectives.items()):
        known = np.isfinite(label[:, at])
        y, p = label[known, at].astype(np.float64), predicted[known, at].astype(np.float64)
        out[f"{name}/rows"] = float(known.sum())
        if not known.any():
            continue
        binary = objective.kind_of(name) == "binary"
        figures = binary_metrics(y, p) if binary else rating_metrics(y, p)
        if name == first:
            out = {**figures, **out}
        figures.pop("accuracy", None)
        figures["calibration"] = calibration_ratio(y, p)
        if binary:
            figures["ece"] = calibration_error(y, p)
        out |= {f"{name}/{metric}": value for metric, value in figures.items()}
    return out
