"""Answers of item-based rating models: codes of all items, and users fitted from a history."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import Interactions
from tfrec.models.base import Users
from tfrec.models.rating_rows import CODE, RatingRows

BLOCK = 512  # items coded at a time
SAMPLE = 256  # trained users whose predictions teach what users are like
RANK = 24


class ItemRows(tf.Module):
    """What an item-based model knows of its items.

    A user that training never saw is no column of the decoder. Its ratings are predicted as
    ``item mean + t_i . z`` with a normal prior on ``z``: the factors ``t`` are the principal
    components of the model's own predictions for a sample of trained users (whose ``z`` has unit
    variance), and ``z`` is the ridge solution on the history, the ridge being the variance that
    the model leaves unexplained.

    Args:
        model: an item-based ``RowModel``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(name="item_rows")
        self._owner = lambda: model  # a closure, so that saving does not walk in a circle
        spec = tf.TensorSpec([None, model.n_columns], tf.int32)
        self._encode = tf.function(model.encode, input_signature=[spec], autograph=False)
        dim = model.encode(tf.zeros([1, model.n_columns], tf.int32)).shape[1]
        self.codes = model._fixed("item_codes", np.zeros((model.n_items, dim), np.float32))
        self.tastes = model._fixed("item_tastes", np.zeros((model.n_items + 1, RANK), np.float32))
        self.noise = model._fixed("unexplained", np.ones((), np.float32))

    @property
    def model(self) -> Any:
        return self._owner()

    # -- what is known --------------------------------------------------------------------------

    def refresh(self, known: Interactions) -> None:
        """Codes all items from the ratings known, then finds the factors."""
        model = self.model
        rows = RatingRows.of(known, model.scale, "item")
        blocks = rows.blocks(np.arange(rows.n_rows), BLOCK)
        self.codes.assign(np.concatenate([self._encode(b[CODE]).numpy() for b in blocks]))
        # A row needs no training of its own: an item first rated later is answered by its code.
        model.item_rated.assign((known.item_counts() > 0).astype(np.float32))
        users = np.flatnonzero(model.user_rated.numpy() > 0)
        users = users[np.linspace(0, len(users) - 1, min(SAMPLE, len(users))).astype(np.int64)]
        predicted = self._columns(tf.constant(users - 1)).numpy().T  # [n_items, sample]
        mean = model.item_mean.numpy()[1:, None]
        self._factors(predicted - mean)
        self._unexplained(known, users, predicted)

    def _factors(self, apart: np.ndarray) -> None:
        """Principal components of deviations float32 [n_items, sample], not centred."""
        gram = apart.T @ apart / apart.shape[1]
        values, vectors = np.linalg.eigh(gram.astype(np.float64))
        kept = np.argsort(values)[::-1][: min(RANK, len(values))]
        # apart = T Z with rows of Z of unit variance over the sample: T = apart V / sqrt(sample).
        factors = apart @ vectors[:, kept] / np.sqrt(apart.shape[1])
        tastes = np.zeros((self.model.n_items + 1, RANK), np.float32)
        tastes[1:, : len(kept)] = factors
        self.tastes.assign(tastes)

    def _unexplained(self, known: Interactions, users: np.ndarray, predicted: np.ndarray) -> None:
        place = np.full(known.n_users + 1, -1)
        place[users] = np.arange(len(users))
        mine = place[known.user] >= 0
        error = known.weight[mine] - predicted[known.item[mine] - 1, place[known.user[mine]]]
        unit = self.model.scale.unit**2
        self.noise.assign(max(float(np.mean(error**2)) if len(error) else unit, 1e-2 * unit))

    # -- answers --------------------------------------------------------------------------------

    def _columns(self, columns: tf.Tensor) -> tf.Tensor:
        """Ratings of all items by the users at these columns, float32 [batch, n_items]."""
        weights, biases = self.model.output()
        mine = tf.gather(weights, columns)  # [batch, K, dim]
        k, dim = mine.shape[1:]
        scores = tf.matmul(tf.reshape(mine, [-1, dim]), self.codes, transpose_b=True)
        scores = tf.reshape(scores, [-1, k, self.model.n_items])
        scores = tf.transpose(scores, [0, 2, 1])
        return self.model.link(scores + tf.gather(biases, columns)[:, tf.newaxis])

    def fit_user(self, users: Users) -> tf.Tensor:
        """``z`` of each history, float32 [batch, RANK]."""
        items, ratings = self.model.rated_history(users)
        factors = tf.gather(self.tastes, items)  # zeros at padding
        apart = ratings - tf.gather(self.model.item_mean, items)
        left = tf.matmul(factors, factors, transpose_a=True) + self.noise * tf.eye(RANK)
        right = tf.linalg.matvec(factors, apart, transpose_a=True)
        factor = tf.linalg.cholesky(left)
        return tf.linalg.cholesky_solve(factor, right[:, :, tf.newaxis])[:, :, 0]

    def _or_fitted(self, known: tf.Tensor, trained: tf.Tensor, fitted: Any) -> tf.Tensor:
        """``trained`` where ``known``; ``fitted()``, made only if somebody needs it, elsewhere."""
        return tf.cond(
            tf.reduce_all(known), lambda: trained, lambda: tf.where(known, trained, fitted())
        )

    def catalogue(self, users: Users) -> tf.Tensor:
        """Ratings of all items, float32 [batch, n_items]."""
        model = self.model

        def fitted() -> tf.Tensor:
            apart = tf.matmul(self.fit_user(users), self.tastes[1:], transpose_b=True)
            return apart + model.item_mean[1:]

        trained = self._columns(model.user_columns(users))
        return self._or_fitted(model.is_known(users)[:, tf.newaxis], trained, fitted)

    def pairs(self, users: Users, at: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Ratings of pairs, float32 [pair]; see ``RatingRecommender.rate_pairs``."""
        model = self.model
        items = tf.cast(items, tf.int64)

        def fitted() -> tf.Tensor:
            mine = tf.gather(self.fit_user(users), at)
            apart = tf.reduce_sum(mine * tf.gather(self.tastes, items), axis=1)
            return apart + tf.gather(model.item_mean, items)

        columns = tf.gather(model.user_columns(users), at)
        trained = model.decode_pairs(tf.gather(self.codes, items - 1), columns)
        return self._or_fitted(tf.gather(model.is_known(users), at), trained, fitted)
