"""A search inside the pipeline: what it found best is what is trained, judged and pushed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import tensorflow as tf

from tests.pipelines.apart import run_script
from tests.pipelines.tuned_run import DIMS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_the_best_trial_is_trained_and_pushed(tmp_path: Path) -> None:
    run_script("tuned_run.py", tmp_path)
    node = tmp_path / "run/artifacts/RetrievalTuner"
    (best,) = node.glob("best_hyperparameters/*/best_hyperparameters.txt")
    dim = json.loads(best.read_text())["params"]["dim"]
    (table,) = node.glob("tuner_results/*/trials.csv")
    trials = list(csv.DictReader(table.read_text().splitlines()))
    metric = next(name for name in trials[0] if "recall@10" in name or name == "value")
    assert int(max(trials, key=lambda row: float(row[metric]))["dim"]) == dim
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["refused"] == {}
    pushed = tf.train.load_checkpoint(found["pushed"]["retrieval"] + "/variables/variables")
    widths = {shape[1] for shape in pushed.get_variable_to_shape_map().values() if len(shape) == 2}
    assert dim in DIMS
    assert dim in widths
    assert not widths & ({2, *DIMS} - {dim})
