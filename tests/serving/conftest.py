"""A server for the suite: ours in this process, or the one at ``--target host:port``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.options import Options
from serving.server import Server
from serving.tensors import encode
from tests.serving import saved_models


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--target", default=None, help="gRPC host:port of a running server")
    parser.addoption(
        "--target-rest", default=None, help="its REST host:port (default: port 8501 of the host)"
    )


class _Arrays:
    """``array.int8([1, 2])``: an array of the dtype of that name."""

    def __getattr__(self, dtype: str) -> Callable[[Any], Any]:
        return lambda value: np.array(value, dtype)


array = _Arrays()


def tensor(value: Any, dtype: Any = None) -> Any:
    """TensorProto in the typed fields."""
    given = np.asarray(value, dtype)
    if given.dtype.kind in "US":
        given = np.vectorize(lambda s: s.encode() if isinstance(s, str) else s, otypes=[object])(
            given
        )
    return encode(given)


@dataclass
class Client:
    """The official stubs and plain HTTP to one server."""

    grpc_address: str
    rest_address: str | None
    channel: grpc.Channel
    ours: bool

    def __post_init__(self) -> None:
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.session = requests.Session()

    def predict(self, model: str, timeout: float | None = 30, **inputs: Any) -> Any:
        """Outputs of serving_default as arrays."""
        import tensorflow as tf

        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        for alias, value in inputs.items():
            request.inputs[alias].CopyFrom(tensor(value))
        response = self.prediction.Predict(request, timeout=timeout)
        return {alias: tf.make_ndarray(value) for alias, value in response.outputs.items()}

    def status(self, model: str) -> dict[int, Any]:
        """Version -> ModelVersionStatus."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        response = self.models.GetModelStatus(request, timeout=30)
        return {entry.version: entry for entry in response.model_version_status}

    def post(self, path: str, body: Any) -> requests.Response:
        """POST of JSON, or of bytes as they are."""
        url = f"{self.rest_address}{path}"
        if isinstance(body, bytes):
            return self.session.post(url, data=body, timeout=30)
        return self.session.post(url, json=body, timeout=30)

    def get(self, path: str) -> requests.Response:
        return self.session.get(f"{self.rest_address}{path}", timeout=30)

    def close(self) -> None:
        self.session.close()
        self.channel.close()


def connect(server: Server) -> Client:
    """A client of a server in this process."""
    channel = grpc.insecure_channel(server.grpc_address)
    return Client(server.grpc_address, server.rest_address, channel, ours=True)


@pytest.fixture(scope="session")
def suite_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Config file of the suite's models, freshly written."""
    return saved_models.write_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of the server under test."""
    target = request.config.getoption("--target", default=None)
    if target:
        rest = request.config.getoption("--target-rest") or f"{target.rpartition(':')[0]}:8501"
        found = Client(target, f"http://{rest}", grpc.insecure_channel(target), ours=False)
        yield found
        found.close()
        return
    config = request.getfixturevalue("suite_models")
    options = Options(
        rest_api_port=0,
        model_config_file=str(config),
        allow_version_labels_for_unavailable_models=True,
    )
    with Server(options) as server:
        for name in ("half_plus_two", "half_plus_three", "types", "busy"):
            server.wait_until_available(name)
        for version in (1, 2):
            server.wait_until_available("two_versions", version=version)
        found = connect(server)
        yield found
        found.close()


@pytest.fixture
def embedded(client: Client) -> Client:
    """The same, for tests that only make sense on our server."""
    if not client.ours:
        pytest.skip("needs control over the server; --target was given")
    return client


@pytest.fixture
def half_plus(tmp_path: Path) -> Path:
    """A base path with version 1 (adds 2)."""
    saved_models.write_half_plus(tmp_path / "model" / "1", 2)
    return tmp_path / "model"
