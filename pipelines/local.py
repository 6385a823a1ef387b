"""Runs the pipeline on this machine: TFX's local launcher, SQLite metadata, a line a component."""

from __future__ import annotations

import datetime as dt
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

from pipelines.pipeline import create_pipeline, local_settings
from tfrec.config import Config

Say = Callable[[str], None]


@dataclass(frozen=True)
class ComponentRun:
    """One component of a run: its id, seconds, and whether its result came from the cache."""

    name: str
    seconds: float
    cached: bool


@dataclass
class RunReport:
    """What a run did.

    Attributes:
        components: in the order they ran.
        pushed: serving folder of each model that was pushed in this run, by ``retrieval`` and
            ``ranking``.
        refused: reasons by model, where a gate refused it.
    """

    components: list[ComponentRun] = field(default_factory=list)
    pushed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Sum over the components."""
        return sum(c.seconds for c in self.components)


class _Launcher(launcher.Launcher):
    """Remembers whether the executor ran or the cache answered."""

    ran = False

    def _run_executor(self, execution_info: Any) -> Any:
        self.ran = True
        return super()._run_executor(execution_info)


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
            started = time.monotonic()
            one = _Launcher(
                pipeline_node=node,
                mlmd_connection=metadata.Metadata(connection),
                pipeline_info=pipeline.pipeline_info,
                pipeline_runtime_spec=pipeline.runtime_spec,
                executor_spec=runner_utils.extract_executor_spec(deployment, name),
                custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
            )
            one.launch()
            seconds = time.monotonic() - started
            cached = not one.ran
            self._report.components.append(ComponentRun(name, seconds, cached))
            how = "from the cache" if cached else f"{seconds:.1f} s"
            self._say(f"[{number:2d}/{len(nodes)}] {name}: {how}")


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
    ProgressRunner(say, report).run(create_pipeline(config, settings))
    return report
