"""The pipeline as a pure function of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tensorflow_data_validation as tfdv
from tfx.components import ExampleValidator, StatisticsGen, Transform
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import transform_pb2

from pipelines.components.anomaly_gate import AnomalyGate
from pipelines.components.schema_gen import SchemaGen
from pipelines.components.tables_gen import TablesGen
from pipelines.example_gen.component import ExampleGen
from tfrec.config import Config


@dataclass(frozen=True)
class RunSettings:
    """What a run needs beside the configuration; nothing in it is read from disk here.

    Attributes:
        artifacts: folder or bucket of the artifacts.
        serving: folder or bucket that models are pushed to.
        metadata: SQLite file of the metadata; None where the platform keeps it.
        beam: Beam's command-line options.
        schema: text of the curated schema; None infers one.
        span: span of the data to read; None reads the newest.
        cache: whether unchanged components are taken from earlier runs.
    """

    artifacts: str
    serving: str
    metadata: str | None = None
    beam: list[str] = field(default_factory=list)
    schema: str | None = None
    span: int | None = None
    cache: bool = True


def create_pipeline(config: Config, settings: RunSettings) -> Pipeline:
    """Builds the pipeline; runs nothing and reads nothing.

    Args:
        config: what to do.
        settings: where.
    """
    nodes: list[BaseNode] = []

    tables = TablesGen(config, settings.span)
    examples = ExampleGen(tables.outputs["tables"], config)
    statistics = StatisticsGen(
        examples=examples.outputs["examples"],
        stats_options=tfdv.StatsOptions(num_top_values=20, num_rank_histogram_buckets=100),
        exclude_splits=["items"],
    )
    schema = SchemaGen(statistics.outputs["statistics"], config, settings.schema)
    validator = ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    gate = AnomalyGate(validator.outputs["anomalies"], config.pipeline.stop_on_anomalies)
    transform = Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="pipelines.transforming.preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(
            analyze=["train", "items"], transform=["train", "eval", "test", "items"]
        ),
        custom_config={
            "features": config.feature_table.model_dump_json(),
            "history_length": config.ranking.history_length,
        },
        disable_statistics=True,
        disable_analyzer_cache=True,
    )
    transform.add_upstream_node(gate)
    nodes += [tables, examples, statistics, schema, validator, gate, transform]

    metadata = sqlite_metadata_connection_config(settings.metadata) if settings.metadata else None
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=settings.artifacts,
        components=nodes,
        enable_cache=settings.cache,
        metadata_connection_config=metadata,
        beam_pipeline_args=list(settings.beam),
    )


def local_settings(config: Config, span: int | None = None, cache: bool = True) -> RunSettings:
    """Settings for a run on this machine, below ``pipeline.root``.

    Raises:
        ConfigError: ``pipeline.beam`` or the curated schema is wrong.
    """
    from pipelines.beam_options import beam_args

    root = Path(config.pipeline.root).absolute()
    schema_file = config.pipeline.schema_file
    return RunSettings(
        artifacts=str(root / "artifacts"),
        serving=str(config.pipeline.serving or root / "serving"),
        metadata=str(root / "metadata.sqlite"),
        beam=beam_args(config.pipeline.beam),
        schema=Path(schema_file).read_text() if schema_file else None,
        span=span,
        cache=cache,
    )
