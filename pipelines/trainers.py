"""What TFX's trainer calls: transformed examples in, a SavedModel and golden requests out.

Nothing is modelled here; the work is done by ``tfrec.training`` and ``tfrec.export``.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import RankingConfig, RetrievalConfig
from tfrec.data.encoded import RetrievalData
from tfrec.data.tables import TITLE, read_items, titles
from tfrec.export.batch import latest_version
from tfrec.export.calibrate import calibrate_trained
from tfrec.export.golden import GoldenRequest, record, save_golden
from tfrec.export.ranking import RankingModule, export_ranking
from tfrec.export.rating import observe_known
from tfrec.export.retrieval import export_retrieval, retrieval_module, title_table
from tfrec.export.trained import index_trained
from tfrec.features.counts import as_records, count_features
from tfrec.features.encoder import TransformEncoder
from tfrec.models import registry
from tfrec.schema import FeatureTable
from tfrec.training.fit import FitResult, fit_retrieval
from tfrec.training.ranking import fit_ranking
from tfrec.training.strategy import make_strategy
from tfrec.training.transformed import load_transformed, read_records, split_files
from tfrec.training.tune import with_hyperparameters
from tfrec.training.warm_start import Base

GOLDEN_FILE = "golden.json"
HISTORY_FILE = "history.json"
FEATURES_FILE = "features.json"  # values that were missing, unseen or clipped
GOLDEN_BATCHES = (1, 1, 2, 5, 16)  # rows of each recorded request


@dataclass(frozen=True)
class Inputs:
    """What a trainer was given; made of the ``custom_config`` that TFX hands over.

    Attributes:
        features: the feature table.
        retrieval, ranking: sections of the configuration.
        metric: validation metric of the retrieval model.
        exclude_seen: whether items seen are left out when it is validated.
        examples, raw_examples, tables: folders of the inputs.
        checkpoints: folder of this very job; a job that was killed goes on from it.
        calibration: of the ranker's scores.
    """

    features: FeatureTable
    retrieval: RetrievalConfig
    ranking: RankingConfig
    metric: str
    examples: str
    raw_examples: str
    tables: str
    checkpoints: str
    calibration: str = "none"
    exclude_seen: bool = True

    @classmethod
    def of(cls, custom_config: dict[str, Any]) -> Inputs:
        given = dict(custom_config)
        return cls(
            features=FeatureTable.model_validate_json(given["features"]),
            retrieval=RetrievalConfig.model_validate_json(given["retrieval"]),
            ranking=RankingConfig.model_validate_json(given["ranking"]),
            metric=given["metric"],
            calibration=given.get("calibration", "none"),
            exclude_seen=given.get("exclude_seen", True),
            **{k: given[k] for k in ("examples", "raw_examples", "tables", "checkpoints")},
        )

    @property
    def best_folder(self) -> Path:
        """Where the best epoch is kept while training goes on: among the checkpoints."""
        return Path(self.checkpoints) / "best"

    def load(self, transform_output: str) -> tuple[RetrievalData, TransformEncoder]:
        """The encoded data and its encoder."""
        return load_transformed(
            self.examples,
            transform_output,
            self.features,
            history_length=self.ranking.history_length,
            sampled_negatives=self.ranking.samples_negatives,
        )


def retrieval_run_fn(fn_args: Any) -> None:
    """Trains the retrieval model and writes it.

    Args:
        fn_args: TFX's ``FnArgs``; ``custom_config`` as ``Inputs`` reads it.
    """
    given = Inputs.of(fn_args.custom_config)
    data, encoder = given.load(fn_args.transform_output)
    _count_features(data, fn_args.model_run_dir)
    section = with_hyperparameters(given.retrieval, fn_args.hyperparameters)
    result = fit_retrieval(
        section.model,
        section.params,
        section.train,
        data,
        metric=given.metric,
        exclude_seen=given.exclude_seen,
        callbacks=_callbacks(section.model, given.checkpoints, fn_args.model_run_dir),
        verbose=_verbose(),
        strategy=make_strategy(section.train.replicas),
        base=_base(section, fn_args.base_model, encoder),
        best_folder=given.best_folder,
    )
    for line in result.warm.lines() if result.warm else ():
        print(f"  {line}", flush=True)
    observe_known(result.model, data)
    shown = _titles(given.tables, data)
    exported = (result.model, data, encoder)
    seen = given.exclude_seen
    export_retrieval(*exported, fn_args.serving_model_dir, shown, exclude_seen=seen)
    answer = retrieval_module(*exported, shown, exclude_seen=seen).recommend_examples
    indexed = index_trained(result.model, data, fn_args.serving_model_dir, section.index)
    if indexed is not None:
        print(f"  {indexed.line()}", flush=True)
        # An index finds nearly what the Keras model does: what is served is held to itself.
        saved: Any = tf.saved_model.load(fn_args.serving_model_dir)
        answer = saved.signatures["recommend_examples"]
    _write_run(
        result,
        fn_args.model_run_dir,
        golden_requests(answer, "recommend_examples", given.raw_examples),
    )


def ranking_run_fn(fn_args: Any) -> None:
    """Trains the ranking model and writes it; see ``retrieval_run_fn``."""
    given = Inputs.of(fn_args.custom_config)
    data, encoder = given.load(fn_args.transform_output)
    section = given.ranking
    result = fit_ranking(
        section,
        data,
        strategy=make_strategy(section.train.replicas),
        callbacks=_callbacks(section.model, given.checkpoints, fn_args.model_run_dir),
        verbose=_verbose(),
        best_folder=given.best_folder,
    )
    export_ranking(result.model, data, encoder, fn_args.serving_model_dir)
    calibrated = calibrate_trained(
        result.model, data, section, given.calibration, fn_args.serving_model_dir
    )
    if calibrated is not None:
        print(f"  {calibrated.line()}", flush=True)
    module = RankingModule(result.model, data, encoder)
    _write_run(
        result,
        fn_args.model_run_dir,
        golden_requests(module.rank_examples, "serving_default", given.raw_examples),
    )


def _base(section: RetrievalConfig, blessed: str | None, encoder: TransformEncoder) -> Base | None:
    """The model that training begins with; None for a cold start.

    Args:
        section: says whether and from what.
        blessed: what the resolver found for ``latest``; None where nothing is blessed yet.
        encoder: of today's vocabularies.
    """
    folder = blessed if section.warm_start == "latest" else section.warm_start
    return Base(latest_version(folder), encoder.vocabulary) if folder else None


def _verbose() -> int:
    """A bar on a terminal, a line an epoch elsewhere."""
    return 1 if sys.stdout.isatty() else 2


def _callbacks(model: str, checkpoints: str, run_dir: str) -> Sequence[tf.keras.callbacks.Callback]:
    """A backup after each epoch, for models that train by epochs; curves where TensorBoard is."""
    callbacks: list[tf.keras.callbacks.Callback] = []
    if importlib.util.find_spec("tensorboard") is not None:
        callbacks.append(
            tf.keras.callbacks.TensorBoard(run_dir, write_graph=False, profile_batch=0)
        )
    if getattr(registry.model_class(model), "needs_validation", True):
        callbacks.append(tf.keras.callbacks.BackupAndRestore(checkpoints))
    return callbacks


def _titles(tables: str, data: RetrievalData) -> list[str] | None:
    """Display names by item index; None where the items have no title."""
    items = read_items(tables)
    if TITLE not in items.column_names:
        return None
    by_id = dict(zip(items.column("item_id").to_pylist(), titles(items), strict=True))
    return title_table(list(data.item_ids), by_id)


def golden_requests(
    answer: Callable[[tf.Tensor], dict[str, tf.Tensor]], signature: str, raw_examples: str
) -> list[GoldenRequest]:
    """Asks a model about real rows of the test split and keeps what it says."""
    files = split_files(raw_examples, "test")
    rows = next(iter(read_records(files, sum(GOLDEN_BATCHES)))).numpy()
    edges = np.cumsum((0, *GOLDEN_BATCHES))
    batches = [list(rows[a:b]) for a, b in itertools.pairwise(edges) if a < len(rows)]

    def ask(examples: Sequence[bytes]) -> dict[str, np.ndarray]:
        return {k: v.numpy() for k, v in answer(tf.constant(list(examples))).items()}

    return record(ask, signature, batches)


def _count_features(data: RetrievalData, run_dir: str) -> None:
    """Says and keeps what encoding had to mend."""
    counts = count_features(data)
    for count in counts:
        print(f"  {count.line()}", flush=True)
    folder = Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FEATURES_FILE).write_text(json.dumps(as_records(counts), indent=1))


def _write_run(result: FitResult, run_dir: str, golden: list[GoldenRequest]) -> None:
    folder = Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    save_golden(golden, folder / GOLDEN_FILE)
    kept = {
        "history": result.history,
        "best_epoch": result.best_epoch,
        "best": result.best,
        "validated": result.validated,
    }
    (folder / HISTORY_FILE).write_text(json.dumps(kept, indent=1))
