"""Fits and measures the ranking model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import RankingConfig, TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.objectives import objective_metrics
from tfrec.evaluation.pointwise import binary_metrics, rating_metrics
from tfrec.models import registry
from tfrec.models.last_layer import fit_last_layer
from tfrec.training.best import BestEpoch
from tfrec.training.fit import FitResult
from tfrec.training.ranking_rows import RankingRows, Split

EVALUATION_BATCH = 8192
EVALUATION_SEED = 2016  # of the negatives that validation and test use, the same for every model


class KeepBest(BestEpoch):
    """Measures after each epoch, stops when nothing improves, puts the best weights back.

    Args:
        measure: returns the figures of the model as it is.
        metric: which of them decides; ``auc`` and ``accuracy`` rise, all others fall.
        patience: epochs without improvement before training stops; 0 never stops.
        folder: see ``BestEpoch``.
    """

    def __init__(
        self,
        measure: Callable[[], dict[str, float]],
        metric: str,
        patience: int,
        folder: str | Path | None = None,
    ) -> None:
        super().__init__(metric in ("auc", "accuracy"), patience, folder)
        self.measure, self.metric = measure, metric

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        figures = self.measure()
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in figures.items()})
        self.note(figures[self.metric])
        if self.over:
            self.model.stop_training = True


def fit_rows(
    model: Any,
    batches: tf.data.Dataset,
    steps: int,
    train: TrainConfig,
    measure: Callable[[], dict[str, float]] | None,
    metric: str,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    verbose: int | str = 0,
    best_folder: str | Path | None = None,
) -> FitResult:
    """Fits a compiled ranker on endless batches of ``(inputs, labels)``.

    Args:
        model: the ranker.
        batches: repeats for ever; ``steps`` of them are an epoch.
        steps: see ``batches``.
        train: epochs and patience.
        measure: figures of held-out rows; None trains all epochs.
        metric: which figure decides.
        callbacks: further Keras callbacks; they see the figures as ``val_<name>``.
        verbose: Keras's progress output.
        best_folder: see ``fit_retrieval``.
    """
    keep = None if measure is None else KeepBest(measure, metric, train.patience, best_folder)
    history = model.fit(
        batches,
        epochs=train.epochs,
        steps_per_epoch=steps,
        callbacks=[*([keep] if keep else []), *callbacks],
        verbose=verbose,
    )
    return FitResult(
        model=model,
        history={key: [float(v) for v in values] for key, values in history.history.items()},
        best_epoch=keep.best_epoch if keep else 0,
        best=keep.best if keep else None,
        validated=keep.measured if keep else [],
    )


def build_ranker(ranking: RankingConfig, data: RetrievalData) -> Any:
    """The untrained, compiled ranking model of a configuration.

    ``task``, ``crosses`` and ``history_length`` come from the section itself, the rest from its
    ``params``. The model remembers the section as ``model.ranking``.

    Raises:
        ValueError: the model's kind is not ``ranking``, or a cross names no feature.
        KeyError, TypeError: no such model or parameter.
    """
    registry.check_kind("ranking.model", ranking.model, "ranking")
    many = registry.spec(ranking.model).many
    if ranking.objectives and not many:
        raise ValueError(
            f"ranking.objectives are for model multi_task; got {ranking.model!r}, which predicts "
            f"ranking.label alone; mend ranking.model or leave the objectives out"
        )
    params = {
        "task": ranking.task,
        "crosses": ranking.crosses,
        "history_length": ranking.history_length,
        "seed": ranking.train.seed,
        **({"objectives": ranking.objectives, "primary": ranking.primary} if many else {}),
        **ranking.params,
    }
    model = registry.build(ranking.model, data, params)
    model.compile_for(ranking.train)
    model.ranking = ranking
    return model


def fit_ranking(
    ranking: RankingConfig,
    data: RetrievalData,
    *,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    verbose: int | str = 0,
    best_folder: str | Path | None = None,
) -> FitResult:
    """Builds and fits the ranking model on ``data.train``.

    After every epoch it is measured on ``data.validation`` (AUC, or RMSE for task ``rating``);
    training ends when that has not improved for ``train.patience`` epochs, and the best epoch's
    weights are put back. Without validation events, or with one class alone in them, all epochs
    run.

    Args:
        ranking: model, label, parameters, training.
        data: encoded data; the test split is not touched.
        strategy: the model and its optimizers are built under its scope; the loss is normalised by
            the global batch, so that N replicas take the step that one would.
        callbacks: further Keras callbacks.
        verbose: Keras's progress output.
        best_folder: see ``fit_retrieval``.

    Raises:
        ValueError: no training events, or a section that contradicts itself.
    """
    train = ranking.train
    if ranking.task == "rating" and ranking.label == "purchase":
        raise ValueError(
            "ranking.task 'rating' needs ranking.label 'rating'; sampled unobserved items have no "
            "rating"
        )
    rows = RankingRows(data, "train", ranking)
    tf.keras.utils.set_random_seed(train.seed)
    with strategy.scope() if strategy else nullcontext():
        model = build_ranker(ranking, data)
        if ranking.objectives:
            model.set_priors(rows.labels, rows.rows_an_event)
        else:
            model.set_prior(rows.mean_label)
    metric = "auc" if ranking.task == "binary" else "rmse"
    measure: Callable[[], dict[str, float]] | None = None
    if len(data.validation):
        held = RankingRows(data, "validation", ranking)
        measure = measurer(model, held, ranking)
        if not np.isfinite(measure().get(metric, np.nan)):
            measure = None

    batches = rows.dataset(train.batch_size, train.seed, shuffle=True)
    steps = rows.steps(train.batch_size)
    result = fit_rows(
        model, batches, steps, train, measure, metric, callbacks, verbose, best_folder
    )
    if ranking.last_layer_prior is not None:
        once = rows.dataset(EVALUATION_BATCH, EVALUATION_SEED, shuffle=False)
        model.posterior = fit_last_layer(model, once, ranking.last_layer_prior)
    return result


Score = Callable[[dict[str, tf.Tensor]], tf.Tensor]


def scorer(model: Any, batches: tf.data.Dataset) -> Score:
    """The model as one compiled function of the inputs of ``batches``.

    float32 [batch], or [batch, objective] of a model that has several.
    """

    def answer(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        if hasattr(model, "objective_scores"):
            return tf.stack(list(model.objective_scores(inputs).values()), axis=1)
        return model(inputs, training=False)

    function = tf.function(answer)
    return function.get_concrete_function(batches.element_spec[0])


def predict_rows(score: Score, batches: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores, float32 [row, ...], of batches of ``(inputs, labels)``."""
    found = [(label.numpy(), score(inputs).numpy()) for inputs, label in batches]
    labels, scores = zip(*found, strict=True)
    return np.concatenate(labels), np.concatenate(scores)


