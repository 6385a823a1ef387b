"""Trains any retrieval model by its registry name, watching the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.models import registry
from tfrec.training.metric import predicts_ratings, validation_metric
from tfrec.training.validate import Validate
from tfrec.training.warm_start import Base, WarmStart, warm_start


@dataclass(frozen=True)
class FitResult:
    """A trained model and how it got there.

    Attributes:
        model: with the weights of its best epoch.
        history: figures by name, one value an epoch (a validation metric only where measured, see
            ``Validate.measured``).
        best_epoch: the epoch whose weights were kept, from 1; 0 where nothing was validated.
        best: the validation metric at that epoch; None where nothing was validated.
        validated: ``(epoch, value)`` of each validation.
        warm: what was taken over of an earlier model; None after a cold start.
    """

    model: Any
    history: dict[str, list[float]]
    best_epoch: int
    best: float | None
    validated: list[tuple[int, float]] = field(default_factory=list)
    warm: WarmStart | None = None


def fit_retrieval(
    name: str,
    params: dict[str, Any] | None,
    train: TrainConfig,
    data: RetrievalData,
    *,
    evaluate_every: int = 1,
    metric: str = "ndcg@10",
    exclude_seen: bool = True,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    verbose: int | str = 0,
    strategy: tf.distribute.Strategy | None = None,
    max_memory_mb: float = 512,
    base: Base | None = None,
    best_folder: str | Path | None = None,
) -> FitResult:
    """Builds, compiles and fits a model on ``data.train``.

    A rating model is handed on to ``fit_rating``, which validates by RMSE (or, where ``metric``
    says so, by MAE) instead.

    After every ``evaluate_every`` epochs the model is measured on ``data.validation`` (whole
    catalogue); training ends when the metric has not risen for ``train.patience`` epochs, and the
    best epoch's weights are put back. Without validation events all epochs run and the last weights
    stay. Closed-form models take their single pass and are validated once.

    Args:
        name: registry name.
        params: the model's parameters.
        train: epochs, batch size, learning rate, patience, seed.
        data: encoded data; the test split is not touched.
        evaluate_every: epochs between validations; the last epoch is always validated.
        metric: which validation metric decides, as ``'recall@10'``; ``rmse`` or ``mae`` for models
            that predict ratings alone.
        exclude_seen: False where a user may be recommended the same item again.
        callbacks: further Keras callbacks; they run after validation and see its metric in
            ``logs`` as ``val_<metric>``.
        verbose: Keras's progress output.
        strategy: the model and its optimizer are built under its scope.
        max_memory_mb: bound on the memory of validation.
        best_folder: where the best epoch is kept on disk while training goes on, for one that may
            be killed and gone on with (callback ``BackupAndRestore``); see ``BestEpoch``.
        base: an earlier model whose weights training begins with; see ``warm_start``.

    Raises:
        KeyError: no such model. TypeError: a parameter it does not take.
        ValueError: no training events, a bad metric, ``base`` for a rating model, or a training
            that diverged before any epoch was of use.
    """
    if not len(data.train):
        raise ValueError(
            "the train split holds no events; check the split's shares and the filters "
            "data.min_item_events and data.min_user_events"
        )
    metric = validation_metric(name, metric)
    if predicts_ratings(name):
        from tfrec.training.rating import fit_rating

        if base is not None:
            raise ValueError(
                f"retrieval.warm_start: {name!r} predicts ratings and starts cold; set "
                f"retrieval.warm_start: null"
            )
        return fit_rating(
            name,
            params,
            train,
            data,
            evaluate_every=evaluate_every,
            metric=metric,
            callbacks=callbacks,
            verbose=verbose,
            strategy=strategy,
            best_folder=best_folder,
        )
    tf.keras.utils.set_random_seed(train.seed)
    with strategy.scope() if strategy else nullcontext():
        model = registry.build(name, data, params)
        model.compile_for(train)
    warm = warm_start(model, data, base) if base is not None else None
    validate = Validate(
        data,
        metric,
        every=evaluate_every,
        patience=train.patience,
        exclude_seen=exclude_seen,
        max_memory_mb=max_memory_mb,
        folder=best_folder,
    )
    history = model.fit(
        model.training_data(data, train),
        epochs=train.epochs,
        callbacks=[validate, *callbacks],
        verbose=verbose,
    )
    figures = {key: [float(v) for v in values] for key, values in history.history.items()}
    validate.refuse_divergence(name, train, figures)
    model.refresh()
    return FitResult(
        model=model,
        history=figures,
        best_epoch=validate.best_epoch,
        best=validate.best,
        validated=validate.measured,
        warm=warm,
    )
