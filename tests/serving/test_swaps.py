"""New versions under load: nobody sees an error, and the old version's memory comes back."""

from __future__ import annotations

import gc
import shutil
import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from serving.options import Options
from serving.servable import State
from serving.server import Server
from tests.serving import saved_models
from tests.serving.conftest import Client, connect, tensor
from tests.serving.test_server import state, until

MEGABYTES = 32


def push(template: Path, base: Path, version: int) -> None:
    """Copies a version as a pusher does: the graph file last."""
    folder = base / str(version)
    shutil.copytree(template, folder, ignore=shutil.ignore_patterns("saved_model.pb"))
    shutil.copy(template / "saved_model.pb", folder / "copying")
    (folder / "copying").rename(folder / "saved_model.pb")


class Callers:
    """Threads that ask all the time; every answer must belong to the version that gave it."""

    def __init__(self, client: Client, count: int) -> None:
        self.client = client
        self.answers = 0
        self.failures: list[Any] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def _call(self) -> None:
        request = saved_models_request()
        while not self._stop.is_set():
            try:
                response = self.client.prediction.Predict(request, timeout=30)
            except grpc.RpcError as error:
                self.failures.append(error)
                continue
            version = response.model_spec.version.value
            if response.outputs["version"].float_val[0] != version % 2:
                self.failures.append((version, response.outputs["version"].float_val[0]))
            self.answers += 1

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def saved_models_request() -> Any:
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tensor([0.0], np.float32))
    return request


def swap(tmp_path: Path, swaps: int) -> None:
    templates = [tmp_path / "even", tmp_path / "odd"]
    for odd, template in enumerate(templates):
        saved_models.write_ballast(template, odd, MEGABYTES)
    base = tmp_path / "m"
    push(templates[1], base, 1)
    options = Options(model_name="m", model_base_path=str(base), file_system_poll_wait_seconds=0.05)
    process = psutil.Process()
    with Server(options) as server:
        server.wait_until_available("m")
        client = connect(server)
        with Callers(client, 4) as callers:

            def one(version: int) -> None:
                push(templates[version % 2], base, version)
                server.wait_until_available("m", timeout=60, version=version)
                until(lambda: state(server, "m", version - 1) is State.END, 60)
                shutil.rmtree(base / str(version - 1))

            for version in (2, 3):  # the allocator and TensorFlow settle
                one(version)
            gc.collect()
            before = process.memory_info().rss
            for version in range(4, 4 + swaps):
                one(version)
            gc.collect()
            grown = (process.memory_info().rss - before) / 2**20
        client.close()
    assert callers.failures == []
    assert callers.answers > swaps
    assert grown < 1.5 * MEGABYTES, f"{grown:.0f} MiB after {swaps} swaps of {MEGABYTES} MiB"


def test_ten_swaps(tmp_path: Path) -> None:
    swap(tmp_path, 10)


@pytest.mark.slow
def test_a_hundred_swaps(tmp_path: Path) -> None:
    swap(tmp_path, 100)
