"""Dot-product matrix factorisation with biases, by logistic loss (Rendle et al. 2020) or BPR."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.losses.logistic import softplus
from tfrec.losses.optimizers import LazyAdam
from tfrec.losses.replicas import global_sum
from tfrec.losses.whole_catalogue import whole_catalogue_logistic
from tfrec.models.base import Recommender, Users
from tfrec.models.fold_in import (
    average_user,
    covariance_factor,
    fold_in_histories,
    with_folded,
)
from tfrec.models.pairs import (
    BLOCK_USERS,
    COUNTS,
    NEGATIVES,
    checked_pairs,
    pair_batches,
    user_blocks,
)
from tfrec.schema import HISTORY, ITEM_ID, USER_ID


class MatrixFactorisation(Recommender):
    """Score of a pair = ``b + b_u + b_i + w_u . h_i``; stochastic gradient steps on sampled pairs.

    The learning rate is that of a single example, as in the paper: gradients of a batch are summed,
    and a step touches only the rows of the batch.

    Args:
        data: sizes.
        dim: length of the vectors.
        negatives: uniform items drawn for each observed pair.
        l2: regularisation of the vectors and biases of each example.
        init: standard deviation of the first vectors.
        history_length: most recent items read to answer an unknown user.
        fold_in_steps: gradient steps of that answer.

    Raises:
        ValueError: a size below 1, or a negative regularisation.
    """

    def __init__(
        self,
        data: RetrievalData,
        dim: int = 64,
        negatives: int = 8,
        l2: float = 0.005,
        init: float = 0.1,
        history_length: int = 50,
        fold_in_steps: int = 40,
    ) -> None:
        super().__init__(data)
        if min(dim, negatives, history_length, fold_in_steps) < 1 or l2 < 0 or init <= 0:
            raise ValueError(
                f"dim, negatives, history_length and fold_in_steps are from 1, l2 from 0, init "
                f"positive; got {dim}, {negatives}, {history_length}, {fold_in_steps}, {l2}, {init}"
            )
        self.dim, self.negatives, self.l2 = dim, negatives, l2
        self.history_length, self.fold_in_steps = history_length, fold_in_steps
        # Row 0 is the unknown user and the padding item.
        self.users = self._table("users", data.n_users + 1, dim, init)
        self.items = self._table("items", data.n_items + 1, dim, init)
        self.user_bias = self._table("user_bias", data.n_users + 1, 1, 0.0)
        self.item_bias = self._table("item_bias", data.n_items + 1, 1, 0.0)
        self.bias = self.add_weight(name="bias", shape=(), initializer="zeros")
        # Who has training events, their mean and covariance: vectors with the bias at the end.
        known = tf.keras.initializers.Constant(np.float32(data.train.user_counts() > 0))
        self.user_known = self._constant("user_id_known", (data.n_users + 1,), known)
        self.average = self._constant("average_user", (dim + 1,), "zeros")
        self.scatter = self._constant(
            "users_scatter", (dim + 1, dim + 1), tf.keras.initializers.Identity(init)
        )

    def _constant(self, name: str, shape: tuple[int, ...], first: object) -> tf.Variable:
        return self.add_weight(name=name, shape=shape, initializer=first, trainable=False)

    def _table(self, name: str, rows: int, dim: int, stddev: float) -> tf.Variable:
        # One initializer each: an unseeded one that is used twice gives the same values twice.
        initializer = tf.keras.initializers.RandomNormal(stddev=stddev) if stddev else "zeros"
        return self.add_weight(name=name, shape=(rows, dim), initializer=initializer)

    def vocabulary_tables(self) -> dict[str, list[tf.Variable]]:
        return {
            USER_ID: [self.users, self.user_bias, self.user_known],
            ITEM_ID: [self.items, self.item_bias],
        }

    # -- training -----------------------------------------------------------------------------

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        return pair_batches(data, train.batch_size, self.negatives, train.seed)

    def compile_for(self, train: TrainConfig) -> None:
        self.compile(optimizer=tf.keras.optimizers.legacy.SGD(train.learning_rate))

    def pair_loss(self, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
        """Loss of each pair [batch], from its score [batch] and its negatives' [batch, n]."""
        raise NotImplementedError

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Users) -> dict[str, tf.Tensor]:
        """One step; the summed loss of the batch goes down, its mean is reported."""
        shown = tf.concat([batch[ITEM_ID][:, tf.newaxis], batch[NEGATIVES]], axis=1)
        with tf.GradientTape() as tape:
            user = tf.gather(self.users, batch[USER_ID])
            user_bias = tf.gather(self.user_bias, batch[USER_ID])
            items = tf.gather(self.items, shown)
            item_bias = tf.gather(self.item_bias, shown)
            scores = tf.einsum("bd,bnd->bn", user, items) + item_bias[:, :, 0] + user_bias
            scores += self.bias
            loss = tf.reduce_sum(self.pair_loss(scores[:, 0], scores[:, 1:]))
            # Every drawn example weighs on its own rows, so frequent rows are held more.
            squares = tf.reduce_sum(items**2) + tf.reduce_sum(item_bias**2)
            examples = tf.cast(tf.shape(shown)[1], tf.float32)
            squares += examples * (tf.reduce_sum(user**2) + tf.reduce_sum(user_bias**2))
            total = loss + 0.5 * self.l2 * squares
        variables = self.trainable_variables
        gradients = tape.gradient(total, variables, unconnected_gradients="none")
        self.optimizer.apply_gradients(
            [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        )
        return {"loss": loss / tf.cast(tf.shape(shown)[0], tf.float32)}

    # -- answers ------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Mean and covariance of the learned users: who is unknown is taken for one of them."""
        table = tf.concat([self.users, self.user_bias], axis=1)
        self.average.assign(average_user(table, self.user_known))
        self.scatter.assign(covariance_factor(table, self.average, self.user_known))

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        """A vector by steps on the logistic loss of the history, the items held fixed.

        The user's bias is found along with it. See ``fold_in_by_steps`` and
        ``Recommender.fold_in``.
        """
        return self._folded(history)[:, : self.dim]

    def _folded(self, history: tf.Tensor) -> tf.Tensor:
        """Vectors with the bias behind, float32 [batch, dim + 1]."""

        def logits(vectors: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
            user, rows = vectors[:, : self.dim], tf.gather(self.items, items)
            if items.shape[0] == 1:
                dots = tf.matmul(user, rows[0], transpose_b=True)
            else:
                dots = tf.einsum("bd,bnd->bn", user, rows)
            bias = tf.gather(self.item_bias, items)[:, :, 0] + vectors[:, self.dim :]
            return dots + bias + self.bias

        return fold_in_histories(
            history,
            self.n_items,
            logits,
            self.average,
            self.scatter,
            self.n_items,
            negatives=self.negatives,
            l2=self.l2,
            steps=self.fold_in_steps,
        )

    def user_embedding(self, users: Users) -> tf.Tensor:
        """Users of training have a learned vector; the others are folded in from their history."""
        user = tf.cast(users[USER_ID], tf.int64)
        row = tf.where((user >= 1) & (user <= self.n_users), user, tf.zeros_like(user))
        known = tf.gather(self.user_known, row) > 0
        average = self.average[: self.dim]
        learned = tf.where(known[:, tf.newaxis], tf.gather(self.users, row), average)
        if HISTORY not in users:
            return learned
        history = users[HISTORY]
        return with_folded(learned, ~known, lambda rows: self.fold_in(tf.gather(history, rows)))

    def item_embedding(self, items: tf.Tensor | None = None) -> tf.Tensor:
        if items is None:
            return self.items[1:]
        # An unknown item has an index behind the table, and no vector.
        known = (items >= 1) & (items <= self.n_items)
        vectors = tf.gather(self.items, tf.where(known, items, tf.zeros_like(items)))
        return tf.where(known[..., tf.newaxis], vectors, 0.0)

    def score_catalogue(self, users: Users) -> tf.Tensor:
        vectors = self.user_embedding(users)
        return tf.matmul(vectors, self.items[1:], transpose_b=True) + self.item_bias[1:, 0]

    def score(self, users: Users, items: tf.Tensor) -> tf.Tensor:
        vectors = self.user_embedding(users) * tf.gather(self.items, items)
        return tf.reduce_sum(vectors, axis=1) + tf.gather(self.item_bias, items)[:, 0]


class LogisticMF(MatrixFactorisation):
    """Every observed pair is a positive, every drawn one a negative of its own.

    With ``pairs: catalogue`` nothing is drawn: a step takes ``block_users`` users with all items,
    each weighing what it would be drawn, and Adam goes down the mean. That is a matrix product in
    place of a gather for every pair: far fewer, far cheaper epochs while the catalogue is small.

    Args:
        data, dim, negatives, l2, init, history_length, fold_in_steps: see ``MatrixFactorisation``.
        pairs: ``sampled`` or ``catalogue``; of the latter ``training.batch_size`` is not read and
            the learning rate is Adam's.
        block_users: users a step of ``catalogue``.

    Raises:
        ValueError: a number or a name out of its range.
    """

    def __init__(
        self,
        data: RetrievalData,
        dim: int = 64,
        negatives: int = 8,
        l2: float = 0.005,
        init: float = 0.1,
        history_length: int = 50,
        fold_in_steps: int = 40,
        pairs: str = "sampled",
        block_users: int = BLOCK_USERS,
    ) -> None:
        super().__init__(data, dim, negatives, l2, init, history_length, fold_in_steps)
        if block_users < 1:
            raise ValueError(f"block_users is a number from 1; got {block_users}; mend 'params'")
        self.pairs, self.block_users = checked_pairs(pairs), block_users

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        if self.pairs == "catalogue":
            return user_blocks(data, train.seed, self.block_users)
        return super().training_data(data, train)

    def compile_for(self, train: TrainConfig) -> None:
        if self.pairs == "catalogue":
            self.compile(optimizer=LazyAdam(train.learning_rate))
        else:
            super().compile_for(train)

    def pair_loss(self, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
        return softplus(-positive) + tf.reduce_sum(softplus(negative), axis=1)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Users) -> dict[str, tf.Tensor]:
        if self.pairs != "catalogue":
            return super().train_step(batch)
        with tf.GradientTape() as tape:
            user = tf.gather(self.users, batch[USER_ID])
            user_bias = tf.gather(self.user_bias, batch[USER_ID])
            item, item_bias = self.items[1:], self.item_bias[1:]
            logits = tf.matmul(user, item, transpose_b=True)
            logits += user_bias + tf.transpose(item_bias) + self.bias
            found = whole_catalogue_logistic(logits, batch[COUNTS], self.negatives)
            of_user = tf.reduce_sum(user**2, axis=1) + user_bias[:, 0] ** 2
            of_item = tf.reduce_sum(item**2, axis=1) + item_bias[:, 0] ** 2
            penalty = 0.5 * self.l2 * found.charged(of_user, of_item)
            total = (found.loss + penalty) / global_sum(tf.reduce_sum(found.examples))
        variables = self.trainable_variables
        gradients = tape.gradient(total, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {"loss": found.loss / tf.reduce_sum(batch[COUNTS])}


class BPR(MatrixFactorisation):
    """Bayesian personalised ranking: the observed item above each drawn one (Rendle 2009)."""

    def __init__(
        self,
        data: RetrievalData,
        dim: int = 64,
        negatives: int = 1,
        l2: float = 0.01,
        init: float = 0.1,
        history_length: int = 50,
        fold_in_steps: int = 40,
    ) -> None:
        super().__init__(data, dim, negatives, l2, init, history_length, fold_in_steps)

    def pair_loss(self, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.nn.softplus(negative - positive[:, tf.newaxis]), axis=1)
