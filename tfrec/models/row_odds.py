"""A row's own bias: how the ratings given are spread over the levels, against all ratings."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.models.rating import SHRINK
from tfrec.models.rating_rows import Scale


class RowOdds:
    """Log of each level's share in a row over its share in all ratings, drawn towards 0.

    Args:
        scale: the levels.
        ratings: float [event], all training ratings.

    Attributes:
        shares: float32 [L], of the levels in all ratings.
    """

    def __init__(self, scale: Scale, ratings: np.ndarray) -> None:
        counts = np.bincount(scale.codes(ratings), minlength=len(scale) + 1)[1:] + 1.0
        self.shares = (counts / counts.sum()).astype(np.float32)

    def __call__(self, code: tf.Tensor) -> tf.Tensor:
        """Odds float32 [batch, L] of level codes int32 [batch, n_columns], 0 where not rated."""
        at = tf.where(code > 0)
        units = tf.one_hot(tf.gather_nd(code, at) - 1, len(self.shares))
        counts = tf.math.unsorted_segment_sum(units, at[:, 0], tf.shape(code, tf.int64)[0])
        counts += SHRINK * self.shares
        return tf.math.log(counts / tf.reduce_sum(counts, axis=1, keepdims=True) / self.shares)

    def through(self, weights: tf.Tensor, cumulated: bool = False) -> tf.Tensor:
        """Last-layer weights [n, L, dim] with the odds behind the code: [n, L, dim + L].

        Args:
            weights: of the code alone.
            cumulated: the scores are summed over levels afterwards.
        """
        n, levels, _ = weights.shape
        same = np.eye(levels) - (np.eye(levels, k=-1) if cumulated else 0.0)
        same = tf.constant(np.broadcast_to(same, (n, levels, levels)), tf.float32)
        return tf.concat([weights, same], axis=2)
