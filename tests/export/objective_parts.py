"""A small shop of clicks and purchases, a multi-task ranker of it, and the recommender of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tests.export.recommender_parts import FEATURE_ROWS, NUMBERS
from tests.tables import FEATURES, small_tables
from tfrec.config import Config, parse_config
from tfrec.data.encoded import RetrievalData
from tfrec.export.calibrate import calibrate_trained
from tfrec.export.ranking import export_ranking
from tfrec.export.recommender import Recommendation, assemble
from tfrec.export.retrieval import export_retrieval
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.models.registry import build
from tfrec.training.ranking import fit_ranking

OBJECTIVES = {
    "click": {"events": ["click", "purchase"]},
    "purchase": {"events": ["purchase"], "given": "click"},
    "rating": {"events": ["purchase"], "column": "weight"},
    "revenue": {"events": ["purchase"], "column": "price", "given": "purchase"},
}
WEIGHTS = {"relevance": 0.0, "click": 0.1, "purchase": 2.0, "rating": 0.01, "revenue": 1.0}


def config(ranking: dict[str, Any] | None = None, **sections: Any) -> Config:
    """The configuration; ``ranking`` is merged into its section, other sections replace theirs."""
    values = {
        "name": "small",
        "data": {"format": "synthetic"},
        "features": FEATURE_ROWS,
        "ranking": {
            "model": "multi_task",
            "negatives": 2,
            "history_length": 3,
            "primary": "purchase",
            "last_layer_prior": 0.3,
            "objectives": OBJECTIVES,
            "params": {"hidden": [8], "towers": [6]},
            "train": {"epochs": 2, "batch_size": 64, "learning_rate": 0.05},
            **(ranking or {}),
        },
        "recommender": NUMBERS,
        "utility": {"weights": WEIGHTS, "calibration": "platt", "undo_sampling": "auto"},
    }
    return parse_config({**values, **sections})


def events() -> dict[str, pa.Table]:
    """Splits in which every other event is a purchase."""
    splits, _, _ = small_tables()
    for name, table in splits.items():
        kinds = np.where(np.arange(table.num_rows) % 2, "purchase", "click")
        splits[name] = table.append_column("event", pa.array(kinds.tolist()))
    return splits


@dataclass(frozen=True)
class Shop:
    """What was written.

    Attributes:
        folder: holds ``retrieval`` and ``ranking``.
        model, data: the ranker as it was trained.
    """

    folder: Path
    model: Any
    data: RetrievalData

    def module(self, settings: Config) -> Recommendation:
        """The recommender as it is assembled."""
        items = small_tables()[2]
        parts = self.folder / "retrieval", self.folder / "ranking"
        return assemble(settings, *parts, items, events()["train"])

    def live(self, settings: Config) -> Live:
        """The recommender without a SavedModel: quicker made."""
        module = self.module(settings)
        return Live(module, module.signatures())


class Live(NamedTuple):
    """A recommender that is asked like a loaded one.

    Attributes:
        module: keeps its variables alive.
        signatures: by name.
    """

    module: Recommendation
    signatures: dict[str, Any]


def write_shop(folder: Path, settings: Config | None = None) -> Shop:
    """An untrained retrieval model and a ranker that was trained and calibrated."""
    settings = settings or config()
    splits = events()
    _, users, items = small_tables()
    encoder = fit_encoder(splits["train"], users, items, FEATURES, folder / "vocabularies", 8)
    ranking = settings.ranking
    data = retrieval_data(splits, users, items, encoder, ranking.objectives, ranking.window)
    tf.keras.utils.set_random_seed(3)
    retrieval = build("two_tower", data, {"dim": 8, "history_length": 8})
    export_retrieval(retrieval, data, encoder, folder / "retrieval")
    model = fit_ranking(ranking, data).model
    export_ranking(model, data, encoder, folder / "ranking")
    calibrate_trained(model, data, ranking, settings.utility.calibration, folder / "ranking")
    return Shop(folder, model, data)


def ask(recommender: Any, rows: int, k: int, signature: str = "recommend", **more: Any) -> Any:
    """One user's request so many times, with inputs that may differ from row to row."""
    call = recommender.signatures[signature]
    given = {"user_id": tf.constant(["u1"] * rows), "k": tf.constant(k), **more}
    signed = getattr(call, "input_signature", None)
    specs = {s.name: s for s in signed} if signed else call.structured_input_signature[1]
    for name, spec in specs.items():
        if name in given or name == "k":
            continue
        shape = [rows, *(1 for _ in spec.shape[1:])]
        nothing: Any = {tf.string: "", tf.float32: np.nan}.get(spec.dtype, 0)
        given[name] = tf.fill(shape, tf.constant(nothing, spec.dtype))
    if signature != "recommend":
        given.pop("k")
    return {name: value.numpy() for name, value in call(**given).items()}
