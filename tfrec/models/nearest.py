"""Nearest users and items by the vectors of any model that has them."""

from __future__ import annotations

import tensorflow as tf

from tfrec.models.base import Recommender, Users
from tfrec.retrieval.top_k import masked_top_k


def _unit(vectors: tf.Tensor) -> tf.Tensor:
    return tf.math.l2_normalize(vectors, axis=1)


def nearest_items(
    model: Recommender, items: tf.Tensor, k: int | tf.Tensor, *, itself: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """The items whose vectors point the same way.

    Args:
        model: a model with ``item_embedding``.
        items: int [batch], item indices 1..n_items.
        k: list length, scalar.
        itself: whether an item may be its own neighbour.

    Returns:
        Item indices int64 [batch, k] and cosines float32 [batch, k], nearest first; index 0 and
        -inf where there are fewer than k.

    Raises:
        TypeError: the model has no item vectors.
        tf.errors.InvalidArgumentError: an index outside 1..n_items.
    """
    items = tf.cast(items, tf.int64)
    tf.debugging.assert_positive(items, "item indices are 1..n_items; 0 is padding")
    tf.debugging.assert_less_equal(
        items, tf.cast(model.n_items, tf.int64), "item indices are 1..n_items; encode ids first"
    )
    cosine = tf.matmul(
        _unit(model.item_embedding(items)), _unit(model.item_embedding()), transpose_b=True
    )
    return masked_top_k(cosine, k, None if itself else items[:, tf.newaxis])


def nearest_users(
    model: Recommender, users: Users, among: Users, k: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The users of ``among`` whose vectors point the same way.

    Args:
        model: a model with ``user_embedding``.
        users: inputs of those asked about, see ``tfrec.models.base``; [batch, ...].
        among: inputs of the users to choose from, [m, ...]; an asked user in it is found as its
            own nearest.
        k: list length, scalar.

    Returns:
        Rows of ``among``, int64 [batch, k] (0-based, -1 where there are fewer than k), and cosines
        float32 [batch, k], nearest first.

    Raises:
        TypeError: the model has no user vectors.
    """
    cosine = tf.matmul(
        _unit(model.user_embedding(users)), _unit(model.user_embedding(among)), transpose_b=True
    )
    found, values = masked_top_k(cosine, k)
    return found - 1, values
