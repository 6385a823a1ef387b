"""Top-k over a row of catalogue scores with exclusions and an allowed set, in stock ops."""

from __future__ import annotations

import tensorflow as tf

NEVER = float("-inf")


def _mark(indices: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Bool [batch, width]: True at the listed item indices; those outside 1..width are ignored."""
    indices = tf.cast(indices, tf.int64)
    width = tf.cast(width, tf.int64)
    inside = (indices >= 1) & (indices <= width)
    at = tf.where(inside)  # [n, 2]: row, position
    columns = tf.gather_nd(indices, at) - 1
    where = tf.stack([at[:, 0], columns], axis=1)
    shape = tf.stack([tf.shape(indices, tf.int64)[0], width])
    return tf.scatter_nd(where, tf.ones_like(columns, tf.int32), shape) > 0


def masked_top_k(
    scores: tf.Tensor,
    k: int | tf.Tensor,
    exclude: tf.Tensor | None = None,
    among: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The best allowed items of each row; an item whose score is NaN is never among them.

    Args:
        scores: float32 [batch, n_items]; column ``i - 1`` is item index ``i``.
        k: list length, scalar; may exceed n_items.
        exclude: int [batch, E] item indices never returned; indices outside 1..n_items (padding,
            unknown items) are ignored.
        among: int [batch, A] item indices; where given, only these may be returned.

    Returns:
        Item indices int64 [batch, k] and scores float32 [batch, k], best first, ties by lower
        index. Where fewer than k items are allowed the rest is index 0 and score -inf.
    """
    width = tf.shape(scores)[1]
    # NaN is above and below nothing: where top_k leaves it depends on its neighbours.
    scores = tf.where(tf.math.is_nan(scores), NEVER, scores)
    if exclude is not None:
        scores = tf.where(_mark(exclude, width), NEVER, scores)
    if among is not None:
        scores = tf.where(_mark(among, width), scores, NEVER)
    k = tf.cast(k, tf.int32)
    found = tf.math.top_k(scores, k=tf.minimum(k, width), sorted=True)
    missing = tf.maximum(k - width, 0)
    values = tf.pad(found.values, [[0, 0], [0, missing]], constant_values=NEVER)
    indices = tf.pad(tf.cast(found.indices, tf.int64) + 1, [[0, 0], [0, missing]])
    return tf.where(values == NEVER, tf.zeros_like(indices), indices), values
