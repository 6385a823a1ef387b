"""Random numbers by row: a row's numbers follow from its own seed, whatever stands beside it.

A server merges requests into batches, so one seed a batch (as ``tf.random.stateless_*`` takes)
would make an answer depend on its neighbours. SplitMix64 (Steele, Lea & Flood, OOPSLA 2014) is a
counter through a mixing function: number ``n`` of a row costs a few integer operations and no
state. Stock operations only, the same bits on every machine.
"""

from __future__ import annotations

import tensorflow as tf

GAMMA = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, made odd
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _u64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)


def _shift(z: tf.Tensor, bits: int) -> tf.Tensor:
    """``z ^ (z >> bits)``."""
    return tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, _u64(bits)))


def _mix(z: tf.Tensor) -> tf.Tensor:
    """The finalizer of SplitMix64 on uint64 of any shape."""
    z = _shift(z, 30) * _u64(FIRST)
    return _shift(_shift(z, 27) * _u64(SECOND), 31)


def uniform(seed: tf.Tensor, n: int | tf.Tensor, stream: int = 0) -> tf.Tensor:
    """Numbers in the open interval (0, 1), evenly.

    Args:
        seed: int64 [batch], one a row; equal seeds give equal rows.
        n: numbers a row, scalar.
        stream: independent numbers from the same seed, 0 or more.

    Returns:
        float32 [batch, n].
    """
    start = _mix(tf.bitcast(tf.cast(seed, tf.int64), tf.uint64) + _u64(GAMMA))
    start = _mix(start + _u64((stream + 1) * FIRST % 2**64))
    count = tf.bitcast(tf.range(1, tf.cast(n, tf.int64) + 1, dtype=tf.int64), tf.uint64)
    bits = _mix(start[:, None] + count[None, :] * _u64(GAMMA))
    # 23 bits: the middles of 2^23 cells, exact in float32 and never 0 or 1.
    cell = tf.cast(tf.bitwise.right_shift(bits, _u64(41)), tf.float32)
    return (cell + 0.5) * 2.0**-23


def normal(seed: tf.Tensor, n: int | tf.Tensor, stream: int = 0) -> tf.Tensor:
    """Standard normal numbers, float32 [batch, n]; see ``uniform``."""
    return tf.math.ndtri(uniform(seed, n, stream))
