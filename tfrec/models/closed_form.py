"""Models that are solved, not descended: one pass over the events, then linear algebra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.models.base import Recommender
from tfrec.schema import ITEM_ID, USER_ID, WEIGHT

EVENTS_A_BATCH = 1 << 17


def event_batches(data: RetrievalData, batch_size: int = EVENTS_A_BATCH) -> tf.data.Dataset:
    """The training events in order: ``{user_id, item_id int32, weight float32}``, each [event]."""
    train = data.train
    count = len(train)
    # Whole slices: cutting event by event would cost more than solving.
    arrays = {
        name: tf.constant(values)
        for name, values in ((USER_ID, train.user), (ITEM_ID, train.item), (WEIGHT, train.weight))
    }

    def cut(start: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: values[start : start + batch_size] for name, values in arrays.items()}

    return tf.data.Dataset.range(0, count, batch_size).map(cut).prefetch(2)


def whole_history_length(data: RetrievalData, history_length: int | None) -> int:
    """H of a model that reads all a user has had: the longest history at test time.

    Args:
        data: counts the events of each user before the test split.
        history_length: where given, this cap instead.

    Raises:
        ValueError: a cap below 1.
    """
    if history_length is not None:
        if history_length < 1:
            raise ValueError(
                f"history_length is a number of items from 1, or null for the whole history; "
                f"got {history_length}"
            )
        return history_length
    counts = data.train.user_counts() + data.validation.user_counts()
    return int(max(counts.max(initial=0), 1))


class ClosedForm(Recommender):
    """Base of the models whose ``fit`` takes a single pass.

    A subclass implements ``solve(matrix)``, which assigns its variables. ``fit`` keeps Keras's
    signature, so that training code need not tell the two kinds apart; epochs mean nothing to it.
    """

    needs_validation: ClassVar[bool] = False
    binary: ClassVar[bool] = True

    def solve(self, matrix: sp.csr_matrix) -> Mapping[str, float]:
        """Learns from users by items, float32 [n_users, n_items]; returns figures to log."""
        raise NotImplementedError

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        return event_batches(data)

    def compile_for(self, train: TrainConfig) -> None:
        tf.random.set_seed(train.seed)
        self.compile()

    def fit(self, x: Any = None, **kwargs: Any) -> tf.keras.callbacks.History:
        """Reads the events once and solves.

        Args:
            x: the dataset of ``training_data``.
            **kwargs: Keras's other arguments; only ``callbacks`` is looked at.

        Raises:
            ValueError: there are no events.
        """
        users, items, weights = [], [], []
        for batch in x:
            users.append(batch[USER_ID].numpy())
            items.append(batch[ITEM_ID].numpy())
            weights.append(batch[WEIGHT].numpy())
        if not users:
            raise ValueError(
                f"{type(self).__name__} needs training events; the train split is empty"
            )
        values = np.concatenate(weights).astype(np.float32)
        at = (np.concatenate(users) - 1, np.concatenate(items) - 1)
        if self.binary:
            values = np.ones_like(values)
        matrix = sp.csr_matrix((values, at), shape=(self.n_users, self.n_items))
        matrix.sum_duplicates()
        if self.binary:
            matrix.data[:] = 1.0
        history = tf.keras.callbacks.History()
        callbacks = tf.keras.callbacks.CallbackList(
            kwargs.get("callbacks"), add_history=False, model=self, epochs=1, steps=1
        )
        history.set_model(self)
        for each in (history, callbacks):
            each.on_train_begin()
        logs = dict(self.solve(matrix))
        for each in (history, callbacks):
            each.on_epoch_end(0, logs)
            each.on_train_end()
        return history

    def _variable(self, name: str, shape: tuple[int, ...]) -> tf.Variable:
        """A float32 variable that ``solve`` assigns; saved with the model, never trained."""
        return self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)
