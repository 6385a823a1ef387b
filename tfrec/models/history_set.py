"""A user's history as a set of items, in stock ops."""

from __future__ import annotations

import tensorflow as tf


def once(history: tf.Tensor, n_items: int) -> tf.Tensor:
    """Each item of a history once, ascending; 0 stands for padding, repeats and unknown items.

    Args:
        history: int [batch, H] item indices.
        n_items: largest known index.

    Returns:
        int64 [batch, H].
    """
    # Sorted rows put repeats side by side: an item is kept where it differs from the one before.
    ordered = tf.sort(tf.cast(history, tf.int64), axis=1)
    before = tf.pad(ordered[:, :-1], [[0, 0], [1, 0]])
    kept = (ordered >= 1) & (ordered <= n_items) & (ordered != before)
    return tf.where(kept, ordered, tf.zeros_like(ordered))


def history_marks(history: tf.Tensor, n_items: int) -> tf.SparseTensor:
    """A one at each item of a history.

    Args:
        history: int [batch, H] item indices; 0 and unknown ones (> n_items) are ignored.
        n_items: width.

    Returns:
        Sparse float32 [batch, n_items]; column ``i - 1`` is item index ``i``.
    """
    items = once(history, n_items)
    at = tf.where(items > 0)
    columns = tf.gather_nd(items, at) - 1
    shape = tf.stack([tf.shape(items, tf.int64)[0], tf.constant(n_items, tf.int64)])
    return tf.SparseTensor(
        tf.stack([at[:, 0], columns], axis=1), tf.ones_like(columns, tf.float32), shape
    )


def history_times(history: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Sum of the rows of ``weights`` at each history's items (each once).

    Args:
        history: int [batch, H] item indices, 0 is padding.
        weights: float32 [n_items, out].

    Returns:
        float32 [batch, out]; zeros for an empty history.
    """
    width = int(weights.shape[0])
    marks = history_marks(history, width)
    rows = tf.cast(marks.dense_shape[0], tf.float32)
    events = tf.cast(tf.shape(marks.values)[0], tf.float32)
    # A dense product does some 30 times more multiplications a second: it wins for full rows, but
    # has to read all weights, which only pays for many rows at once.
    return tf.cond(
        (rows >= 32) & (30 * events > rows * width),
        lambda: tf.matmul(tf.sparse.to_dense(marks), weights),
        lambda: tf.sparse.sparse_dense_matmul(marks, weights),
    )
