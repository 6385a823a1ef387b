"""Calibrates a trained ranker's heads on validation, and keeps beside its export what was found.

``assets.extra/calibration.json`` holds a calibration of each probability, a scale of each expected
spend, and how the negatives were sampled; see ``tfrec.rerank.calibration_heads``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfrec.config import RankingConfig
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.objectives import calibration_ratio
from tfrec.rerank.calibration_error import expected_calibration_error
from tfrec.rerank.calibration_fit import Method, cross_fitted, fit
from tfrec.rerank.calibration_heads import (
    SCORE,
    HeadCalibrations,
    Sampling,
    heads_from_dict,
)
from tfrec.rerank.calibration_probability import Calibration, Scale
from tfrec.training.ranking import EVALUATION_BATCH, EVALUATION_SEED, predict_rows, scorer
from tfrec.training.ranking_rows import RankingRows

CALIBRATION_FILE = Path("assets.extra") / "calibration.json"  # beside an exported ranker
FEW = 20  # rows below which nothing is calibrated
FOLDS = 5


@dataclass(frozen=True)
class HeadReport:
    """What one head's calibration is worth, on rows that did not fit it (five folds).

    Attributes:
        rows: labelled ones of validation.
        measure: ``ece``, the expected calibration error of a probability (best 0), or ``ratio``,
            sum of the predicted over sum of the true spends (best 1).
        before, after: of the scores as they are and calibrated.
    """

    rows: int
    measure: Literal["ece", "ratio"]
    before: float
    after: float


@dataclass(frozen=True)
class CalibrationReport:
    """What was found.

    Attributes:
        method: of the probabilities: ``platt``, ``isotonic`` or ``none``.
        heads: those that were calibrated; ``score`` is the one head of a ranker of one task.
        kept: share of the unobserved pairs that were rows.
    """

    method: str
    heads: dict[str, HeadReport]
    kept: float

    def line(self) -> str:
        """For people."""
        found = [
            f"{name} {h.measure} {h.before:.4f} -> {h.after:.4f} ({h.rows:,} rows)"
            for name, h in self.heads.items()
        ]
        kept = f"{self.kept:.3g} of the negatives sampled" if self.kept < 1 else "no sampling"
        return f"calibration: {', '.join(found) or 'none'}; {kept}"


def calibrate_trained(
    model: Any,
    data: RetrievalData,
    ranking: RankingConfig,
    method: str,
    folder: str | Path,
) -> CalibrationReport | None:
    """Fits every probability and every expected spend on validation.

    Heads with fewer than 20 labelled rows, or with labels all alike, are left as they are. The
    sampling rate is that of the rows on which the chances are true: validation's where they were
    calibrated, else training's.

    Args:
        model: the trained ranker.
        data: its data.
        ranking: how rows and labels are made.
        method: of the probabilities; ``none`` calibrates nothing and keeps the sampling rate alone.
        folder: of the ranker's SavedModel; gets ``assets.extra/calibration.json``.

    Returns:
        None, and nothing is written, for a ranker that predicts a rating alone.
    """
    kinds = kinds_of(ranking)
    if set(kinds.values()) <= {"rating"}:
        return None
    calibrations: dict[str, Calibration] = {}
    reports: dict[str, HeadReport] = {}
    train = RankingRows(data, "train", ranking)
    kept = train.negatives_kept
    if method != "none" and len(data.validation):
        kind: Method = "platt" if method == "platt" else "isotonic"
        rows = RankingRows(data, "validation", ranking)
        batches = rows.dataset(EVALUATION_BATCH, EVALUATION_SEED, shuffle=False)
        labels, scores = predict_rows(scorer(model, batches), batches)
        labels, scores = (v.reshape(len(v), -1).astype(np.float64) for v in (labels, scores))
        for at, (name, what) in enumerate(kinds.items()):
            known = np.isfinite(labels[:, at])
            fitted = _fitted(what, kind, scores[known, at], labels[known, at])
            if fitted is not None:
                calibrations[name], reports[name] = fitted
        kept = rows.negatives_kept if calibrations else kept
    found = HeadCalibrations(calibrations, _sampling(kept, train, kinds))
    path = Path(folder) / CALIBRATION_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found.to_dict()) + "\n")
    return CalibrationReport(method, reports, kept)


def calibrations_of(ranking: str | Path) -> HeadCalibrations:
    """What is kept beside an exported ranker; nothing is known where there is no such file."""
    path = Path(ranking) / CALIBRATION_FILE
    return heads_from_dict(json.loads(path.read_text())) if path.is_file() else HeadCalibrations()


def kinds_of(ranking: RankingConfig) -> dict[str, str]:
    """``binary``, ``rating`` or ``spend`` by head, in the order of the labels."""
    if not ranking.objectives:
        return {SCORE: ranking.task}
    return {name: o.kind_of(name) for name, o in ranking.objectives.items()}


def _fitted(
    kind: str, method: Method, score: np.ndarray, label: np.ndarray
) -> tuple[Calibration, HeadReport] | None:
    if kind == "rating" or len(label) < FEW or len(np.unique(label)) < 2:
        return None
    if kind == "binary":
        before = expected_calibration_error(np.clip(score, 0, 1), label)
        after = expected_calibration_error(cross_fitted(method, score, label, FOLDS), label)
        report = HeadReport(len(label), "ece", float(before), float(after))
        return fit(method, score, label), report
    if not score.sum() > 0:
        return None
    after = calibration_ratio(label, _cross_scaled(score, label))
    report = HeadReport(len(label), "ratio", calibration_ratio(label, score), after)
    return Scale(float(label.sum() / score.sum())), report


def _cross_scaled(score: np.ndarray, label: np.ndarray, seed: int = 0) -> np.ndarray:
    """Spends scaled by the factor of the other folds."""
    fold = np.random.default_rng(seed).permutation(len(score)) % FOLDS
    factors = [label[fold != f].sum() / score[fold != f].sum() for f in range(FOLDS)]
    return score * np.array(factors)[fold]


def _sampling(kept: float, rows: RankingRows, kinds: dict[str, str]) -> Sampling | None:
    """Told by the binary head that most observed events have; None where there is no such head."""
    labels = rows.labels.reshape(len(rows.labels), -1)
    shares = {
        name: float(np.nanmean(labels[:, at]))
        for at, (name, kind) in enumerate(kinds.items())
        if kind == "binary"
    }
    if not shares:
        return None
    name = max(shares, key=lambda n: shares[n])
    return Sampling(kept, name, shares[name]) if shares[name] > 0 else None
