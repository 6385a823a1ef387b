"""GoldenRequests: the recorded answers of the Keras model against every way of asking its export.

Replays through ``tf.saved_model.load``, gRPC and REST. The differences are an artifact; beyond the
tolerance the model is refused.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from pipelines.blessing import Verdict, write_verdict
from pipelines.trainers import GOLDEN_FILE
from serving.client import Client, RestClient
from serving.options import Options
from serving.server import Server
from tfrec.export.golden import TOLERANCE, Difference, GoldenRequest, compare, load_golden

MODEL = "golden"
Ask = Callable[[GoldenRequest], dict[str, np.ndarray]]


@contextmanager
def served(model: Path) -> Iterator[Server]:
    """The embedded server on one SavedModel, on ports of the kernel's choice."""
    with tempfile.TemporaryDirectory() as base:
        (Path(base) / "1").symlink_to(model.resolve())
        with Server(Options(model_name=MODEL, model_base_path=base, rest_api_port=0)) as server:
            server.wait_until_available(MODEL, timeout=180)
            yield server


@contextmanager
def routes(model: Path, server: Server) -> Iterator[dict[str, Ask]]:
    """Ways of asking: name -> function; their connections are open within."""
    loaded = tf.saved_model.load(str(model))

    def saved_model(request: GoldenRequest) -> dict[str, np.ndarray]:
        answer = loaded.signatures[request.signature](tf.constant(list(request.examples)))
        return {name: value.numpy() for name, value in answer.items()}

    def over(client: Client | RestClient) -> Ask:
        def ask(request: GoldenRequest) -> dict[str, np.ndarray]:
            examples = np.array(request.examples, dtype=object)
            return client.predict({"examples": examples}, request.signature)

        return ask

    with (
        Client(server.grpc_address, MODEL, timeout=60) as grpc_client,
        RestClient(str(server.rest_address), MODEL, timeout=60) as rest_client,
    ):
        yield {"saved_model": saved_model, "grpc": over(grpc_client), "rest": over(rest_client)}


def replay(
    requests: Sequence[GoldenRequest], asked: dict[str, Ask], tolerance: float
) -> list[Difference]:
    """Every request by every route; an error of a route is a difference too."""
    found = []
    for route, ask in asked.items():
        for number, request in enumerate(requests):
            try:
                answer = ask(request)
            except Exception as error:
                print(f"  golden requests: {route} failed: {error}", flush=True)
                found.append(Difference(route, number, type(error).__name__, "missing", 1.0))
                continue
            found += compare(route, number, request.answer, answer, tolerance)
    return found


class GoldenRequestsSpec(ComponentSpec):
    """Inputs, outputs and properties of ``GoldenRequests``."""

    PARAMETERS: ClassVar[dict[str, Any]] = {"tolerance": ExecutionParameter(type=float)}
    INPUTS: ClassVar[dict[str, Any]] = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_run": ChannelParameter(type=standard_artifacts.ModelRun),
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {"verdict": ChannelParameter(type=Verdict)}


class Executor(BaseExecutor):
    """Replays and writes the verdict."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        run = Path(artifact_utils.get_single_uri(input_dict["model_run"]))
        uri = artifact_utils.get_single_uri(input_dict["model"])
        model = Path(path_utils.serving_model_path(uri))
        requests = load_golden(run / GOLDEN_FILE)
        tolerance = exec_properties["tolerance"]
        try:
            with served(model) as server, routes(model, server) as asked:
                found = replay(requests, asked, tolerance)
        except Exception as error:
            print(f"  golden requests: the model cannot be served: {error}", flush=True)
            found = [Difference("server", 0, type(error).__name__, "missing", 1.0)]
        reasons = [
            f"{d.route}, request {d.request}: {d.output} differs ({d.kind} {d.size:.3g})"
            for d in found[:20]
        ]
        if len(found) > 20:
            reasons.append(f"... and {len(found) - 20} more")
        measured = {
            "requests": len(requests),
            "rows": sum(len(r.examples) for r in requests),
            "routes": ["saved_model", "grpc", "rest"],
            "tolerance": tolerance,
            "differences": [asdict(d) for d in found],
        }
        verdict = artifact_utils.get_single_instance(output_dict["verdict"])
        write_verdict(verdict, "golden requests", reasons, measured)


class GoldenRequests(base_component.BaseComponent):
    """Compares what was trained with what will be served.

    Args:
        model, model_run: of the trainer; the run holds the recorded requests.
        tolerance: largest difference of a score, relative to 1 + |score|.
    """

    SPEC_CLASS = GoldenRequestsSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self, *, model: BaseChannel, model_run: BaseChannel, tolerance: float = TOLERANCE
    ) -> None:
        super().__init__(
            GoldenRequestsSpec(
                model=model,
                model_run=model_run,
                tolerance=tolerance,
                verdict=Channel(type=Verdict),
            )
        )
