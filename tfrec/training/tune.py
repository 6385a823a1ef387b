"""Tuning: searches the declared ranges on the validation split, within a budget, resumable.

Optuna's TPE sampler proposes, its median pruner ends trainings that lag behind. The test split is
never read. Every trial is kept in ``<folder>/study.db`` as it ends, so a search that was stopped
goes on where it was.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import yaml

from tfrec.config import Config, Range, RetrievalConfig, TrainConfig
from tfrec.config.models import OF_TRAINING
from tfrec.config.run import RATING_METRICS
from tfrec.data.encoded import RetrievalData
from tfrec.training.fit import FitResult, fit_retrieval
from tfrec.training.metric import validation_metric

if TYPE_CHECKING:
    import optuna

BEST, TABLE, STORAGE = "best.yaml", "trials.csv", "study.db"
STARTUP = 5  # trials drawn at random before the sampler and the pruner have an opinion


@dataclass(frozen=True)
class TuneResult:
    """What a search found.

    Attributes:
        best: the section ``retrieval`` with the best parameters put in; epochs are the best trial's
            best epoch, without early stopping, so that a final fit may take validation in.
        value: its validation metric.
        metric: name of that metric.
        trials: one row a trial: ``trial``, ``state`` (complete, pruned, failed), ``value``,
            ``best_epoch``, ``seconds``, ``error``, and every tuned parameter.
        folder: holds ``best.yaml``, ``trials.csv`` and ``study.db``.
    """

    best: RetrievalConfig
    value: float
    metric: str
    trials: list[dict[str, Any]]
    folder: Path


class _Report(tf.keras.callbacks.Callback):
    """Tells the trial each validation value; ends it where the pruner says so or time is up."""

    def __init__(self, trial: optuna.Trial, metric: str, ends: float) -> None:
        super().__init__()
        self.trial, self.metric, self.ends = trial, metric, ends

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        import optuna

        if time.monotonic() > self.ends:
            self.model.stop_training = True
        value = (logs or {}).get(f"val_{self.metric}")
        if value is None or math.isnan(value):  # a training that diverged ends by itself
            return
        self.trial.report(value, epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"{self.metric} {value:.4f} after epoch {epoch + 1}")


def suggest(trial: optuna.Trial, space: Mapping[str, Range]) -> dict[str, Any]:
    """One value of each range, as the sampler proposes."""
    return {name: _one(trial, name, of) for name, of in space.items()}


def _one(trial: optuna.Trial, name: str, of: Range) -> Any:
    if of.choices:
        return trial.suggest_categorical(name, list(of.choices))
    if isinstance(of.low, int) and isinstance(of.high, int):
        return trial.suggest_int(name, of.low, of.high, log=of.log)
    return trial.suggest_float(name, float(of.low or 0), float(of.high or 0), log=of.log)


def apply(retrieval: RetrievalConfig, values: Mapping[str, Any]) -> RetrievalConfig:
    """The section with values of the search put in; ``train.<name>`` goes to its training."""
    params = {k: v for k, v in values.items() if not k.startswith(OF_TRAINING)}
    train = {k.removeprefix(OF_TRAINING): v for k, v in values.items() if k.startswith(OF_TRAINING)}
    return retrieval.model_copy(
        update={
            "params": {**retrieval.params, **params},
            "train": TrainConfig(**{**retrieval.train.model_dump(), **train}),
        }
    )


def with_hyperparameters(
    section: RetrievalConfig, found: Mapping[str, Any] | None
) -> RetrievalConfig:
    """The section with ``params`` and ``train`` as a tuner in the pipeline left them.

    Args:
        section: as configured.
        found: the parsed file; None where no tuner ran.
    """
    if not found:
        return section
    return RetrievalConfig.model_validate({**section.model_dump(), **found})


def study_name(config: Config, data: RetrievalData, metric: str) -> str:
    """Names what makes trials comparable: model, data, split, ranges, fixed values, metric."""
    fixed = config.retrieval.model_dump(exclude={"search": {"trials", "timeout"}})
    sizes = [len(data.train), len(data.validation), data.n_users, data.n_items]
    seen = config.gate.exclude_seen
    sections = [fixed, config.data.model_dump(), config.split.model_dump(), sizes, metric, seen]
    mark = hashlib.sha256(json.dumps(sections, sort_keys=True, default=str).encode()).hexdigest()
    return f"{config.name}-{config.retrieval.model}-{mark[:12]}"


def tune(
    config: Config,
    data: RetrievalData,
    folder: str | Path,
    *,
    strategy: tf.distribute.Strategy | None = None,
    verbose: int | str = 0,
) -> TuneResult:
    """Searches ``config.retrieval.search`` for the best validation metric.

    That is ``retrieval.search.metric`` or the gate's, which is to be large; for a model that
    predicts ratings it is ``rmse``, or ``mae`` where one of the two says so, to be small.

    The configured parameters themselves are the first trial where the ranges allow them. A trial
    whose parameters a model refuses counts as failed and the search goes on.

    Args:
        config: its section ``retrieval``, and ``gate.metric`` and ``gate.exclude_seen``, are used.
        data: encoded data with a validation split.
        folder: of the results; a second call with the same configuration and data goes on with the
            trials that are there.
        strategy, verbose: see ``fit_retrieval``.

    Raises:
        ValueError: no ranges, no validation events, a metric that the model is not measured by, or
            no trial was completed.
    """
    import optuna

    retrieval = config.retrieval
    search = retrieval.search
    metric = validation_metric(retrieval.model, search.metric or config.gate.metric)
    if search.metric not in (None, metric):
        raise ValueError(
            f"{retrieval.model!r} predicts ratings and is tuned by one of {list(RATING_METRICS)}; "
            f"got retrieval.search.metric {search.metric!r}; leave it out"
        )
    if not search.space:
        raise ValueError(
            "tuning needs at least one range in retrieval.search.space, as "
            "{train.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}}; got none"
        )
    if not len(data.validation):
        raise ValueError(
            "tuning decides by the validation split, which holds no events; raise split.validation"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=study_name(config, data, metric),
        storage=f"sqlite:///{folder / STORAGE}",
        load_if_exists=True,
        direction="minimize" if metric in RATING_METRICS else "maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=1),
    )
    # The seed moves on with the trials: a search gone on with does not repeat its draws.
    seed = search.seed + len(study.trials)
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
    spent = [t for t in study.trials if t.state.is_finished() and not _interrupted(t)]
    ends = time.monotonic() + search.timeout if search.timeout else math.inf
    configured = _configured(retrieval, search.space)
    if configured is not None and not study.trials:
        study.enqueue_trial(configured)

    def objective(trial: optuna.Trial) -> float:
        chosen = apply(retrieval, suggest(trial, search.space))
        try:
            fitted = fit_retrieval(
                chosen.model,
                chosen.params,
                chosen.train,
                data,
                metric=metric,
                exclude_seen=config.gate.exclude_seen,
                callbacks=[_Report(trial, metric, ends)],
                verbose=verbose,
                strategy=strategy,
            )
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}"[:500])
            raise
        finally:
            tf.keras.backend.clear_session()
        return _value(trial, fitted)

    left = search.trials - len(spent)
    if left > 0:
        study.optimize(
            objective,
            n_trials=left,
            timeout=search.timeout or None,
            catch=(ValueError, TypeError, tf.errors.InvalidArgumentError),
            gc_after_trial=True,
        )
    return _finish(study, retrieval, metric, folder)


def _interrupted(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether it was stopped from outside: what a model refused has left its error."""
    return trial.state.name == "FAIL" and "error" not in trial.user_attrs


