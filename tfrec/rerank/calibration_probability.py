"""Scores to probabilities that are true as frequencies, in the graph.

- ``platt``: ``sigmoid(slope x logit(score) + intercept)`` (Platt 1999)
- ``isotonic``: any rising curve (Zadrozny & Elkan 2002), kept as straight lines between knots
- ``scale``: of an expected spend, which is no probability: a factor

All are frozen objects of plain numbers, fitted by ``tfrec.rerank.calibration_fit``: called on a
tensor they are a graph of stock operations, and ``to_dict`` / ``from_dict`` keep them in JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import tensorflow as tf

TINY = 1e-7  # scores are cut to TINY..1-TINY before their logit is taken


class Calibration(Protocol):
    """A fitted map from a ranker's score to a probability."""

    def __call__(self, score: tf.Tensor) -> tf.Tensor:
        """Probability, float32 like ``score`` (any shape); NaN stays NaN."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; ``from_dict`` reads them."""


def _logit(score: tf.Tensor) -> tf.Tensor:
    score = tf.clip_by_value(tf.cast(score, tf.float32), TINY, 1 - TINY)
    return tf.math.log(score) - tf.math.log1p(-score)


@dataclass(frozen=True)
class Platt:
    """``sigmoid(slope x logit(score) + intercept)``.

    Attributes:
        slope, intercept: of the line.
        logits: True where scores are logits already (or any real number), not probabilities.
    """

    slope: float
    intercept: float
    logits: bool = False

    def __call__(self, score: tf.Tensor) -> tf.Tensor:
        x = tf.cast(score, tf.float32) if self.logits else _logit(score)
        return tf.sigmoid(self.slope * x + self.intercept)

    def to_dict(self) -> dict[str, Any]:
        return {"method": "platt", **self.__dict__}


@dataclass(frozen=True)
class Isotonic:
    """Straight lines between knots, level outside.

    Attributes:
        score: ascending, distinct.
        probability: not falling, in 0..1, one a score.
    """

    score: tuple[float, ...]
    probability: tuple[float, ...]

    def __call__(self, score: tf.Tensor) -> tf.Tensor:
        score = tf.cast(score, tf.float32)
        x, y = tf.constant(self.score, tf.float32), tf.constant(self.probability, tf.float32)
        if len(self.score) == 1:
            return tf.where(tf.math.is_nan(score), score, y[0])
        flat = tf.clip_by_value(tf.reshape(score, [-1]), x[0], x[-1])
        left = tf.clip_by_value(tf.searchsorted(x, flat, "right") - 1, 0, len(self.score) - 2)
        x0, x1 = tf.gather(x, left), tf.gather(x, left + 1)
        y0, y1 = tf.gather(y, left), tf.gather(y, left + 1)
        return tf.reshape(y0 + (y1 - y0) * (flat - x0) / (x1 - x0), tf.shape(score))

    def to_dict(self) -> dict[str, Any]:
        return {"method": "isotonic", **self.__dict__}


@dataclass(frozen=True)
class Scale:
    """An expected spend times a factor: predictions that add up to what was spent.

    Attributes:
        factor: sum of the labels over sum of the predictions, 0 or more.
    """

    factor: float

    def __call__(self, score: tf.Tensor) -> tf.Tensor:
        return self.factor * tf.cast(score, tf.float32)

    def to_dict(self) -> dict[str, Any]:
        return {"method": "scale", **self.__dict__}


def from_dict(values: Mapping[str, Any]) -> Calibration:
    """What ``to_dict`` wrote.

    Raises:
        ValueError: no method that is known here.
    """
    rest = {name: v for name, v in values.items() if name != "method"}
    if values.get("method") == "platt":
        return Platt(**rest)
    if values.get("method") == "isotonic":
        return Isotonic(tuple(rest["score"]), tuple(rest["probability"]))
    if values.get("method") == "scale":
        return Scale(**rest)
    raise ValueError(f"method is 'platt', 'isotonic' or 'scale'; got {values.get('method')!r}")


def undo_sampling(probability: tf.Tensor, kept: float | tf.Tensor) -> tf.Tensor:
    """Probability among all rows, for a ranker that saw only some of the negatives.

    ``p / (p + (1 - p) / kept)`` (He et al., ADKDD 2014, section 6.3).

    Args:
        probability: float, any shape, true among the rows of training.
        kept: share of the negatives that were in training, above 0; n negatives drawn for each
            positive out of N items that the user did not take: n / N.
    """
    probability = tf.cast(probability, tf.float32)
    return probability / (probability + (1.0 - probability) / tf.cast(kept, tf.float32))
