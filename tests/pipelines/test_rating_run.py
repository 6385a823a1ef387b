"""A rating model by configuration alone: trained, judged, pushed, and served over gRPC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.client import Client
from serving.options import Options
from serving.server import Server
from tests.pipelines.apart import run_script
from tfrec.data.synthetic import id_array

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("rated")
    printed = run_script("rating_run.py", folder)
    return {**json.loads((folder / "found.json").read_text()), "output": printed}


def test_the_gate_lets_it_through(report: dict[str, Any]) -> None:
    assert report["refused"] == {}
    assert list(report["pushed"]) == ["retrieval"]
    assert "retrieval: rmse" in report["output"]
    assert "biased_mf" in report["output"]


def test_it_is_served_with_rated_histories(report: dict[str, Any]) -> None:
    """Two strangers with the same history, one rating it high and one low."""
    folder = Path(report["pushed"]["retrieval"])
    predict = tf.saved_model.load(str(folder)).signatures["predict"]
    items = id_array("i", np.arange(8)).to_pylist()
    asked = {
        name: np.full(2, "", object)
        for name in predict.structured_input_signature[1]
        if name not in ("history", "history_weight")
    }
    asked["item_id"] = np.array(items[:2], object)
    asked["history"] = np.array([items[2:8]] * 2, object)
    asked["history_weight"] = np.array([[5.0] * 6, [1.0] * 6], np.float32)
    expected = predict(**{name: tf.constant(value) for name, value in asked.items()})["rating"]
    options = Options(port=0, model_name="shop", model_base_path=str(folder.parent))
    with Server(options) as server:
        server.wait_until_available("shop", timeout=60)
        with Client(server.grpc_address, "shop", timeout=60) as client:
            found = client.predict(asked, "predict")["rating"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert 1 <= found[1] < found[0] <= 5  # who rates high is expected to rate high
