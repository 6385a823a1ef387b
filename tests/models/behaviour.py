"""What every retrieval model must do; ``test_behaviour.py`` runs it on the whole registry.

A new model joins by its registry line. Where its example is too large or too slow for twenty users,
it adds a line to ``SMALL``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

from tests.builders import checkerboard
from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.models import registry
from tfrec.schema import HISTORY, USER_ID
from tfrec.training.fit import fit_retrieval

USUAL = TrainConfig(epochs=30, batch_size=32, learning_rate=0.05, patience=0)
PAIRS = TrainConfig(epochs=15, batch_size=100, learning_rate=0.05, patience=0)
WINDOWS = TrainConfig(epochs=12, batch_size=10, learning_rate=0.02, patience=0)
EVENTS = TrainConfig(epochs=25, batch_size=20, learning_rate=0.05, patience=0)
CLOSED = TrainConfig()

# Parameters and training for the checkerboard.
SMALL: dict[str, tuple[dict[str, Any], TrainConfig]] = {
    "popular": ({}, CLOSED),
    "item_knn": ({"neighbours": 8, "shrinkage": 1.0}, CLOSED),
    "ease": ({"l2": 1.0}, CLOSED),
    "als": ({"dim": 4, "sweeps": 8}, CLOSED),
    "mf_logistic": ({"dim": 8, "negatives": 4, "l2": 0.01}, USUAL),
    "mf_bpr": ({"dim": 8, "negatives": 4, "l2": 0.01}, USUAL),
    "vbpr": ({"dim": 8, "negatives": 4, "l2": 0.01}, USUAL),
    "gmf": ({"factors": 2, "l2": 0.01, "history_length": 8}, PAIRS),
    "mlp": ({"factors": 4, "layers": 2, "l2": 0.01, "history_length": 8}, PAIRS),
    "sasrec": ({"dim": 8, "history_length": 8, "dropout": 0.0}, WINDOWS),
    "gru4rec": ({"dim": 8, "history_length": 8, "dropout": 0.0}, WINDOWS),
    "item2vec": ({"dim": 4, "window": 4, "negatives": 4, "match": "similar"}, EVENTS),
    "neumf": (
        {"factors": 4, "layers": 2, "l2": 0.01, "pretrain_epochs": 12, "history_length": 8},
        PAIRS.model_copy(update={"epochs": 2}),
    ),
}

# Gives everybody the same list, so no personal pattern can be learned.
IMPERSONAL = {"popular"}


def retrieval_names() -> list[str]:
    """Every retrieval model of the registry."""
    return [name for name, spec in registry.MODELS.items() if spec.kind == "retrieval"]


def setting(name: str) -> tuple[dict[str, Any], TrainConfig]:
    """Parameters and training of a model here."""
    return SMALL.get(name, (registry.spec(name).example, USUAL))


@cache
def board() -> RetrievalData:
    """The checkerboard all models learn."""
    return checkerboard(20)


@cache
def fitted(name: str) -> Any:
    """The model trained on the checkerboard; once a session."""
    params, train = setting(name)
    return fit_retrieval(name, params, train, board(), evaluate_every=1000).model


def inputs(
    model: Any, users: np.ndarray | list[int], data: RetrievalData | None = None
) -> dict[str, tf.Tensor]:
    """What the model is told about users when train and validation have happened."""
    data = data or board()
    known = data.train.join(data.validation)
    told = data.user_inputs(np.asarray(users), known, model.history_length)
    return {key: tf.constant(value) for key, value in told.items()}


def stranger(model: Any, history: list[int], data: RetrievalData | None = None) -> dict[str, Any]:
    """Inputs of one unknown user with this history."""
    data = data or board()
    told = inputs(model, [data.n_users + 1], data)
    width = told[HISTORY].shape[1]
    recent = history[-width:] if width else []
    row = np.zeros((1, width), np.int64)
    row[0, : len(recent)] = recent
    return {**told, USER_ID: tf.constant([data.n_users + 1], tf.int64), HISTORY: tf.constant(row)}
