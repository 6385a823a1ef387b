"""Predicted ratings of a held-out split, told only what was known before it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.evaluation.pointwise import rating_metrics

USERS = 256  # users at a time
PAIRS = 8192  # pairs at a time


class RatingPredictor:
    """Predicts ratings of pairs; may be called again as the model learns, one trace serves all.

    Args:
        model: a ``RatingRecommender``.
        data: supplies the inputs of users.
        known: the events that may be seen.
    """

    def __init__(self, model: Any, data: RetrievalData, known: Interactions) -> None:
        self.model, self.data, self.known = model, data, known
        length = int(model.history_length)
        self.length = length
        example = data.user_inputs(np.zeros(1, np.int32), known, length)
        spec = {n: tf.TensorSpec((None, *v.shape[1:]), v.dtype) for n, v in example.items()}
        pairs = tf.TensorSpec([None], tf.int64)
        self._predict = tf.function(
            lambda users, at, items: model.clip(model.score_pairs(users, at, items)),
            input_signature=[spec, pairs, pairs],
            autograph=False,
        )

    def __call__(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Ratings within the scale, float32 [pair], of user and item indices int [pair]."""
        self.model.observe(self.known)
        order = np.argsort(user, kind="stable")
        user, item = np.asarray(user)[order], np.asarray(item)[order]
        out = np.zeros(len(user), np.float32)
        start = 0
        while start < len(user):
            stop = min(start + PAIRS, len(user))
            asked, at = np.unique(user[start:stop], return_inverse=True)
            if len(asked) > USERS:
                stop = start + int(np.searchsorted(at, USERS))
                asked, at = asked[:USERS], at[: stop - start]
            told = self.data.user_inputs(asked, self.known, self.length)
            pairs = (at.astype(np.int64), item[start:stop].astype(np.int64))
            out[start:stop] = self._predict(told, *pairs).numpy()
            start = stop
        back = np.empty_like(out)
        back[order] = out
        return back


def evaluate_ratings(
    model: Any, data: RetrievalData, split: Literal["validation", "test"] = "test"
) -> dict[str, float]:
    """``rmse`` and ``mae`` of a rating model on a split, and ``n``, its ratings.

    The model is told the training ratings, for ``test`` the validation ratings too.

    Raises:
        ValueError: the split holds no ratings.
    """
    events: Interactions = getattr(data, split)
    if not len(events):
        raise ValueError(f"the split {split!r} holds no ratings; check 'split' in the config")
    known = data.train
    if split == "test" and len(data.validation):
        known = data.train.join(data.validation)
    predicted = RatingPredictor(model, data, known)(events.user, events.item)
    return {**rating_metrics(events.weight, predicted), "n": float(len(events))}