def _value(trial: optuna.Trial, fitted: FitResult) -> float:
    if fitted.best is None or math.isnan(fitted.best):
        raise ValueError("the training gave no validation value; its loss is no number")
    trial.set_user_attr("best_epoch", fitted.best_epoch)
    return fitted.best


def _configured(retrieval: RetrievalConfig, space: Mapping[str, Range]) -> dict[str, Any] | None:
    """The configured values of the tuned names, where all are given and inside their ranges."""
    given = {**retrieval.params}
    given |= {OF_TRAINING + k: v for k, v in retrieval.train.model_dump().items()}
    if not set(space) <= set(given):
        return None
    for name, of in space.items():
        if not _holds(of, given[name]):
            return None
    return {name: given[name] for name in space}


def _holds(of: Range, value: Any) -> bool:
    """Whether a range can propose a configured value, which may be of any type."""
    if of.choices:
        return value in of.choices
    low, high = of.low, of.high
    if isinstance(value, bool) or not isinstance(value, int | float) or low is None or high is None:
        return False
    whole = isinstance(low, int) and isinstance(high, int)
    return low <= value <= high and (not whole or value == int(value))


def _finish(
    study: optuna.Study, retrieval: RetrievalConfig, metric: str, folder: Path
) -> TuneResult:
    """Writes the table and the best section."""
    names = list(retrieval.search.space)
    rows = [
        {
            "trial": t.number,
            "state": {"fail": "failed"}.get(t.state.name.lower(), t.state.name.lower()),
            "value": t.value,
            "best_epoch": t.user_attrs.get("best_epoch"),
            "seconds": None if t.duration is None else round(t.duration.total_seconds(), 1),
            **{name: t.params.get(name) for name in names},
            "error": t.user_attrs.get("error", ""),
        }
        for t in study.trials
        if t.state.is_finished()
    ]
    with (folder / TABLE).open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["trial"])
        writer.writeheader()
        writer.writerows(rows)
    complete = [t for t in study.trials if t.state.name == "COMPLETE"]
    if not complete:
        errors = sorted({str(r["error"]) for r in rows if r["error"]})
        raise ValueError(
            f"none of {len(rows)} trials was completed; mend retrieval.search; errors: {errors[:3]}"
        )
    trial = study.best_trial
    best = apply(retrieval, trial.params)
    epochs = max(1, int(trial.user_attrs.get("best_epoch") or best.train.epochs))
    best = best.model_copy(
        update={"train": best.train.model_copy(update={"epochs": epochs, "patience": 0})}
    )
    section = {"retrieval": best.model_dump(mode="json", exclude={"search"})}
    head = f"# best of {len(rows)} trials: validation {metric} {study.best_value:.4f}\n"
    (folder / BEST).write_text(head + yaml.safe_dump(section, sort_keys=False))
    return TuneResult(best, float(study.best_value), metric, rows, folder)
