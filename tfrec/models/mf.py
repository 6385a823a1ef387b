"""Dot-product matrix factorisation with biases, by logistic loss (Rendle et al. 2020) or BPR."""

from __future__ import annotations

import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.models.base import Recommender, Users
from tfrec.models.history_set import once
from tfrec.models.pairs import NEGATIVES, pair_batches
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
        fold_in_steps: int = 20,
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

    def _table(self, name: str, rows: int, dim: int, stddev: float) -> tf.Variable:
        # One initializer each: an unseeded one that is used twice gives the same values twice.
        initializer = tf.keras.initializers.RandomNormal(stddev=stddev) if stddev else "zeros"
        return self.add_weight(name=name, shape=(rows, dim), initializer=initializer)

    def vocabulary_tables(self) -> dict[str, list[tf.Variable]]:
        return {USER_ID: [self.users, self.user_bias], ITEM_ID: [self.items, self.item_bias]}

    # -- training -----------------------------------------------------------------------------

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        return pair_batches(data, train.batch_size, self.negatives, train.seed)

    def compile_for(self, train: TrainConfig) -> None:
        self.compile(optimizer=tf.keras.optimizers.legacy.SGD(train.learning_rate))

    def pair_loss(self, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
        """Loss of each pair [batch], from its score [batch] and its negatives' [batch, n]."""
        raise NotImplementedError

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

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        """A vector by gradient steps on the logistic loss of the history, the items held fixed.

        The negatives are items spread evenly over the catalogue, so that the answer is the same
        every time. See ``Recommender.fold_in``.
        """
        items = once(history, self.n_items)
        present = tf.cast(items > 0, tf.float32)
        count = tf.reduce_sum(present, axis=1)
        spread = tf.range(1, self.n_items + 1, max(1, self.n_items // 128))
        liked, liked_bias = tf.gather(self.items, items), tf.gather(self.item_bias, items)[:, :, 0]
        other, other_bias = tf.gather(self.items, spread), tf.gather(self.item_bias, spread)[:, 0]
        share = self.negatives * count / tf.cast(tf.size(spread), tf.float32)
        vector = tf.zeros([tf.shape(items)[0], self.dim])
        # Steps of Newton's size: the curvature of the loss is at most a quarter of these squares.
        curvature = 0.25 * tf.einsum("bhd,bh->b", liked**2, present)
        curvature += 0.25 * share * tf.reduce_sum(other**2)
        ridge = self.l2 * (1 + self.negatives) * count
        step = 1.0 / (curvature + ridge + 1e-6)
        for _ in range(self.fold_in_steps):
            up = tf.sigmoid(-(tf.einsum("bd,bhd->bh", vector, liked) + liked_bias + self.bias))
            down = tf.sigmoid(tf.matmul(vector, other, transpose_b=True) + other_bias + self.bias)
            gradient = tf.einsum("bh,bhd->bd", up * present, liked)
            gradient -= share[:, tf.newaxis] * tf.matmul(down, other)
            gradient -= ridge[:, tf.newaxis] * vector
            vector += step[:, tf.newaxis] * gradient
        return vector

    def user_embedding(self, users: Users) -> tf.Tensor:
        """Known users have a learned vector; the others are folded in from their history."""
        user = tf.cast(users[USER_ID], tf.int64)
        known = (user >= 1) & (user <= self.n_users)
        row = tf.where(known, user, tf.zeros_like(user))
        learned = tf.where(known[:, tf.newaxis], tf.gather(self.users, row), 0.0)
        if HISTORY not in users:
            return learned
        return tf.cond(
            tf.reduce_all(known),
            lambda: learned,
            lambda: tf.where(known[:, tf.newaxis], learned, self.fold_in(users[HISTORY])),
        )

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
    """Every observed pair is a positive, every drawn one a negative of its own."""

    def pair_loss(self, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
        return tf.nn.softplus(-positive) + tf.reduce_sum(tf.nn.softplus(negative), axis=1)


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
        fold_in_steps: int = 20,
    ) -> None:
        super().__init__(data, dim, negatives, l2, init, history_length, fold_in_steps)

    def pair_loss(self, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.nn.softplus(negative - positive[:, tf.newaxis]), axis=1)
