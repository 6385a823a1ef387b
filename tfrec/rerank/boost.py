"""Boost windows: a factor on the worth of some items for some time."""

from __future__ import annotations

import tensorflow as tf


def boost_factor(
    matches: tf.Tensor, now: tf.Tensor, start: tf.Tensor, end: tf.Tensor, factor: tf.Tensor
) -> tf.Tensor:
    """The factor of each candidate, float32 [batch, candidate].

    Several campaigns that hold at once multiply.

    Args:
        matches: bool [batch, candidate, campaign], whether a campaign is about the candidate.
        now: int64 scalar or [batch], seconds since 1970; the request's time.
        start, end: int64 [campaign], seconds; a campaign holds while ``start <= now < end``.
        factor: float [campaign].

    Raises:
        ValueError: ``matches`` has another rank.
    """
    if matches.shape.rank != 3:
        raise ValueError(f"matches is bool [batch, candidate, campaign]; got {matches.shape}")
    now = tf.reshape(tf.cast(now, tf.int64), [-1, 1])
    holds = (tf.cast(start, tf.int64)[None, :] <= now) & (now < tf.cast(end, tf.int64)[None, :])
    applies = matches & holds[:, None, :]
    each = tf.where(applies, tf.cast(factor, tf.float32), tf.constant(1.0))
    return tf.reduce_prod(each, axis=2)


def boosted(worth: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """``worth`` moved by a factor: above 1 it rises, below 1 it falls, even where it is negative.

    ``worth + (factor - 1) |worth|``, which is ``factor x worth`` for what is worth something.

    Args:
        worth: float [batch, candidate]; -inf stays.
        factor: float [batch, candidate], at least 0.
    """
    moved = worth + (factor - 1.0) * tf.abs(worth)
    return tf.where(tf.math.is_finite(worth), moved, worth)
