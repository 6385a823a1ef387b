"""The trainers' run functions, outside TFX, on what the pipeline made."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from pipelines import trainers
from tests.pipelines.conftest import Ran
from tests.pipelines.drive import FEATURES, tiny
from tfrec.config import RetrievalConfig, TrainConfig
from tfrec.export.golden import load_golden
from tfrec.schema import FeatureTable

pytestmark = pytest.mark.timeout(1800)


class Killed(RuntimeError):
    """Stands for a kill in the middle of training."""


class KillAfter(tf.keras.callbacks.Callback):
    """Raises when an epoch has ended."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if epoch + 1 == self.epoch:
            raise Killed


def arguments(ran: Ran, folder: Path, epochs: int) -> SimpleNamespace:
    """TFX's ``FnArgs`` as far as the run function reads it."""
    train = TrainConfig(epochs=epochs, batch_size=64, patience=0)
    section = RetrievalConfig(model="two_tower", params={"dim": 8}, train=train)
    return SimpleNamespace(
        custom_config={
            "features": FeatureTable.model_validate({"features": FEATURES}).model_dump_json(),
            "retrieval": section.model_dump_json(),
            "ranking": tiny(folder).ranking.model_dump_json(),
            "metric": "recall@10",
            "examples": str(ran.artifact("Transform", "transformed_examples")),
            "raw_examples": str(ran.artifact("ExampleGen", "examples")),
            "tables": str(ran.artifact("TablesGen", "tables")),
            "checkpoints": str(folder / "checkpoints"),
        },
        transform_output=str(ran.artifact("Transform", "transform_graph")),
        hyperparameters=None,
        base_model=None,
        model_run_dir=str(folder / "run"),
        serving_model_dir=str(folder / "model"),
    )


def test_a_killed_trainer_goes_on_from_its_last_epoch(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(ran, tmp_path, epochs=3)
    usual = trainers._callbacks
    monkeypatch.setattr(trainers, "_callbacks", lambda *a: [*usual(*a), KillAfter(2)])
    with pytest.raises(Killed):
        trainers.retrieval_run_fn(given)
    assert not (tmp_path / "model").exists()
    monkeypatch.setattr(trainers, "_callbacks", usual)
    trainers.retrieval_run_fn(given)
    history = json.loads((tmp_path / "run" / trainers.HISTORY_FILE).read_text())
    assert len(history["history"]["loss"]) == 1, "two of three epochs were done before the kill"
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    for request in load_golden(tmp_path / "run" / trainers.GOLDEN_FILE):
        answer = loaded.signatures[request.signature](tf.constant(list(request.examples)))
        np.testing.assert_allclose(answer["score"], request.answer["score"], rtol=1e-4)
