"""Batches of observed pairs with uniformly drawn items, or of users with all that they had."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.data.unobserved import Unobserved
from tfrec.schema import ITEM_ID, USER_ID

NEGATIVES = "negatives"
COUNTS = "counts"
PAIRS = ("sampled", "catalogue")
BLOCK_USERS = 64  # users whose whole rows are one batch


def checked_pairs(pairs: str) -> str:
    """``pairs`` of a model's parameters, if there is such a way to train.

    Raises:
        ValueError: there is not.
    """
    if pairs not in PAIRS:
        raise ValueError(f"pairs is one of {', '.join(PAIRS)}; got {pairs!r}; mend 'params'")
    return pairs


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


def user_blocks(data: RetrievalData, seed: int, block_users: int = BLOCK_USERS) -> tf.data.Dataset:
    """One epoch of the users of ``data.train`` in a new order each time it is read.

    For losses over the whole catalogue: a batch takes ``4 * block_users * n_items`` bytes, and the
    step some ten times as much, so catalogues end at about a hundred thousand items.

    Args:
        data: its train split is read; users without events there are left out.
        seed: of the order; the same seed gives the same epochs.
        block_users: users a batch; the last batch of an epoch may be smaller.

    Yields:
        dict of ``user_id`` int64 [batch] and ``counts`` float32 [batch, n_items], how often the
        user had each item.

    Raises:
        ValueError: the train split is empty.
    """
    if not len(data.train):
        raise ValueError("training needs at least one event; the train split is empty")
    present = np.flatnonzero(data.train.user_counts())
    rows = tf.RaggedTensor.from_row_splits(
        tf.constant(data.train.item - 1, tf.int64), data.train.indptr[1:], validate=False
    )

    def batch(users: tf.Tensor) -> dict[str, tf.Tensor]:
        items = tf.gather(rows, users - 1)
        at = tf.stack([items.value_rowids(), items.values], axis=1)
        shape = tf.stack([tf.size(users, tf.int64), data.n_items])
        counts = tf.scatter_nd(at, tf.ones_like(items.values, tf.float32), shape)
        return {USER_ID: users, COUNTS: tf.ensure_shape(counts, [None, data.n_items])}

    return (
        tf.data.Dataset.from_tensor_slices(present.astype(np.int64))
        .shuffle(len(present), seed=seed, reshuffle_each_iteration=True)
        .batch(block_users)
        .map(batch, num_parallel_calls=2)
        .prefetch(2)
    )
