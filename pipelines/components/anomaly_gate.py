"""AnomalyGate: reads what ExampleValidator found, and stops the run if anything was found.

TFX's ExampleValidator only writes its findings down; training would go on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from pipelines.artifacts import REPORT_FILE, Report

ANOMALIES_FILE = "SchemaDiff.pb"


class AnomalyError(RuntimeError):
    """The data breaks the schema; the message lists every anomaly by split and feature."""


def found_anomalies(artifact: Artifact) -> list[str]:
    """One line an anomaly: split, feature, what is wrong."""
    lines = []
    for split in artifact_utils.decode_split_names(artifact.split_names):
        path = Path(artifact_utils.get_split_uri([artifact], split)) / ANOMALIES_FILE
        anomalies = anomalies_pb2.Anomalies.FromString(path.read_bytes())
        for name, info in sorted(anomalies.anomaly_info.items()):
            reasons = "; ".join(r.description or r.short_description for r in info.reason)
            lines.append(f"{split}: {name}: {reasons or info.description}")
        if anomalies.HasField("dataset_anomaly_info"):
            lines.append(f"{split}: whole split: {anomalies.dataset_anomaly_info.description}")
    return lines


class AnomalyGateSpec(ComponentSpec):
    """Inputs, outputs and properties of ``AnomalyGate``."""

    PARAMETERS: ClassVar[dict[str, Any]] = {"stop": ExecutionParameter(type=int)}
    INPUTS: ClassVar[dict[str, Any]] = {
        "anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies)
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {"report": ChannelParameter(type=Report)}


class Executor(BaseExecutor):
    """Raises ``AnomalyError``, or notes what was found."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        lines = found_anomalies(artifact_utils.get_single_instance(input_dict["anomalies"]))
        if lines and exec_properties["stop"]:
            raise AnomalyError(
                f"{len(lines)} anomalies in the data; nothing was trained:\n  "
                + "\n  ".join(lines)
                + "\nmend the data; if it is right, widen the schema (pipeline.schema_file) "
                "or set pipeline.stop_on_anomalies to false"
            )
        folder = Path(artifact_utils.get_single_uri(output_dict["report"]))
        (folder / REPORT_FILE).write_text(json.dumps({"anomalies": lines}, indent=1))
        for line in lines:
            print(f"  anomaly (not stopping): {line}", flush=True)


class AnomalyGate(base_component.BaseComponent):
    """Lets the run go on only over data without anomalies.

    Args:
        anomalies: of ExampleValidator.
        stop: False notes the anomalies and goes on.
    """

    SPEC_CLASS = AnomalyGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, anomalies: BaseChannel, stop: bool) -> None:
        super().__init__(
            AnomalyGateSpec(anomalies=anomalies, stop=int(stop), report=Channel(type=Report))
        )
