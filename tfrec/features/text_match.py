"""How well a query fits an item's text, where both are read with one vocabulary."""

from __future__ import annotations

import tensorflow as tf


def overlap(query: tf.Tensor, text: tf.Tensor) -> tf.Tensor:
    """Share of a query's tokens that the text holds.

    It counts tokens, not vectors: it is right for words that training never met too, as long as the
    vocabulary (or the hashed tail) tells them apart.

    Args:
        query: int64 [batch, q] token indices, 0 is padding.
        text: int64 [batch, t], of the same vocabulary.

    Returns:
        float32 [batch], 0 where nothing is asked.
    """
    asked = query > 0
    held = tf.reduce_any(query[:, :, tf.newaxis] == text[:, tf.newaxis, :], axis=2) & asked
    count = tf.reduce_sum(tf.cast(asked, tf.float32), axis=1)
    return tf.math.divide_no_nan(tf.reduce_sum(tf.cast(held, tf.float32), axis=1), count)
