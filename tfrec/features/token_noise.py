"""Texts changed in training: tokens left out, and a part of a text in place of the whole."""

from __future__ import annotations

import tensorflow as tf


def hide_tokens(tokens: tf.Tensor, rate: float) -> tf.Tensor:
    """Leaves each token out with probability ``rate``; those that stay close up.

    A text keeps at least one token, so that it never turns into one that says nothing.

    Args:
        tokens: int64 [..., n], 0 is padding and stands behind.
        rate: from 0, below 1.

    Returns:
        int64 [..., n].
    """
    present = tokens > 0
    drawn = tf.where(present, tf.random.uniform(tf.shape(tokens)), -1.0)
    kept = (drawn >= tf.minimum(rate, tf.reduce_max(drawn, axis=-1, keepdims=True))) & present
    order = tf.argsort(tf.cast(~kept, tf.int32), axis=-1, stable=True)
    shown = tf.where(kept, tokens, tf.zeros_like(tokens))
    return tf.ensure_shape(tf.gather(shown, order, axis=-1, batch_dims=-1), tokens.shape)


def random_span(tokens: tf.Tensor, longest: int) -> tf.Tensor:
    """A run of 1 to ``longest`` neighbouring tokens of each text, its length and place at random.

    Args:
        tokens: int64 [text, n], 0 is padding and stands behind.
        longest: from 1; a shorter text gives at most all of itself.

    Returns:
        int64 [text, longest], 0 behind the last; a text without tokens stays one.
    """
    count = tf.reduce_sum(tf.cast(tokens > 0, tf.int32), axis=1)
    most = tf.minimum(count, longest)
    shape = tf.shape(count)
    length = 1 + _below(most, tf.random.uniform(shape))
    start = _below(count - length + 1, tf.random.uniform(shape))
    at = tf.range(longest)[tf.newaxis, :]
    inside = (at < length[:, tf.newaxis]) & (most > 0)[:, tf.newaxis]
    place = tf.where(inside, start[:, tf.newaxis] + at, 0)
    found = tf.gather(tokens, place, axis=1, batch_dims=1)
    return tf.where(inside, found, tf.zeros_like(found))


def _below(bound: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """A whole number in 0..bound - 1 of a draw from [0, 1); 0 where the bound is not above 0."""
    drawn = tf.cast(uniform * tf.cast(bound, tf.float32), tf.int32)
    return tf.maximum(tf.minimum(drawn, bound - 1), 0)
