"""Sums and gathers over replicas, for losses that look at the global batch."""

from __future__ import annotations

import tensorflow as tf


def global_sum(value: tf.Tensor) -> tf.Tensor:
    """Sum of a tensor over all replicas; the tensor itself outside a replica context."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(value))


def global_concat(value: tf.Tensor) -> tf.Tensor:
    """Rows of a tensor of all replicas, without a gradient; itself outside a replica context.

    Args:
        value: [row, ...]; the row count must be the same on each replica.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_gather(tf.stop_gradient(value), axis=0)


def replica_count() -> int:
    """How many replicas train together; 1 outside a replica context."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def replica_number() -> tf.Tensor:
    """Number of this replica among them, int32 [], from 0; 0 outside a replica context."""
    context = tf.distribute.get_replica_context()
    number = 0 if context is None else context.replica_id_in_sync_group
    return tf.cast(number, tf.int32)
