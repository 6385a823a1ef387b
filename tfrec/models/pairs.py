"""Batches of observed pairs, each with uniformly drawn items, made anew every epoch."""

from __future__ import annotations

import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.data.unobserved import Unobserved
from tfrec.schema import ITEM_ID, USER_ID

NEGATIVES = "negatives"


def pair_batches(
    data: RetrievalData,
    batch_size: int,
    negatives: int,
    seed: int,
) -> tf.data.Dataset:
    """One epoch of ``data.train`` in a new order with new negatives each time it is read.

    Items that the user has in ``data.train`` are never drawn, but for users who have them all.

    Args:
        data: its train split is read.
        batch_size: pairs a batch; the last batch of an epoch may be smaller.
        negatives: uniform items for each pair.
        seed: of the order and the draws; the same seed gives the same epochs.

    Yields:
        dict of ``user_id`` int64 [batch], ``item_id`` int64 [batch], ``negatives`` int64
        [batch, negatives].

    Raises:
        ValueError: the train split is empty, or ``negatives`` is below 1.
    """
    if not len(data.train):
        raise ValueError("training needs at least one event; the train split is empty")
    if negatives < 1:
        raise ValueError(f"negatives is a number of items from 1; got {negatives}")
    count = len(data.train)
    user, item = tf.constant(data.train.user), tf.constant(data.train.item)
    unobserved = Unobserved(data.train)

    def batch(chosen: tf.Tensor, number: tf.Tensor) -> dict[str, tf.Tensor]:
        users = tf.cast(tf.gather(user, chosen), tf.int64)
        items = tf.cast(tf.gather(item, chosen), tf.int64)
        drawn = unobserved.sample(users, negatives, tf.stack([number, 0]))
        return {USER_ID: users, ITEM_ID: items, NEGATIVES: drawn}

    # Whole permutations instead of a shuffle buffer: exact, and cheaper than moving single rows.
    epochs = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(count, dtype=tf.int64), seed=tf.stack([number, -1])
        )
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    orders = epochs.flat_map(epoch)
    numbers = tf.data.Dataset.random(seed=seed + 1, rerandomize_each_iteration=True)
    cardinality = -(-count // batch_size)
    return (
        tf.data.Dataset.zip((orders, numbers))
        .map(batch, num_parallel_calls=2)
        .apply(tf.data.experimental.assert_cardinality(cardinality))
        .prefetch(2)
    )
