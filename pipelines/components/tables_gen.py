"""TablesGen: the raw log as canonical tables, so that reading it is part of the DAG and cached."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar

from tfx.dsl.components.base import base_component, base_driver, executor_spec
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.orchestration import data_types_utils
from tfx.orchestration.metadata import Metadata
from tfx.orchestration.portable import base_driver as ir_base_driver
from tfx.orchestration.portable.data_types import ExecutionInfo
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

import tfrec
from pipelines.artifacts import Tables
from pipelines.spans import Source, resolve
from tfrec.config import Config, DataConfig
from tfrec.data.prepare import prepare
from tfrec.schema import FeatureTable

FINGERPRINT = "input_fingerprint"
_NEWEST = -1


class TablesGenSpec(ComponentSpec):
    """Outputs and properties of ``TablesGen``; ``fingerprint`` is filled in by its driver."""

    PARAMETERS: ClassVar[dict[str, Any]] = {
        "data": ExecutionParameter(type=str),
        "features": ExecutionParameter(type=str),
        "span": ExecutionParameter(type=int),
        "tfrec_version": ExecutionParameter(type=str),
        FINGERPRINT: ExecutionParameter(type=str, optional=True),
    }
    INPUTS: ClassVar[dict[str, Any]] = {}
    OUTPUTS: ClassVar[dict[str, Any]] = {"tables": ChannelParameter(type=Tables)}


def _config(exec_properties: dict[str, Any]) -> Config:
    data = DataConfig.model_validate_json(exec_properties["data"])
    features = FeatureTable.model_validate_json(exec_properties["features"])
    return Config(name="tables", data=data, features=features.features)


def _source(exec_properties: dict[str, Any]) -> Source:
    span = exec_properties["span"]
    return resolve(_config(exec_properties).data.path, None if span == _NEWEST else span)


class Driver(base_driver.BaseDriver, ir_base_driver.BaseDriver):
    """Looks at the input before the cache is asked: new data is a new execution."""

    def __init__(self, metadata_handle: Metadata) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)
        ir_base_driver.BaseDriver.__init__(self, metadata_handle)

    def run(self, execution_info: ExecutionInfo) -> driver_output_pb2.DriverOutput:
        result = driver_output_pb2.DriverOutput()
        properties = dict(execution_info.exec_properties)
        source = _source(properties)
        properties[FINGERPRINT] = f"{source.path}:{source.fingerprint}"
        for name, value in properties.items():
            data_types_utils.set_metadata_value(result.exec_properties[name], value)
        artifact = copy.deepcopy(execution_info.output_dict["tables"][0].mlmd_artifact)
        result.output_artifacts["tables"].artifacts.append(artifact)
        return result


class Executor(BaseExecutor):
    """Calls ``tfrec.data.prepare`` into the artifact's folder."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        tables = artifact_utils.get_single_instance(output_dict["tables"])
        source = _source(exec_properties)
        config = _config(exec_properties)
        data = config.data.model_copy(update={"path": source.path})
        summary = prepare(config.model_copy(update={"data": data}), Path(tables.uri))
        for line in summary.lines():
            print(f"  {line}", flush=True)
        tables.set_int_custom_property("span", source.span)
        tables.set_int_custom_property("version", source.version)


class TablesGen(base_component.BaseComponent):
    """Reads the raw log.

    Args:
        config: its sections ``data`` and ``features``; ``data.path`` may hold ``{SPAN}`` and
            ``{VERSION}``.
        span: the span to read; None reads the newest.
    """

    SPEC_CLASS = TablesGenSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, config: Config, span: int | None = None) -> None:
        super().__init__(
            TablesGenSpec(
                data=config.data.model_dump_json(),
                features=config.feature_table.model_dump_json(),
                span=_NEWEST if span is None else span,
                tfrec_version=tfrec.__version__,
                tables=Channel(type=Tables),
            )
        )
