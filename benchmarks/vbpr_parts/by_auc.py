"""Training that keeps the epoch with the best AUC on validation, as VBPR's paper chooses it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.auc import evaluate_auc
from tfrec.models import registry


class BestByAuc(tf.keras.callbacks.Callback):
    """Measures every ``every`` epochs, stops after ``patience`` of them without a rise, and puts
    the best weights back.

    Attributes:
        best: highest mean AUC on validation; best_epoch: its epoch, from 1.
    """

    def __init__(self, data: RetrievalData, every: int, patience: int) -> None:
        super().__init__()
        self.best, self.best_epoch = 0.0, 0
        self._data, self._every, self._patience = data, every, patience
        self._weights: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if (epoch + 1) % self._every:
            return
        area = evaluate_auc(self.model, self._data, "validation", progress=False).mean
        if area > self.best:
            self.best, self.best_epoch = area, epoch + 1
            self._weights = self.model.get_weights()
        elif epoch + 1 - self.best_epoch >= self._patience * self._every:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self._weights:
            self.model.set_weights(self._weights)


def fit_by_auc(
    name: str, params: dict[str, Any], train: TrainConfig, data: RetrievalData, every: int
) -> tuple[Any, BestByAuc]:
    """Trains a model of the registry and says which epoch was kept."""
    tf.keras.utils.set_random_seed(train.seed)
    model = registry.build(name, data, params)
    model.compile_for(train)
    watch = BestByAuc(data, every, train.patience)
    pairs = model.training_data(data, train)
    model.fit(pairs, epochs=train.epochs, callbacks=[watch], verbose=0)
    model.refresh()
    return model, watch
