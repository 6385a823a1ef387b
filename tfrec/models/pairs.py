"""Batches of observed pairs, each with uniformly drawn items, made anew every epoch."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.schema import ITEM_ID, USER_ID

NEGATIVES = "negatives"


def pair_batches(
    data: RetrievalData,
    batch_size: int,
    negatives: int,
    seed: int,
    *,
    redraws: int = 1,
) -> tf.data.Dataset:
    """One epoch of ``data.train`` in a new order with new negatives each time it is read.

    A drawn item that the user has is drawn again up to ``redraws`` times; what is observed is
    looked up by binary search in the sorted pairs, for the whole batch at once.

    Args:
        data: its train split is read.
        batch_size: pairs a batch; the last batch of an epoch may be smaller.
        negatives: uniform items for each pair.
        seed: of the order and the draws; the same seed gives the same epochs.
        redraws: 0 takes what was drawn (then a negative may be an observed item).

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
    count, width = len(data.train), data.n_items + 1
    user, item = tf.constant(data.train.user), tf.constant(data.train.item)
    code = data.train.user.astype(np.int64) * width + data.train.item
    observed = tf.constant(np.unique(code)) if redraws else None

    def draw(seeds: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform(shape, seeds, 1, width, tf.int64)

    def batch(chosen: tf.Tensor, number: tf.Tensor) -> dict[str, tf.Tensor]:
        users = tf.cast(tf.gather(user, chosen), tf.int64)
        shape = tf.stack([tf.shape(chosen)[0], negatives])
        drawn = draw(tf.stack([number, 0]), shape)
        for again in range(redraws):
            pairs = users[:, tf.newaxis] * width + drawn
            at = tf.searchsorted(observed, tf.reshape(pairs, [-1]), out_type=tf.int64)
            at = tf.minimum(at, tf.size(observed, tf.int64) - 1)
            taken = tf.reshape(tf.gather(observed, at), shape) == pairs
            drawn = tf.where(taken, draw(tf.stack([number, again + 1]), shape), drawn)
        items = tf.cast(tf.gather(item, chosen), tf.int64)
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
