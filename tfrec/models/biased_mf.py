"""Biased matrix factorisation by alternating least squares: the baseline of rating prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.models.base import Users
from tfrec.models.rating import RatingRecommender, check_positive
from tfrec.models.rating_rows import RatingRows

BLOCK_BYTES = 128 << 20


class BiasedMF(RatingRecommender):
    """``r = m + b_u + b_i + p_u . q_i`` (Koren, Bell & Volinsky 2009), m the mean rating.

    Minimises ``sum (r - r')^2 + sum_u l2_u (|p_u|^2 + b_u^2) + sum_i l2_i (|q_i|^2 + b_i^2)`` with
    ``l2_x = l2 * n_x ^ nu`` for a row of n_x ratings (nu = 1 weighs as Zhou et al. 2008, nu = 0 is
    plain), r on a scale from 1 to 5, onto which another is drawn. All users, then all items are
    solved exactly; an epoch is one such sweep. A user's vector is always solved from the history
    given, so new users are answered like all others.

    Args:
        data: encoded data.
        dim: length of p and q.
        l2, nu: regularisation, above.
        init: standard deviation of the first item vectors.
        history_length: most recent ratings read; None reads all.

    Raises:
        ValueError: a parameter that is not positive.
    """

    def __init__(
        self,
        data: RetrievalData,
        dim: int = 40,
        l2: float = 8.0,
        nu: float = 0.0,
        init: float = 0.1,
        history_length: int | None = None,
    ) -> None:
        super().__init__(data, history_length)
        check_positive(dim=dim, l2=l2, init=init)
        self.dim, self.l2, self.nu, self.init_scale = dim, l2, nu, init
        self.bytes_per_user = 4 * (3 * (dim + 1) ** 2 + 2 * self.history_length * (dim + 2))
        # The last column is the bias: a row is [q_i, b_i] against [p_u, 1], and the reverse.
        self.items = self._fixed("items", np.zeros((self.n_items + 1, dim + 1)))
        self._solve_rows = tf.function(self._rows, reduce_retracing=True, autograph=False)
        self._sides: tuple[RatingRows, RatingRows] | None = None

    def _rows(self, table: tf.Tensor, at: tf.Tensor, ratings: tf.Tensor) -> tf.Tensor:
        """Ridge solutions of rows of one side.

        Args:
            table: float32 [m + 1, dim + 1], the other side's vectors and biases; row 0 is zero.
            at: int64 [batch, H], indices into ``table``; 0 is padding.
            ratings: float32 [batch, H].

        Returns:
            float32 [batch, dim + 1]; zeros for an empty row.
        """
        here = tf.cast(at > 0, tf.float32)
        other = tf.gather(table, at)
        apart = (ratings - self.mean_rating) / self.scale.unit
        target = here * (apart - other[..., -1])
        design = tf.concat([other[..., :-1], here[..., tf.newaxis]], axis=-1)
        count = tf.maximum(tf.reduce_sum(here, axis=1), 1.0)
        ridge = self.l2 * tf.pow(count, self.nu)
        left = tf.matmul(design, design, transpose_a=True)
        left += ridge[:, tf.newaxis, tf.newaxis] * tf.eye(self.dim + 1)
        right = tf.linalg.matvec(design, target, transpose_a=True)
        return tf.linalg.cholesky_solve(tf.linalg.cholesky(left), right[..., tf.newaxis])[..., 0]

    # -- training -----------------------------------------------------------------------------

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        """One element an epoch: a sweep looks at all ratings anyhow."""
        user, item = (RatingRows.of(data.train, self.scale, side) for side in ("user", "item"))
        self._sides = (user, item)
        random = np.random.default_rng(train.seed)
        first = random.normal(0, self.init_scale, self.items.shape)
        first[:, -1] = (self.item_mean.numpy() - self.mean_rating) / self.scale.unit
        first[0] = 0
        self.items.assign(first.astype(np.float32))
        return tf.data.Dataset.from_tensors(tf.zeros([1]))

    def compile_for(self, train: TrainConfig) -> None:
        self.compile(run_eagerly=True)

    def train_step(self, batch: Any) -> dict[str, Any]:
        if self._sides is None:
            raise RuntimeError("call training_data(data, train) first; it brings the ratings")
        user, item = self._sides
        users = self._half_sweep(user, self.items.numpy())
        self.items.assign(self._half_sweep(item, users))
        return {"mean_item_norm": np.linalg.norm(self.items.numpy()[1:, :-1], axis=1).mean()}

    def _half_sweep(self, rows: RatingRows, table: np.ndarray) -> np.ndarray:
        """Vectors of all rows, float32 [n_rows + 1, dim + 1], the other side's ``table`` fixed."""
        order = np.argsort(rows.counts, kind="stable")  # rows of like length share a block
        out = np.zeros((rows.n_rows + 1, self.dim + 1), np.float32)
        levels = np.concatenate([[0], self.scale.levels]).astype(np.float32)
        fixed, start = tf.constant(table), 0
        while start < len(order):
            # As many rows as fit, judged by a look at the longest of a first guess.
            stop = min(start + 1024, len(order))
            width = max(int(rows.counts[order[stop - 1]]), 1)
            fit = max(1, BLOCK_BYTES // (12 * width * (self.dim + 2)))
            stop = min(stop, start + fit)
            mine = order[start:stop]
            width = max(int(rows.counts[mine[-1]]), 1)
            at = rows.indptr[mine][:, None] + np.arange(width)[None, :]
            inside = np.arange(width)[None, :] < rows.counts[mine][:, None]
            index, ratings = np.zeros(at.shape, np.int64), np.zeros(at.shape, np.float32)
            index[inside] = rows.column[at[inside]] + 1
            ratings[inside] = levels[rows.code[at[inside]]]
            out[mine + 1] = self._solve_rows(fixed, tf.constant(index), tf.constant(ratings))
            start = stop
        return out

    # -- answers ------------------------------------------------------------------------------

    def user_embedding(self, users: Users) -> tf.Tensor:
        """``[p_u, b_u]`` solved from each history, float32 [batch, dim + 1]."""
        code = self.history_codes(users)
        # Back to a list of distinct items: of an item rated twice only the last rating is left.
        longest = tf.maximum(tf.reduce_max(tf.math.count_nonzero(code, axis=1, dtype=tf.int32)), 1)
        rated, at = tf.math.top_k(tf.cast(code > 0, tf.int32), longest)
        ratings = tf.gather(self.scale.levels, tf.maximum(tf.gather(code, at, batch_dims=1) - 1, 0))
        return self._rows(self.items, tf.cast(tf.where(rated > 0, at + 1, 0), tf.int64), ratings)

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        return self.user_embedding({"history": history})

    def item_embedding(self, items: tf.Tensor | None = None) -> tf.Tensor:
        vectors = tf.concat([self.items[1:, :-1], tf.ones([self.n_items, 1])], axis=1)
        return vectors if items is None else tf.gather(vectors, tf.cast(items, tf.int64) - 1)

    def rate_catalogue(self, users: Users) -> tf.Tensor:
        mine = self.user_embedding(users)
        dots = tf.matmul(mine[:, :-1], self.items[1:, :-1], transpose_b=True)
        apart = dots + self.items[1:, -1] + mine[:, -1:]
        return apart * self.scale.unit + self.mean_rating

    def rate_pairs(self, users: Users, at: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        mine = tf.gather(self.user_embedding(users), at)
        other = tf.gather(self.items, items)
        dots = tf.reduce_sum(mine[:, :-1] * other[:, :-1], axis=1)
        return (dots + mine[:, -1] + other[:, -1]) * self.scale.unit + self.mean_rating
