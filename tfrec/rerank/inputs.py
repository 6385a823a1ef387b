"""What every selection checks and prepares: shapes, masks, unit vectors, trade-offs.

Decisions are taken in float64: sums over a list then differ between machines, batch sizes and
thread counts far less than two candidates do, and the same request gets the same list.
"""

from __future__ import annotations

import tensorflow as tf

DECIDE = tf.float64


def candidates(relevance: tf.Tensor, valid: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Relevance in float64 (0 where invalid) and which candidates may be chosen.

    Args:
        relevance: float [batch, candidate]; -inf or NaN makes a candidate invalid.
        valid: bool [batch, candidate]; False is padding. None: all are candidates.

    Returns:
        float64 [batch, candidate], bool [batch, candidate].

    Raises:
        ValueError: a wrong rank or shape.
    """
    relevance = tf.convert_to_tensor(relevance)
    if relevance.shape.rank != 2:
        raise ValueError(
            f"relevance is float [batch, candidate]; got shape {relevance.shape}; give a single "
            f"list as relevance[None, :]"
        )
    allowed = tf.math.is_finite(relevance)
    if valid is not None:
        valid = tf.convert_to_tensor(valid)
        if valid.dtype != tf.bool or not valid.shape.is_compatible_with(relevance.shape):
            raise ValueError(
                f"valid is bool [batch, candidate] like relevance {relevance.shape}; got "
                f"{valid.dtype.name} {valid.shape}"
            )
        allowed &= valid
    value = tf.cast(relevance, DECIDE)
    return tf.where(allowed, value, tf.zeros_like(value)), allowed


def per_candidate(name: str, values: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
    """Checks a float [batch, candidate, dim] tensor against the relevance and casts it to float64.

    Raises:
        ValueError: another rank, or another batch or number of candidates.
    """
    values = tf.convert_to_tensor(values)
    fits = values.shape.rank == 3 and values.shape[:2].is_compatible_with(relevance.shape)
    if not fits:
        raise ValueError(
            f"{name} are float [batch, candidate, dim] beside relevance {relevance.shape}; got "
            f"shape {values.shape}; gather one vector for each candidate"
        )
    return tf.cast(values, DECIDE)


def unit(vectors: tf.Tensor) -> tf.Tensor:
    """Vectors of length one along the last axis; zeros (and vectors with NaN) become zeros."""
    square = tf.reduce_sum(vectors * vectors, axis=-1, keepdims=True)
    good = tf.math.is_finite(square) & (square > 0)
    length = tf.sqrt(tf.where(good, square, tf.ones_like(square)))
    return tf.where(good, vectors / length, tf.zeros_like(vectors))


def weight_of(trade_off: float | tf.Tensor) -> tf.Tensor:
    """The trade-off as float64 [batch or 1, 1], cut to 0..1; NaN is 0.

    Args:
        trade_off: scalar or [batch]; 0 is relevance alone, 1 the other aim alone.
    """
    if isinstance(trade_off, int | float) and not 0 <= trade_off <= 1:
        raise ValueError(
            f"trade_off is between 0 (relevance alone) and 1 (the other aim alone); got {trade_off}"
        )
    weight = tf.cast(tf.convert_to_tensor(trade_off), DECIDE)
    weight = tf.where(tf.math.is_nan(weight), tf.zeros_like(weight), weight)
    return tf.reshape(tf.clip_by_value(weight, 0.0, 1.0), [-1, 1])


class Columns:
    """Unit vectors kept as columns: one product with a vector reads memory in order.

    Args:
        vectors: float64 [batch, candidate, dim]; zeros stay zeros.
    """

    def __init__(self, vectors: tf.Tensor) -> None:
        self.columns = tf.transpose(unit(vectors), [0, 2, 1])

    def of(self, chosen: tf.Tensor) -> tf.Tensor:
        """The vectors of candidates int32 [batch], float64 [batch, dim]."""
        return tf.gather(self.columns, chosen, axis=2, batch_dims=1)

    def times(self, vector: tf.Tensor) -> tf.Tensor:
        """Products of all candidates with float64 [batch, dim]: [batch, candidate]."""
        return tf.squeeze(tf.matmul(vector[:, None, :], self.columns), axis=1)


def check_window(window: int | None) -> int | None:
    """The window itself.

    Raises:
        ValueError: no whole number from 2.
    """
    if window is not None and (isinstance(window, bool) or not isinstance(window, int)):
        raise ValueError(f"window is a whole number fixed when the graph is built; got {window!r}")
    if window is not None and window < 2:
        raise ValueError(
            f"window is the number of neighbouring places that shall differ, at least 2; got "
            f"{window}; for no diversity take trade_off 0"
        )
    return window


def pick(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """``values[row, chosen[row]]``: [batch, candidate, ...] and int32 [batch] -> [batch, ...]."""
    return tf.gather(values, chosen, axis=1, batch_dims=1)


def ring_put(ring: tf.Tensor, row: tf.Tensor, step: tf.Tensor, slots: int) -> tf.Tensor:
    """A ring [batch, slots, width] with ``row`` [batch, width] in place of its oldest entry."""
    here = tf.equal(tf.range(slots), step % slots)[None, :, None]
    return tf.where(here, row[:, None, :], ring)
