"""What an export gets of the data it was trained on: an index measured on its users, a calibration.

Both need the trained model and the encoded data; what they write needs neither.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import RankingConfig
from tfrec.config.index import IndexConfig
from tfrec.data.encoded import RetrievalData
from tfrec.export.index import index_model
from tfrec.export.recommender.assemble import CALIBRATION_FILE
from tfrec.models.base import Recommender
from tfrec.models.dot_product import dot_product
from tfrec.rerank.calibration_error import expected_calibration_error
from tfrec.rerank.calibration_fit import Method, cross_fitted, fit
from tfrec.retrieval.build import IndexReport
from tfrec.training.ranking import EVALUATION_BATCH, EVALUATION_SEED, predict_rows, scorer
from tfrec.training.ranking_rows import RankingRows

BLOCK = 256  # users whose queries are made at a time
FEW = 20  # rows below which a probability cannot be calibrated


def sample_queries(
    model: Recommender, data: RetrievalData, count: int, seed: int = 0
) -> np.ndarray:
    """Queries of users as they stand at the end of training, float32 [<= count, dim].

    Args:
        model: one whose score is an inner product.
        data: its data.
        count: users drawn.
        seed: of the draw.

    Raises:
        ValueError: the model's score is no inner product.
    """
    sides = dot_product(model)
    if sides is None:
        raise ValueError(
            f"retrieval.index.kind 'ivf' needs a model whose score is an inner product, which "
            f"{type(model).__name__} is not; take two_tower, als, mf_*, sasrec, gru4rec or "
            f"item2vec, or kind 'brute_force'"
        )
    users = np.flatnonzero(data.train.user_counts())
    if len(users) > count:
        users = np.sort(np.random.default_rng(seed).choice(users, count, replace=False))
    parts = []
    for at in range(0, len(users), BLOCK):
        told = data.user_inputs(users[at : at + BLOCK], data.train, max(model.history_length, 1))
        parts.append(sides.query({k: tf.constant(v) for k, v in told.items()}).numpy())
    return np.concatenate(parts)


def index_trained(
    model: Recommender, data: RetrievalData, folder: str | Path, config: IndexConfig
) -> IndexReport | None:
    """Puts the configured index into an exported model, in place.

    Args:
        model: trained.
        data: what it was trained on.
        folder: of its SavedModel.
        config: None is returned, and nothing is done, for ``brute_force``.
    """
    if config.kind == "brute_force":
        return None
    samples = sample_queries(model, data, config.sample, config.seed)
    return index_model(folder, folder, config, samples)


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration is worth, on rows that did not fit it (five folds of validation).

    Attributes:
        method: ``platt`` or ``isotonic``.
        rows: of validation.
        before, after: expected calibration error of scores and of probabilities.
    """

    method: str
    rows: int
    before: float
    after: float


def calibrate_trained(
    model: Any,
    data: RetrievalData,
    ranking: RankingConfig,
    method: str,
    folder: str | Path,
) -> CalibrationReport | None:
    """Fits the ranker's probabilities on validation and keeps them beside its export.

    Args:
        model: the trained ranker.
        data: its data.
        ranking: how rows and labels are made.
        method: ``none`` writes nothing, as does a task that is no probability.
        folder: of the ranker's SavedModel; gets ``assets.extra/calibration.json``.
    """
    if method == "none" or ranking.task != "binary" or ranking.objectives:
        return None
    rows = RankingRows(data, "validation", ranking)
    batches = rows.dataset(EVALUATION_BATCH, EVALUATION_SEED, shuffle=False)
    labels, scores = predict_rows(scorer(model, batches), batches)
    if len(labels) < FEW or len(np.unique(labels)) < 2:
        return None
    kind: Method = "platt" if method == "platt" else "isotonic"
    fitted = fit(kind, scores, labels)
    held_out = cross_fitted(kind, scores, labels)
    path = Path(folder) / CALIBRATION_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(fitted.to_dict()) + "\n")
    return CalibrationReport(
        kind,
        len(labels),
        float(expected_calibration_error(np.clip(scores, 0, 1), labels)),
        float(expected_calibration_error(held_out, labels)),
    )
