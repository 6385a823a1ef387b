"""InfraValidator: TFX's component, with the embedded server in place of Docker or Kubernetes.

Request builder, gRPC client, blessing and warm-up records stay TFX's own; only the server differs,
and the blessing says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import portpicker
from tfx.components.infra_validator import error_types, executor
from tfx.components.infra_validator.model_server_runners import base_runner
from tfx.dsl.components.base import base_component, executor_spec
from tfx.proto import infra_validator_pb2
from tfx.types import standard_artifacts, standard_component_specs
from tfx.types.channel import BaseChannel, Channel

import serving

WARMUP_REQUESTS = 16
_LOADING_SECONDS = 180


class EmbeddedRunner(base_runner.BaseModelServerRunner):
    """Runs ``python -m serving`` on one model, in a process of its own.

    Args:
        model_path: ``<base>/<model name>/<version>``.
        model_name: as requests name it.
    """

    def __init__(self, model_path: str, model_name: str) -> None:
        self._base = Path(model_path).parent
        self._name = model_name
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __repr__(self) -> str:
        return f"EmbeddedRunner({self._name} at {self._base})"

    def GetEndpoint(self) -> str:
        """``host:port``."""
        assert self._port is not None, "the server has not been started"
        return f"localhost:{self._port}"

    def Start(self) -> None:
        """Starts the process."""
        assert self._process is None, "a runner starts once; make a new one"
        self._port = portpicker.pick_unused_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        root = str(Path(serving.__file__).resolve().parent.parent)
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "serving",
                f"--port={self._port}",
                f"--model_name={self._name}",
                f"--model_base_path={self._base}",
            ],
            env={**os.environ, "PYTHONPATH": path},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def WaitUntilRunning(self, deadline: float) -> None:
        """Checks that the process lives; the client then waits for the model."""
        del deadline
        assert self._process is not None, "the server has not been started"
        time.sleep(0.1)
        if self._process.poll() is not None:
            raise error_types.JobAborted(f"the server ended with {self._process.returncode}")

    def Stop(self) -> None:
        """Ends the process; kills it where it does not end by itself."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def GetLogs(self) -> str | None:
        """What the server wrote."""
        if self._log is None:
            return None
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-20_000:]


class Executor(executor.Executor):
    """TFX's executor on the embedded server."""

    def _Do(self, model: Any, examples: Any, blessing: Any, **given: Any) -> None:
        super()._Do(model=model, examples=examples, blessing=blessing, **given)
        blessing.set_string_custom_property("server", "embedded")

    def _ValidateOnce(
        self,
        model_path: str,
        serving_binary: Any,
        serving_spec: infra_validator_pb2.ServingSpec,
        validation_spec: infra_validator_pb2.ValidationSpec,
        requests: list[Any],
    ) -> None:
        deadline = time.time() + validation_spec.max_loading_time_seconds
        runner = EmbeddedRunner(model_path, serving_spec.model_name)
        try:
            runner.Start()
            runner.WaitUntilRunning(deadline)
            client = serving_binary.MakeClient(runner.GetEndpoint())
            client.WaitUntilModelLoaded(deadline, polling_interval_sec=0.2)
            client.SendRequests(requests)
        except Exception as error:
            log = runner.GetLogs()
            print(f"  infra validator: {error}\n--- server ---\n{log}--- end ---", flush=True)
            raise
        finally:
            runner.Stop()


class EmbeddedInfraValidator(base_component.BaseComponent):
    """Loads the model in the embedded server, asks it about real rows, records them as warm-up.

    It has TFX's spec but not its class, which Kubeflow's compiler refuses for its need of Docker.

    Args:
        model: of the trainer.
        examples: raw, of ExampleGen; the split ``test`` is asked about.
        name: the name it will be served under.
        signature: takes serialized examples.
    """

    SPEC_CLASS = standard_component_specs.InfraValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self, *, model: BaseChannel, examples: BaseChannel, name: str, signature: str
    ) -> None:
        spec = infra_validator_pb2
        super().__init__(
            standard_component_specs.InfraValidatorSpec(
                model=model,
                examples=examples,
                blessing=Channel(type=standard_artifacts.InfraBlessing),
                serving_spec=spec.ServingSpec(
                    # TFX asks for one of its platforms; the executor above starts neither.
                    tensorflow_serving=spec.TensorFlowServing(tags=["embedded"]),
                    local_docker=spec.LocalDockerConfig(),
                    model_name=name,
                ),
                request_spec=spec.RequestSpec(
                    tensorflow_serving=spec.TensorFlowServingRequestSpec(
                        signature_names=[signature]
                    ),
                    split_name="test",
                    num_examples=WARMUP_REQUESTS,
                    make_warmup=True,
                ),
                validation_spec=spec.ValidationSpec(
                    max_loading_time_seconds=_LOADING_SECONDS, num_tries=1
                ),
            )
        )
