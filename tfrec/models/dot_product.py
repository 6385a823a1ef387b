"""Which models score by an inner product, and the two vectors of it: what an index can search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from tfrec.models.als import ALS
from tfrec.models.base import Recommender, Users
from tfrec.models.item2vec import Item2Vec
from tfrec.models.mf import MatrixFactorisation
from tfrec.models.sasrec import Sequential
from tfrec.models.two_tower import TwoTower


@dataclass(frozen=True)
class DotProduct:
    """``score(user, item) = query(user) . items()[item - 1]``.

    Attributes:
        query: users (see ``tfrec.models.base``) to float32 [batch, dim].
        items: float32 [n_items, dim].
    """

    query: Callable[[Users], tf.Tensor]
    items: Callable[[], tf.Tensor]


def _with_bias(
    query: Callable[[Users], tf.Tensor],
    vectors: Callable[[], tf.Tensor],
    bias: Callable[[], tf.Tensor],
) -> DotProduct:
    """A bias an item is one more dimension, in which every query is 1."""

    def longer(users: Users) -> tf.Tensor:
        return tf.pad(query(users), [[0, 0], [0, 1]], constant_values=1.0)

    return DotProduct(longer, lambda: tf.concat([vectors(), bias()[:, tf.newaxis]], axis=1))


def dot_product(model: Recommender) -> DotProduct | None:
    """The two sides of a model's score; None where it is no inner product."""
    if isinstance(model, TwoTower):
        return DotProduct(
            lambda users: model.user_embedding(users) / model.temperature,
            lambda: tf.identity(model.index),
        )
    if isinstance(model, ALS | Sequential):
        return DotProduct(model.user_embedding, model.item_embedding)
    if isinstance(model, MatrixFactorisation):
        return _with_bias(
            model.user_embedding, model.item_embedding, lambda: model.item_bias[1:, 0]
        )
    if isinstance(model, Item2Vec):
        return DotProduct(model.query, model.answers)
    return None
