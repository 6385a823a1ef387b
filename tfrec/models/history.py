"""A user's history as a sparse row of ones, multiplied into item weights, in stock ops."""

from __future__ import annotations

import tensorflow as tf


def history_sparse(history: tf.Tensor, n_items: int) -> tf.SparseTensor:
    """Marks each item of a history once.

    Args:
        history: int [batch, H] item indices; 0 and unknown ones (> n_items) are ignored.
        n_items: width.

    Returns:
        Sparse float32 [batch, n_items]; column ``i - 1`` is item index ``i``.
    """
    batch = tf.shape(history, tf.int64)[0]
    width = tf.constant(n_items, tf.int64)
    history = tf.cast(history, tf.int64)
    # Sorted rows put repeats side by side: each item is kept where it differs from the one before.
    ordered = tf.sort(history, axis=1)
    before = tf.pad(ordered[:, :-1], [[0, 0], [1, 0]])
    kept = (ordered >= 1) & (ordered <= width) & (ordered != before)
    at = tf.where(kept)
    columns = tf.gather_nd(ordered, at) - 1
    indices = tf.stack([at[:, 0], columns], axis=1)
    return tf.SparseTensor(indices, tf.ones_like(columns, tf.float32), tf.stack([batch, width]))


def history_times(history: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Sum of the rows of ``weights`` at each history's items (each once).

    Args:
        history: int [batch, H] item indices, 0 is padding.
        weights: float32 [n_items, out].

    Returns:
        float32 [batch, out]; zeros for an empty history.
    """
    marks = history_sparse(history, int(weights.shape[0]))
    return tf.sparse.sparse_dense_matmul(marks, weights)
