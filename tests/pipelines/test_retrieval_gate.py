"""The gate's number is the library's own: the same questions, repeats as configured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tensorflow as tf
from tfx.utils import path_utils

from pipelines.components import retrieval_evaluator
from tests.pipelines.gate_inputs import judged, write_raw
from tests.tables import FEATURES, small_tables
from tfrec.config import GateConfig, TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.evaluation.protocol import held_out
from tfrec.export.retrieval import export_retrieval
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.models.registry import build
from tfrec.training.fit import fit_retrieval

METRIC = "ndcg@5"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, RetrievalData, Path]:
    """A model that reads the context, its data with two test events a user, and artifacts."""
    root = tmp_path_factory.mktemp("gate")
    splits, users, items = small_tables()
    later = pa.concat_tables([splits["eval"], splits["test"]])
    splits = {**splits, "eval": later.slice(0, 0), "test": later}
    encoder = fit_encoder(splits["train"], users, items, FEATURES, root / "statistics", 8)
    data = retrieval_data(splits, users, items, encoder)
    tf.keras.utils.set_random_seed(4)
    model = build("two_tower", data, {"dim": 8, "history_length": 8})
    export_retrieval(model, data, encoder, path_utils.serving_model_dir(str(root / "model")))
    write_raw(later, users, root / "raw" / "Split-test")
    return model, data, root


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_gate_measures_what_the_library_measures(
    made: tuple[Any, RetrievalData, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exclude_seen: bool,
) -> None:
    model, data, root = made
    monkeypatch.setattr(retrieval_evaluator, "load_transformed", lambda *a, **k: (data, None))
    gate = GateConfig(metric=METRIC, exclude_seen=exclude_seen)
    measured = judged(root / "model", root, gate, tmp_path)["measured"]

    questions = held_out(data, "test", exclude_seen)
    everybody = held_out(data, "test", exclude_seen=False)
    assert measured["users"] == len(questions.users)
    assert (len(questions.users) < len(everybody.users)) is exclude_seen
    popular = fit_retrieval("popular", {}, TrainConfig(), data).model
    for each, found in (
        (model, measured["candidate"]),
        (popular, measured["baselines"]["popular"]),
    ):
        ours = evaluate(each, data, "test", (5,), exclude_seen=exclude_seen, progress=False)
        assert found == pytest.approx(ours[METRIC], abs=1e-9)
