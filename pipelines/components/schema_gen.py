"""SchemaGen: the curated schema, or one inferred from the train split and made firm.

What is inferred is completed by ``history`` (not measured: it repeats ``item_id``) and images (not
measured: pixels), and narrowed by
the feature table: scalars have a fixed shape (cheap to parse, and a
missing column is an anomaly), lists any length; ids and text have no list of allowed values, and
categories may bring a few new ones before that is an anomaly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfrec.config import Config, ConfigError
from tfrec.schema import HISTORY, FeatureTable

SCHEMA_FILE = "schema.pbtxt"
MIN_DOMAIN_MASS = 0.95  # share of a category's values that the train split must have known


def parse_schema(text: str, origin: str) -> schema_pb2.Schema:
    """A schema from its text form.

    Raises:
        ConfigError: it is none.
    """
    try:
        return text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise ConfigError(f"{origin}: a schema is a text proto of tfmd Schema; {error}") from None


def firm(schema: schema_pb2.Schema, features: FeatureTable, history: bool) -> schema_pb2.Schema:
    """Completes and narrows an inferred schema; see the module's docstring.

    Args:
        schema: inferred from the measured columns; changed in place.
        features: the feature table.
        history: whether rows have a ``history``.
    """
    by_name = {feature.name: feature for feature in features}
    for column in schema.feature:
        feature = by_name.get(column.name)
        is_list = feature is not None and feature.kind == "multi" and feature.separator is None
        column.ClearField("value_count")
        column.ClearField("shape")
        if is_list:
            column.ClearField("presence")
        else:
            width = feature.dim if feature is not None and feature.kind == "embedding" else 1
            column.shape.dim.add(size=width)
            column.presence.min_fraction = 1.0
            column.presence.min_count = 1
        if feature is None or feature.kind not in ("categorical", "multi"):
            column.ClearField("domain_info")
        elif column.HasField("domain"):
            column.distribution_constraints.min_domain_mass = MIN_DOMAIN_MASS
    used = {column.domain for column in schema.feature if column.HasField("domain")}
    kept = [domain for domain in schema.string_domain if domain.name in used]
    del schema.string_domain[:]
    schema.string_domain.extend(kept)
    for feature in features:
        if feature.kind == "image" and feature.name not in [c.name for c in schema.feature]:
            schema.feature.add(name=feature.name, type=schema_pb2.BYTES)
    if history:
        schema.feature.add(name=HISTORY, type=schema_pb2.BYTES)
    return schema


class SchemaGenSpec(ComponentSpec):
    """Inputs, outputs and properties of ``SchemaGen``."""

    PARAMETERS: ClassVar[dict[str, Any]] = {
        "features": ExecutionParameter(type=str),
        "history_length": ExecutionParameter(type=int),
        "curated": ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, Any]] = {
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics)
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {"schema": ChannelParameter(type=standard_artifacts.Schema)}


class Executor(BaseExecutor):
    """Writes ``schema.pbtxt``."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        folder = Path(artifact_utils.get_single_uri(output_dict["schema"]))
        if exec_properties["curated"]:
            schema = parse_schema(exec_properties["curated"], "pipeline.schema_file")
        else:
            import tensorflow_data_validation as tfdv

            statistics = artifact_utils.get_single_instance(input_dict["statistics"])
            train = stats_artifact_utils.load_statistics(statistics, "train").proto()
            features = FeatureTable.model_validate_json(exec_properties["features"])
            schema = firm(
                tfdv.infer_schema(train, infer_feature_shape=True),
                features,
                history=bool(exec_properties["history_length"]),
            )
        (folder / SCHEMA_FILE).write_text(text_format.MessageToString(schema))


class SchemaGen(base_component.BaseComponent):
    """The schema that every later component reads by.

    Args:
        statistics: with the split ``train``.
        config: its feature table.
        curated: text of a curated schema; None infers one.
    """

    SPEC_CLASS = SchemaGenSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, statistics: BaseChannel, config: Config, curated: str | None) -> None:
        if curated is not None:
            parse_schema(curated, str(config.pipeline.schema_file))
        super().__init__(
            SchemaGenSpec(
                statistics=statistics,
                features=config.feature_table.model_dump_json(),
                history_length=config.ranking.history_length,
                curated=curated or "",
                schema=Channel(type=standard_artifacts.Schema),
            )
        )
