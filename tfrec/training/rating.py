"""Trains any rating model by its registry name, watching the error of the validation ratings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.config.run import RATING_METRICS
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.pointwise import rating_metrics
from tfrec.evaluation.rated import RatingPredictor
from tfrec.models import registry
from tfrec.training.best import BestEpoch
from tfrec.training.fit import FitResult
from tfrec.training.metric import predicts_ratings, rating_models


class ValidateRatings(BestEpoch):
    """Measures the error on ``data.validation``, stops early, puts the best weights back.

    Args:
        data: encoded data; without validation ratings nothing is done.
        every: epochs between measurements; the last epoch is measured too.
        patience: epochs without a fall before training stops; 0 never stops.
        folder: see ``BestEpoch``.
        metric: ``rmse`` or ``mae``.

    Raises:
        ValueError: another metric, or ``every`` below 1.
    """

    def __init__(
        self,
        data: RetrievalData,
        every: int = 1,
        patience: int = 3,
        folder: str | Path | None = None,
        metric: str = "rmse",
    ) -> None:
        super().__init__(rises=False, patience=patience, folder=folder)
        if metric not in RATING_METRICS:
            raise ValueError(
                f"predicted ratings are measured by {list(RATING_METRICS)}; got {metric!r}"
            )
        if every < 1:
            raise ValueError(f"evaluate_every is from 1; got {every}")
        self.data, self.every, self.metric = data, every, metric
        self._predict: RatingPredictor | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        super().on_train_begin(logs)
        if len(self.data.validation):
            self._predict = RatingPredictor(self.model, self.data, self.data.train)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self._predict is None or self._last % self.every:
            return
        value = self._measure()
        if logs is not None:
            logs[f"val_{self.metric}"] = value
        # Weights that are no numbers stay so: an earlier epoch is the best there will be.
        if self.over or math.isnan(value):
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self._predict is not None and self._last and self._last % self.every:
            self._measure()
        super().on_train_end(logs)

    def _measure(self) -> float:
        held = self.data.validation
        assert self._predict is not None
        value = rating_metrics(held.weight, self._predict(held.user, held.item))[self.metric]
        self.note(value)
        return value


def fit_rating(
    name: str,
    params: dict[str, Any] | None,
    train: TrainConfig,
    data: RetrievalData,
    *,
    evaluate_every: int = 1,
    metric: str = "rmse",
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    verbose: int | str = 0,
    strategy: tf.distribute.Strategy | None = None,
    best_folder: str | Path | None = None,
) -> FitResult:
    """Builds, compiles and fits a rating model on ``data.train``.

    Args:
        name: registry name of kind ``rating``.
        params: the model's parameters.
        train: epochs, batch size (rows), learning rate, patience, seed.
        data: encoded data; ``weight`` is the rating; the test split is not touched.
        evaluate_every: epochs between validations.
        metric: which error decides, ``rmse`` or ``mae``.
        callbacks: further Keras callbacks; they see the validation error as ``val_<metric>``.
        verbose: Keras's progress output.
        strategy: the model and its optimizer are built under its scope.
        best_folder: see ``fit_retrieval``.

    Raises:
        KeyError: no such model. TypeError: a parameter it does not take.
        ValueError: a model that predicts no ratings, another metric, no training events, or a
            training that diverged before any epoch was of use.
    """
    if not predicts_ratings(name):
        raise ValueError(f"{name!r} predicts no ratings; rating models are {rating_models()}")
    if not len(data.train):
        raise ValueError("the train split holds no ratings; check the split's shares and filters")
    tf.keras.utils.set_random_seed(train.seed)
    with strategy.scope() if strategy else nullcontext():
        model = registry.build(name, data, params)
        model.compile_for(train)
    validate = ValidateRatings(data, evaluate_every, train.patience, best_folder, metric)
    history = model.fit(
        model.training_data(data, train),
        epochs=train.epochs,
        callbacks=[validate, *callbacks],
        verbose=verbose,
    )
    figures = {key: [float(v) for v in values] for key, values in history.history.items()}
    validate.refuse_divergence(name, train, figures)
    model.observe(data.train)
    return FitResult(
        model=model,
        history=figures,
        best_epoch=validate.best_epoch,
        best=validate.best,
        validated=validate.measured,
    )
