"""Runs the pipeline on this machine: TFX's local launcher, SQLite metadata, a line a component."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, runtime_parameter_utils, tfx_runner
from tfx.proto.orchestration import pipeline_pb2

from pipelines.beam_speed import lean_beam
from pipelines.components.pusher import REASONS
from pipelines.pipeline import create_pipeline, local_settings
from tfrec.config import Config

Say = Callable[[str], None]
PUSHED = "pushed_model"


@dataclass(frozen=True)
class ComponentRun:
    """One component of a run.

    Attributes:
        name: its id.
        seconds: wall time.
        cached: whether its result came from the cache.
        cpu_seconds: processor time of this process and of those it started and saw end.
    """

    name: str
    seconds: float
    cached: bool
    cpu_seconds: float = 0.0


@dataclass
class RunReport:
    """What a run did.

    Attributes:
        components: in the order they ran.
        pushed: where each blessed model lies, by ``retrieval`` and ``ranking``; a model that the
            cache knows was pushed by the run that made it.
        refused: reasons by model, where a gate refused it and nothing was pushed.
    """

    components: list[ComponentRun] = field(default_factory=list)
    pushed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Sum over the components."""
        return sum(c.seconds for c in self.components)

    def summary(self) -> list[str]:
        """One line a model, and the time."""
        lines = [f"{model}: pushed, {folder}" for model, folder in self.pushed.items()]
        for model, reasons in self.refused.items():
            lines.append(f"{model}: NOT PUSHED, what was live stays live")
            lines += [f"  {reason}" for reason in reasons]
        return [*lines, f"{self.seconds:.0f} s in {len(self.components)} components"]


class _Launcher(launcher.Launcher):
    """Remembers what the executor said; None where the cache answered."""

    said: Any = None

    def _run_executor(self, execution_info: Any) -> Any:
        self.said = super()._run_executor(execution_info)
        return self.said

    def first_output(self, done: Any, key: str) -> dict[str, Any]:
        """Custom properties of an output, of this execution or of the cached one."""
        if self.said is not None:
            artifact = self.said.output_artifacts[key].artifacts[0]
        else:
            # What the launcher hands back is then a blank; the events name the artifact reused.
            with self._mlmd_connection as connected:
                events = connected.store.get_events_by_execution_ids([done.execution_id])
                ids = [e.artifact_id for e in events if e.path.steps and e.path.steps[0].key == key]
                artifact = connected.store.get_artifacts_by_id(ids)[0]
        found = artifact.custom_properties
        return {name: getattr(v, v.WhichOneof("value")) for name, v in found.items()}


class ProgressRunner(tfx_runner.IrBasedRunner):
    """One component after the other, each with a line when it begins and ends."""

    def __init__(self, say: Say, report: RunReport) -> None:
        self._say = say
        self._report = report

    def run_with_ir(
        self,
        pipeline: pipeline_pb2.Pipeline,
        run_options: pipeline_pb2.RunOptions | None = None,
        **kwargs: Any,
    ) -> None:
        run_id = dt.datetime.now().isoformat()
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
        )
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        kind = deployment.metadata_connection_config.WhichOneof("connection_config")
        connection = getattr(deployment.metadata_connection_config, kind)
        nodes = [node.pipeline_node for node in pipeline.nodes]
        for number, node in enumerate(nodes, 1):
            name = node.node_info.id
            self._say(f"[{number:2d}/{len(nodes)}] {name} ...")
            started, busy = time.monotonic(), _cpu_seconds()
            one = _Launcher(
                pipeline_node=node,
                mlmd_connection=metadata.Metadata(connection),
                pipeline_info=pipeline.pipeline_info,
                pipeline_runtime_spec=pipeline.runtime_spec,
                executor_spec=runner_utils.extract_executor_spec(deployment, name),
                custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
            )
            done = one.launch()
            seconds = time.monotonic() - started
            resolver = not node.outputs.outputs
            # TFX logs a failed resolution of inputs and goes on; here it ends the run.
            cached = one.said is None
            if cached and not resolver and not (done and done.output_dict):
                raise RuntimeError(
                    f"{name}: its inputs are not in the metadata; the log above says which. Were "
                    f"artifacts deleted? Start afresh with another pipeline.root"
                )
            self._report.components.append(
                ComponentRun(name, seconds, cached, _cpu_seconds() - busy)
            )
            how = "from the cache" if cached and not resolver else f"{seconds:.1f} s"
            self._say(f"[{number:2d}/{len(nodes)}] {name}: {how}")
            if name.endswith("Pusher"):
                self._note_push(name.removesuffix("Pusher").lower(), one.first_output(done, PUSHED))

    def _note_push(self, model: str, properties: dict[str, Any]) -> None:
        if properties.get("pushed"):
            self._report.pushed[model] = str(properties["pushed_destination"])
        else:
            self._report.refused[model] = str(properties.get(REASONS, "")).split("\n")


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _print(line: str) -> None:
    print(line, flush=True)


def run(
    config: Config, *, span: int | None = None, cache: bool = True, say: Say = _print
) -> RunReport:
    """Runs the whole pipeline below ``config.pipeline.root``.

    A run that was killed goes on where it was: components that ended are in the cache.

    Args:
        config: what to do.
        span: span of the data to read; None reads the newest.
        cache: False runs every component anew.
        say: is given the progress lines.

    Raises:
        AnomalyError: the data breaks the schema.
        ConfigError: Beam options or schema are wrong.
    """
    settings = local_settings(config, span, cache)
    Path(config.pipeline.root).mkdir(parents=True, exist_ok=True)
    report = RunReport()
    with lean_beam(config.pipeline.beam.get("runner", "DirectRunner") == "DirectRunner"):
        ProgressRunner(say, report).run(create_pipeline(config, settings))
    for line in report.summary():
        say(line)
    return report
