"""Binary RBM for purchases: one unit an item, on where the user had it; lists by p(v_i = 1 | v)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.losses.replicas import global_sum, replica_count
from tfrec.models.base import Recommender, Users, item_rows_of
from tfrec.models.boltzmann import BinaryMachine, logit
from tfrec.models.closed_form import whole_history_length
from tfrec.models.history_set import history_marks
from tfrec.models.rating import check_positive
from tfrec.models.rating_rows import CODE, RatingRows, Scale
from tfrec.schema import HISTORY


class PurchaseRBM(Recommender):
    """A binary RBM over the items a user had (Salakhutdinov et al. 2007 without ratings).

    Trained by contrastive divergence. The score of an item is the log odds of ``v_i`` given
    ``E[h | v]``, v the history's items.

    Args:
        data: encoded data.
        hidden: hidden units.
        cd, cd_epochs: numbers of Gibbs steps, each for so many epochs; the last stays.
        weight_decay: l2 of the weights.
        history_length: most recent items read; None reads all.

    Raises:
        ValueError: a parameter out of range.
    """

    def __init__(
        self,
        data: RetrievalData,
        hidden: int = 100,
        cd: Sequence[int] = (1, 3, 5),
        cd_epochs: int = 10,
        weight_decay: float = 1e-4,
        history_length: int | None = None,
    ) -> None:
        super().__init__(data)
        check_positive(hidden=hidden, cd_epochs=cd_epochs, cd=min(cd, default=0))
        if weight_decay < 0:
            raise ValueError(f"weight_decay is from 0; got {weight_decay}")
        self.history_length = whole_history_length(data, history_length)
        self.bytes_per_user = 8 * self.n_items
        self.cd, self.cd_epochs = [int(k) for k in cd], cd_epochs
        self.weight_decay, self.steps_per_epoch = weight_decay, 1
        self.machine = BinaryMachine(self.n_items, hidden, "machine")
        shares = data.train.matrix().getnnz(axis=0) / max(data.n_users, 1)
        self.machine.b.assign(logit(shares))
        self._steps = self.add_weight(
            name="steps", shape=(), dtype=tf.int64, initializer="zeros", trainable=False
        )
        self._gap = tf.keras.metrics.Mean("loss")

    @property
    def metrics(self) -> list[Any]:
        return [self._gap]

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        rows = RatingRows.of(data.train, Scale(np.ones(1, np.float32)), "user")
        self.steps_per_epoch = max(1, -(-int((rows.counts > 0).sum()) // train.batch_size))
        return rows.batches(train.batch_size, train.seed)

    def gibbs_steps(self) -> tf.Tensor:
        """k of the present epoch, int32 scalar."""
        at = self._steps // self.steps_per_epoch // self.cd_epochs
        return tf.gather(tf.constant(self.cd), tf.minimum(at, len(self.cd) - 1))

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Users) -> dict[str, tf.Tensor]:
        marks = tf.cast(batch[CODE] > 0, tf.float32)
        sampled = self.machine.gibbs(marks, self.gibbs_steps())
        weights = [self.machine.w, self.machine.b, self.machine.c]
        with tf.GradientTape() as tape:
            rows = global_sum(tf.cast(tf.shape(marks)[0], tf.float32))
            gap = tf.reduce_sum(self.machine.gap(marks, sampled)) / rows
            # Losses of replicas add.
            decay = self.weight_decay * tf.nn.l2_loss(self.machine.w) / replica_count()
            loss = gap + decay
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self._steps.assign_add(1)
        self._gap.update_state(gap)
        return {"loss": self._gap.result()}

    def _marks(self, history: tf.Tensor) -> tf.Tensor:
        return tf.sparse.to_dense(history_marks(history, self.n_items))

    def free_energy(self, users: Users) -> tf.Tensor:
        """Free energy of each history, float32 [batch]; see ``RatingRBM.free_energy``."""
        return self.machine.free_energy(self._marks(users[HISTORY]))

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        return self.machine.up(self._marks(history))

    def user_embedding(self, users: Users) -> tf.Tensor:
        return self.fold_in(users[HISTORY])

    def item_embedding(self, items: tf.Tensor | None = None) -> tf.Tensor:
        if items is None:
            return tf.convert_to_tensor(self.machine.w)
        return item_rows_of(self.machine.w, items)

    def score_catalogue(self, users: Users) -> tf.Tensor:
        hidden = self.user_embedding(users)
        return tf.matmul(hidden, self.machine.w, transpose_b=True) + self.machine.b