def measurer(
    model: Any, rows: RankingRows, ranking: RankingConfig
) -> Callable[[], dict[str, float]]:
    """A function that measures the model as it then is; see ``evaluate_ranking``."""
    batches = rows.dataset(EVALUATION_BATCH, EVALUATION_SEED, shuffle=False)
    if not ranking.objectives:
        return rows_measurer(model, batches, ranking.task)
    score = scorer(model, batches)
    figures = partial(objective_metrics, ranking.objectives, ranking.primary)
    return lambda: figures(*predict_rows(score, batches))


def rows_measurer(
    model: Any, batches: tf.data.Dataset, task: str
) -> Callable[[], dict[str, float]]:
    """``measurer`` for one pass of ready batches."""
    score = scorer(model, batches)
    figures = binary_metrics if task == "binary" else rating_metrics
    return lambda: figures(*predict_rows(score, batches))


def evaluate_ranking(
    model: Any, data: RetrievalData, split: Split, ranking: RankingConfig | None = None
) -> dict[str, float]:
    """Measures a ranking model on the rows of a split.

    Only labels and scores of the split are held, 8 bytes a row.

    Args:
        model: the ranker, as ``fit_ranking`` returns it.
        data: encoded data.
        split: ``train``, ``validation`` or ``test``.
        ranking: how rows and labels are made; None takes ``model.ranking``.

    Returns:
        ``auc``, ``log_loss``, ``accuracy`` (task ``binary``) or ``rmse``, ``mae`` (``rating``).
        For label ``purchase`` they are against sampled negatives, the same for every model. With
        objectives, the figures of each; see ``tfrec.evaluation.objectives.objective_metrics``.

    Raises:
        ValueError: the split holds no events.
    """
    ranking = ranking or model.ranking
    return measurer(model, RankingRows(data, split, ranking), ranking)()
