"""Fits a calibration on validation rows, and says what it is worth.

Platt needs some hundred rows and keeps the order of items. Isotonic follows any shape, needs
some thousand, and may make neighbours equal.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import tensorflow as tf
from scipy.optimize import isotonic_regression
from scipy.special import expit

from tfrec.rerank.calibration_error import expected_calibration_error
from tfrec.rerank.calibration_probability import TINY, Calibration, Isotonic, Platt

Method = Literal["platt", "isotonic"]
KNOTS = 200


def _checked(score: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    score, label = np.asarray(score, np.float64), np.asarray(label, np.float64)
    if score.ndim != 1 or score.shape != label.shape or len(score) < 2:
        raise ValueError(
            f"score and label are [row], two rows at least; got {score.shape} and {label.shape}"
        )
    if not np.isfinite(score).all():
        raise ValueError(f"scores are finite; got {int((~np.isfinite(score)).sum())} that are not")
    if not np.isin(label, (0.0, 1.0)).all():
        raise ValueError(f"labels are 0 or 1; got {np.unique(label)[:5]}; cut ratings first")
    return score, label


def fit_platt(score: np.ndarray, label: np.ndarray) -> Platt:
    """The line of least log loss, by Newton's method.

    Args:
        score: float [row]; probabilities, or, where any is outside 0..1, logits.
        label: [row], 0 or 1.

    Raises:
        ValueError: see ``fit``.
    """
    score, label = _checked(score, label)
    logits = bool((score < 0).any() or (score > 1).any())
    x = score
    if not logits:
        cut = np.clip(score, TINY, 1 - TINY)
        x = np.log(cut) - np.log1p(-cut)
    positives = label.sum()
    negatives = len(label) - positives
    # Platt's targets: a class seen n times is never more certain than (n + 1) / (n + 2).
    target = np.where(label > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.stack([x, np.ones_like(x)], axis=1)
    line = np.array([0.0, np.log((positives + 1) / (negatives + 1))])

    def loss(line: np.ndarray) -> float:
        z = design @ line
        return float((np.logaddexp(0.0, z) - target * z).mean())

    value = loss(line)
    for _ in range(100):
        p = expit(design @ line)
        gradient = design.T @ (p - target) / len(x)
        curvature = (design * (p * (1 - p))[:, None]).T @ design / len(x)
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
        size = 1.0
        while size > 1e-8 and loss(line - size * step) > value:
            size /= 2
        line, before = line - size * step, value
        value = loss(line)
        if before - value < 1e-13:
            break
    return Platt(float(line[0]), float(line[1]), logits)


def fit_isotonic(score: np.ndarray, label: np.ndarray, knots: int = KNOTS) -> Isotonic:
    """The rising curve of least squares.

    Rows of equal score are one; where there are more than ``knots`` scores, neighbours are first
    put together to ``knots`` groups of about as many rows.

    Raises:
        ValueError: see ``fit``.
    """
    score, label = _checked(score, label)
    x, inverse, count = np.unique(score.astype(np.float32), return_inverse=True, return_counts=True)
    hits = np.bincount(inverse, weights=label)
    total = x.astype(np.float64) * count
    if len(x) > knots:
        group = np.minimum((np.cumsum(count) - 1) * knots // len(score), knots - 1)
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        count, hits, total = (np.add.reduceat(v, starts) for v in (count, hits, total))
    x = (total / count).astype(np.float32)
    y = isotonic_regression(hits / count, weights=count).x
    # Within a level stretch only its ends are needed.
    same = y[1:] == y[:-1]
    inner = np.r_[False, same] & np.r_[same, False]
    distinct = np.r_[True, x[1:] > x[:-1]] & ~inner
    return Isotonic(tuple(x[distinct].tolist()), tuple(np.clip(y, 0, 1)[distinct].tolist()))


def fit(method: Method, score: np.ndarray, label: np.ndarray) -> Calibration:
    """Fits a calibration on rows the ranker was not trained on.

    Args:
        method: ``platt`` or ``isotonic``.
        score: float [row], as the ranker gives them.
        label: [row], 0 or 1.

    Raises:
        ValueError: no such method, lengths that differ, scores that are not finite, other labels.
    """
    if method not in ("platt", "isotonic"):
        raise ValueError(f"method is 'platt' or 'isotonic'; got {method!r}")
    return fit_platt(score, label) if method == "platt" else fit_isotonic(score, label)


def cross_fitted(
    method: Method, score: np.ndarray, label: np.ndarray, folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Probabilities of rows by calibrations that did not see them, float64 [row].

    What a calibration is worth is measured on these: on its own rows it flatters itself.

    Raises:
        ValueError: see ``fit``; fewer rows than two a fold, or fewer than two folds.
    """
    score, label = _checked(score, label)
    if not 2 <= folds <= len(score) // 2:
        raise ValueError(f"folds are from 2 to rows / 2, here {len(score) // 2}; got {folds}")
    fold = np.random.default_rng(seed).permutation(len(score)) % folds
    out = np.empty(len(score))
    for each in range(folds):
        fitted = fit(method, score[fold != each], label[fold != each])
        out[fold == each] = fitted(tf.constant(score[fold == each], tf.float32)).numpy()
    return out


def error_before_after(
    method: Method, score: np.ndarray, label: np.ndarray, bins: int = 15, seed: int = 0
) -> tuple[float, float]:
    """ECE of the scores as they are and after calibration, the latter on rows held out.

    Scores that are no probabilities (outside 0..1) are taken as logits for the first.
    """
    score, label = _checked(score, label)
    raw = score if ((score >= 0) & (score <= 1)).all() else expit(score)
    after = cross_fitted(method, score, label, seed=seed)
    return (
        expected_calibration_error(raw, label, bins),
        expected_calibration_error(after, label, bins),
    )
