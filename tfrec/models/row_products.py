"""The two large products of a net over rows of ratings: units times weights, codes times weights.

Both meet weights ``[n_columns, K, dim]`` and rows of level codes ``[batch, n_columns]``, of which a
small share is rated. ``dense`` multiplies whole rows: more arithmetic, in one large product, and
units ``[batch, n_columns, K]`` in memory. ``sparse`` gathers the weights of rated columns alone.
``bfloat16`` is dense, with the factors of products in training rounded to 8 bits of precision and
sums in float32; answers are always computed in float32.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import tensorflow as tf

Products = Literal["auto", "dense", "bfloat16", "sparse"]
# A dense step of one softmax layer each way takes 0.5 to 0.7 of the sparse one's time at 4% rated
# and 0.9 to 1.2 at 2% (benchmarks/ratings_products.py, 500 and 100 hidden units): even near 2.5%.
DENSE_FROM = 0.025


def choose(products: Products, density: float) -> Products:
    """``products``, with ``auto`` settled by the share of entries rated.

    Args:
        products: what was asked for.
        density: share of rated entries among all, 0..1.

    Raises:
        ValueError: an unknown kind.
    """
    if products not in get_args(Products):
        raise ValueError(f"products is one of {list(get_args(Products))}; got {products!r}")
    if products == "auto":
        return "dense" if density >= DENSE_FROM else "sparse"
    return products


def level_marks(n_levels: int) -> np.ndarray:
    """Code c switches unit c on: float32 [L + 1, L], row 0 (not rated) empty."""
    return np.eye(n_levels + 1, n_levels, -1, dtype=np.float32)


def thermometer_marks(n_levels: int) -> np.ndarray:
    """Code c switches units 1..c on: float32 [L + 1, L]."""
    return np.tril(np.ones((n_levels + 1, n_levels), np.float32), -1)


def value_marks(values: np.ndarray) -> np.ndarray:
    """One unit of value ``values[c - 1]`` for code c: float32 [L + 1, 1]."""
    return np.concatenate([[0.0], values]).astype(np.float32)[:, np.newaxis]


def matmul(a: tf.Tensor, b: tf.Tensor, rounded: bool, transpose_b: bool = False) -> tf.Tensor:
    """Product of float32 matrices; ``rounded`` to bfloat16 before it, and float32 after."""
    if not rounded:
        return tf.matmul(a, b, transpose_b=transpose_b)
    a, b = tf.cast(a, tf.bfloat16), tf.cast(b, tf.bfloat16)
    return tf.cast(tf.matmul(a, b, transpose_b=transpose_b), tf.float32)


def rows_in(code: tf.Tensor, marks: np.ndarray, weights: tf.Tensor, kind: Products) -> tf.Tensor:
    """``sum_i sum_k marks[code_i, k] weights[i, k]``: each row's units times their weights.

    Args:
        code: int32 [batch, n_columns], 0 where not rated.
        marks: float32 [L + 1, K], the units of each code; row 0 is zero.
        weights: float32 [n_columns, K, dim].
        kind: ``dense``, ``bfloat16`` or ``sparse``.

    Returns:
        float32 [batch, dim].
    """
    n, k, dim = weights.shape
    if kind != "sparse":
        rounded = kind == "bfloat16"
        table = tf.constant(marks, tf.bfloat16 if rounded else tf.float32)
        units = tf.reshape(tf.gather(table, code), [-1, n * k])
        return matmul(units, tf.reshape(weights, [n * k, dim]), rounded)
    at = tf.where(code > 0)
    codes = tf.gather_nd(code, at)
    if k == 1:
        parts = tf.gather(weights[:, 0], at[:, 1])
        parts *= tf.gather(tf.constant(marks), codes)
    else:
        if not np.array_equal(marks, level_marks(k)):
            weights = tf.einsum("ck,nkd->ncd", tf.constant(marks[1:]), weights)
        levels = weights.shape[1]
        place = at[:, 1] * levels + tf.cast(codes, tf.int64) - 1
        parts = tf.gather(tf.reshape(weights, [n * levels, dim]), place)
    return tf.math.unsorted_segment_sum(parts, at[:, 0], tf.shape(code, tf.int64)[0])


def units_in(
    at: tf.Tensor, units: tf.Tensor, rows: tf.Tensor, weights: tf.Tensor, kind: Products
) -> tf.Tensor:
    """As ``rows_in``, of units with values of their own: ``sum_e units[e] . weights[column_e]``.

    Args:
        at: int64 [entry, 2], row and column of each.
        units: float32 [entry, K].
        rows: int64 scalar, how many rows there are.
        weights: float32 [n_columns, K, dim].
        kind: ``dense``, ``bfloat16`` or ``sparse``.

    Returns:
        float32 [rows, dim].
    """
    n, k, dim = weights.shape
    if kind == "sparse":
        parts = tf.einsum("pk,pkd->pd", units, tf.gather(weights, at[:, 1]))
        return tf.math.unsorted_segment_sum(parts, at[:, 0], rows)
    whole = tf.scatter_nd(at, units, tf.stack([rows, n, k]))
    flat = tf.reshape(weights, [n * k, dim])
    return matmul(tf.reshape(whole, [-1, n * k]), flat, kind == "bfloat16")


def rows_out(hidden: tf.Tensor, weights: tf.Tensor, at: tf.Tensor, kind: Products) -> tf.Tensor:
    """``weights[i, k] . hidden[b]`` of the entries asked for.

    Args:
        hidden: float32 [batch, dim].
        weights: float32 [n_columns, K, dim].
        at: int64 [entry, 2], row and column of each.
        kind: ``dense``, ``bfloat16`` or ``sparse``.

    Returns:
        float32 [entry, K].
    """
    n, k, dim = weights.shape
    if kind == "sparse":
        mine = tf.gather(weights, at[:, 1])
        return tf.einsum("pkd,pd->pk", mine, tf.gather(hidden, at[:, 0]))
    flat = tf.reshape(weights, [n * k, dim])
    if kind == "bfloat16":
        # Kept rounded until the entries asked for are out: half the memory moved.
        scores = tf.matmul(
            tf.cast(hidden, tf.bfloat16), tf.cast(flat, tf.bfloat16), transpose_b=True
        )
    else:
        scores = tf.matmul(hidden, flat, transpose_b=True)
    return tf.cast(tf.gather_nd(tf.reshape(scores, [-1, n, k]), at), tf.float32)
