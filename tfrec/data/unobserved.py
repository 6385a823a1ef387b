"""Items that a user has not touched, drawn uniformly and exactly, in stock ops."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import Interactions


class Unobserved:
    """Draws items that are not in ``observed``, without rejection.

    Let a user's distinct items be ``s_0 < s_1 < ...``. Below ``s_j`` lie ``t_j = s_j - 1 - j``
    untouched items, so the r-th untouched item (from 0) is ``1 + r + #{j: t_j <= r}``. The count is
    one binary search over the users' ``t`` laid end to end.

    Args:
        observed: the events whose items are never drawn for their user.
    """

    def __init__(self, observed: Interactions) -> None:
        width = observed.n_items + 1
        pairs = np.unique(observed.user.astype(np.int64) * width + observed.item)
        user, item = pairs // width, pairs % width
        counts = np.bincount(user, minlength=observed.n_users + 1)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        below = item - 1 - (np.arange(len(pairs)) - starts[user])
        self.n_items = observed.n_items
        self._width = width
        self._keys = tf.constant(user * width + below, tf.int64)
        self._starts = tf.constant(starts, tf.int64)
        self._free = tf.constant(observed.n_items - counts, tf.int64)

    def free(self, users: tf.Tensor) -> tf.Tensor:
        """How many items a user has not touched, int64 [batch]; ``users`` int64 [batch]."""
        return tf.gather(self._free, users)

    def sample(self, users: tf.Tensor, n: int, seed: tf.Tensor) -> tf.Tensor:
        """Untouched items, drawn with replacement.

        Args:
            users: int64 [batch], user indices with at least one untouched item (for others the
                result means nothing).
            n: how many for each.
            seed: int [2], of a stateless generator.

        Returns:
            int64 [batch, n], item indices.
        """
        free = tf.maximum(self.free(users), 1)[:, tf.newaxis]
        shape = [tf.shape(users)[0], n]
        rank = tf.random.stateless_uniform(
            shape, seed, minval=0, maxval=np.iinfo(np.int64).max, dtype=tf.int64
        )
        rank %= free
        keys = tf.reshape(users[:, tf.newaxis] * self._width + rank, [-1])
        at = tf.searchsorted(self._keys, keys, side="right", out_type=tf.int64)
        passed = tf.reshape(at, shape) - tf.gather(self._starts, users)[:, tf.newaxis]
        return tf.minimum(1 + rank + passed, self.n_items)
