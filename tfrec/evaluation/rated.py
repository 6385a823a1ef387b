"""Predicted ratings of a held-out split, told only what was known before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.evaluation.pointwise import rating_metrics
from tfrec.evaluation.protocol import Split

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


def held_out_ratings(data: RetrievalData, split: Split) -> tuple[Interactions, Interactions]:
    """The ratings that are asked for, and those that may be known when answering.

    Known are the training ratings, for ``test`` those of validation too.

    Raises:
        ValueError: the split holds no ratings: no events, weights that are no numbers, or one
            weight for all, as a log of purchases has.
    """
    events: Interactions = getattr(data, split)
    if not len(events):
        raise ValueError(f"the split {split!r} holds no ratings; check 'split' in the config")
    known = data.train
    if split == "test" and len(data.validation):
        known = data.train.join(data.validation)
    levels = np.unique(np.concatenate([events.weight, known.weight]))
    if not np.isfinite(levels).all():
        raise ValueError(
            f"ratings are finite numbers; the {split} split or the events before it hold NaN or "
            f"infinity; mend the column 'weight'"
        )
    if len(levels) < 2:
        raise ValueError(
            f"the {split} split holds no ratings: the {len(events)} events there and all events "
            f"before have the weight {levels[0]:g}; map the ratings to the column 'weight', or "
            f"measure lists, as by 'recall@10'"
        )
    return events, known


def has_ratings(data: RetrievalData, split: Split) -> bool:
    """Whether the split holds ratings; see ``held_out_ratings``."""
    try:
        held_out_ratings(data, split)
    except ValueError:
        return False
    return True


def evaluate_ratings(model: Any, data: RetrievalData, split: Split = "test") -> dict[str, float]:
    """``rmse`` and ``mae`` of a rating model on a split, and ``n``, its ratings.

    Raises:
        ValueError: the split holds no ratings; see ``held_out_ratings``.
    """
    events, known = held_out_ratings(data, split)
    predicted = RatingPredictor(model, data, known)(events.user, events.item)
    return {**rating_metrics(events.weight, predicted), "n": float(len(events))}
