"""Long computations in blocks of bounded memory, inside the graph."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def in_blocks(
    count: int | tf.Tensor,
    size: int | tf.Tensor,
    function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """``function(start, stop)`` of consecutive blocks, laid end to end.

    One block is alive at a time, whatever ``count``; stock operations, so it is exported as it is.

    Args:
        count: rows in all, at least 1.
        size: rows a block, at least 1.
        function: gives float32 [stop - start, ...] of rows ``start:stop`` (int32 scalars).

    Returns:
        float32 [count, ...].
    """
    count, size = tf.cast(count, tf.int32), tf.cast(size, tf.int32)
    number = (count + size - 1) // size
    parts = tf.TensorArray(tf.float32, size=number, infer_shape=False)

    def one(at: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        start = at * size
        return at + 1, parts.write(at, function(start, tf.minimum(start + size, count)))

    _, parts = tf.while_loop(
        lambda at, _: at < number, one, (tf.constant(0), parts), parallel_iterations=1
    )
    return parts.concat()
