"""The best of one row of scored candidates, in stock operations.

All functions answer item indices int32 [width] and scores float32 [width], best first, equal scores
by lower index, 0 and -inf behind where there are fewer.
"""

from __future__ import annotations

import tensorflow as tf

from tfrec.retrieval.top_k import NEVER

Row = tuple[tf.Tensor, tf.Tensor]


def best_first(scores: tf.Tensor, items: tf.Tensor, width: tf.Tensor) -> Row:
    """The best candidates.

    Args:
        scores: float32 [n]; -inf is never taken.
        items: int32 [n], distinct where the score is above -inf.
        width: places, scalar.
    """
    size = tf.size(scores)
    found = tf.math.top_k(scores, tf.minimum(width, size), sorted=False)
    taken = tf.gather(items, found.indices)
    # Candidates lie in the order of their cells: the order of indices decides among equals.
    by_index = tf.argsort(taken)
    values, taken = tf.gather(found.values, by_index), tf.gather(taken, by_index)
    order = tf.argsort(-values, stable=True)
    values, taken = tf.gather(values, order), tf.gather(taken, order)
    missing = [[0, tf.maximum(width - size, 0)]]
    values = tf.pad(values, missing, constant_values=NEVER)
    return tf.where(values > NEVER, tf.pad(taken, missing), 0), values


def member(values: tf.Tensor, among: tf.Tensor) -> tf.Tensor:
    """Whether each of ``values`` int32 [n] is in ``among`` int32 [m], bool [n]."""
    among = tf.sort(among)
    at = tf.searchsorted(among, values)
    padded = tf.pad(among, [[0, 1]], constant_values=-1)
    return tf.equal(tf.gather(padded, at), values)


def exact_row(scores: tf.Tensor, ban: tf.Tensor, may: tf.Tensor | None, width: tf.Tensor) -> Row:
    """The best of all items.

    Args:
        scores: float32 [n_items].
        ban: int32 [E] item indices; outside 1..n_items is ignored.
        may: bool [n_items] or None.
        width: places, at most n_items.
    """
    if may is not None:
        scores = tf.where(may, scores, NEVER)
    size = tf.size(scores)
    inside = tf.boolean_mask(ban, (ban >= 1) & (ban <= size))[:, tf.newaxis] - 1
    never = tf.fill([tf.shape(inside)[0]], NEVER)
    scores = tf.tensor_scatter_nd_update(scores, inside, never)
    found = tf.math.top_k(scores, width)
    return tf.where(found.values > NEVER, found.indices + 1, 0), found.values


def listed_row(
    scores: tf.Tensor,
    only: tf.Tensor,
    ban: tf.Tensor,
    may: tf.Tensor | None,
    width: tf.Tensor,
) -> Row:
    """The best of a list of items, which may name one twice.

    Args:
        scores: float32 [A] of the items listed.
        only: int32 [A]; 0 is padding.
        ban, may: as ``exact_row`` has them.
        width: places.
    """
    order = tf.argsort(only, stable=True)
    only, scores = tf.gather(only, order), tf.gather(scores, order)
    before = tf.pad(only[:-1], [[1, 0]])[: tf.size(only)]
    keep = (only > 0) & tf.not_equal(only, before) & ~member(only, ban)
    if may is not None:
        keep &= tf.gather(may, tf.maximum(only - 1, 0))
    return best_first(tf.where(keep, scores, NEVER), only, width)
