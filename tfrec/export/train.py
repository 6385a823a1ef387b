"""Trains and exports both models of a configuration in one process, without TFX."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrec.config import Config
from tfrec.config.run import RATING_METRICS
from tfrec.data.prepare import QUARANTINE, Summary
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.evaluation.rated import evaluate_ratings, held_out_ratings
from tfrec.export.batch import ModelFolderError, latest_version
from tfrec.export.calibrate import calibrate_trained
from tfrec.export.ranking import export_ranking
from tfrec.export.rating import observe_known
from tfrec.export.recommender.assemble import assemble, save_recommender
from tfrec.export.retrieval import export_retrieval, title_table
from tfrec.export.trained import index_trained
from tfrec.features.counts import as_records, count_features
from tfrec.models.registry import spec
from tfrec.training.checks import check_models
from tfrec.training.fit import fit_retrieval
from tfrec.training.metric import predicts_ratings
from tfrec.training.ranking import evaluate_ranking, fit_ranking
from tfrec.training.strategy import make_strategy
from tfrec.training.warm_start import Base
from tfrec.training.workspace import open_workspace

REPORT = "report.json"
REPORTED = ("recall@10", "recall@100", "ndcg@10")


class _Epochs(tf.keras.callbacks.Callback):
    """A line an epoch."""

    def __init__(self, say: Callable[[str], None], name: str) -> None:
        super().__init__()
        self._say, self._name = say, name

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        figures = ", ".join(f"{key} {value:.4f}" for key, value in (logs or {}).items())
        self._say(f"{self._name} epoch {epoch + 1}: {figures}")


def earlier_model(
    warm_start: str | None, versions: Path, vocabulary: Callable[[str], Any]
) -> Base | None:
    """The model that ``retrieval.warm_start`` names; None for a cold start.

    Args:
        warm_start: as configured.
        versions: folder in which ``latest`` looks.
        vocabulary: of today's encoder.

    Raises:
        ModelFolderError: a path without a SavedModel.
    """
    if warm_start is None:
        return None
    if warm_start != "latest":
        return Base(latest_version(warm_start), vocabulary)
    try:
        return Base(latest_version(versions), vocabulary)
    except ModelFolderError:
        return None  # the first model of all


def train_models(
    config: Config, folder: str | Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Trains, measures on the test split, exports.

    Args:
        config: the configuration.
        folder: gets ``tables/``, ``retrieval/<version>/``, ``ranking/<version>/``, where
            ``recommender.enabled`` says so ``recommender/<version>/``, and
            ``report.json``; versions are unix seconds, as TensorFlow Serving likes them.
        say: is given progress lines.

    Returns:
        The report: figures of both models and their folders; of a retrieval model that predicts
        ratings ``rmse`` and ``mae``, too.

    Raises:
        ValueError, KeyError, TypeError: see ``check_models``.
    """
    check_models(config)
    folder = Path(folder)
    say("reading and encoding the data")
    space = open_workspace(config, folder)
    version = str(int(time.time()))
    aside = Summary.read(folder / "tables")
    for line in aside.lines():
        say(line)
    if aside.quarantined:
        say(f"  row by row, with reasons: {folder / 'tables' / QUARANTINE}")
    for name, kinds in space.images.items():
        say(f"images {name}: " + ", ".join(f"{n:,} {kind}" for kind, n in kinds.items()))
    counts = count_features(space.data)
    for count in counts:
        say(count.line())
    report: dict[str, Any] = {"name": config.name, "features": as_records(counts)}
    retrieval = config.retrieval
    if predicts_ratings(retrieval.model):
        held_out_ratings(space.data, "test")  # tells before training that there are none
    base = earlier_model(retrieval.warm_start, folder / "retrieval", space.encoder.vocabulary)
    fitted = fit_retrieval(
        retrieval.model,
        dict(retrieval.params),
        retrieval.train,
        space.data,
        metric=config.gate.metric,
        exclude_seen=config.gate.exclude_seen,
        callbacks=[_Epochs(say, retrieval.model)],
        strategy=make_strategy(retrieval.train.replicas),
        base=base,
    )
    for line in fitted.warm.lines() if fitted.warm else ():
        say(line)
    observe_known(fitted.model, space.data)
    found = evaluate(fitted.model, space.data, "test", exclude_seen=config.gate.exclude_seen)
    errors = {}
    if predicts_ratings(retrieval.model):
        errors = evaluate_ratings(fitted.model, space.data)
        say(f"{retrieval.model}: test RMSE {errors['rmse']:.4f}, MAE {errors['mae']:.4f}")
    names = space.titles()
    titles = title_table(list(space.data.item_ids), names) if names else None
    path = export_retrieval(
        fitted.model,
        space.data,
        space.encoder,
        folder / "retrieval" / version,
        titles,
        exclude_seen=config.gate.exclude_seen,
    )
    indexed = index_trained(fitted.model, space.data, path, retrieval.index)
    if indexed is not None:
        say(indexed.line())
    report["retrieval"] = {
        "model": retrieval.model,
        "kind": spec(retrieval.model).kind,
        "best_epoch": fitted.best_epoch,
        "folder": str(path),
        "warm_start": str(base.folder) if base else None,
        "index": indexed.as_dict() if indexed else None,
        **{metric: found[metric] for metric in REPORTED},
        **{metric: errors[metric] for metric in RATING_METRICS if metric in errors},
    }
    if config.ranking.enabled:
        strategy = make_strategy(config.ranking.train.replicas)
        ranker = fit_ranking(
            config.ranking,
            space.data,
            strategy=strategy,
            callbacks=[_Epochs(say, config.ranking.model)],
        )
        path = export_ranking(ranker.model, space.data, space.encoder, folder / "ranking" / version)
        figures = evaluate_ranking(ranker.model, space.data, "test")
        calibrated = calibrate_trained(
            ranker.model, space.data, config.ranking, config.utility.calibration, path
        )
        if calibrated is not None:
            say(calibrated.line())
        report["ranking"] = {
            "model": config.ranking.model,
            "folder": str(path),
            "calibration": asdict(calibrated) if calibrated else None,
            **figures,
        }
    if config.ranking.enabled and config.recommender.enabled:
        say("assembling the one-call recommender")
        module = assemble(
            config,
            report["retrieval"]["folder"],
            report["ranking"]["folder"],
            space.tables.items,
            space.splits["train"],
        )
        path = save_recommender(module, folder / "recommender" / version)
        report["recommender"] = {"folder": str(path)}
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n")
    return report
