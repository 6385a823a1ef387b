"""The pipeline as a pure function of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow_data_validation as tfdv
from tfx.components import ExampleValidator, StatisticsGen, Transform
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import transform_pb2
from tfx.types import standard_artifacts
from tfx.types.channel import Channel

from pipelines.blessed import BlessedBefore
from pipelines.blessing import Verdict
from pipelines.components.anomaly_gate import AnomalyGate
from pipelines.components.golden_requests import GoldenRequests
from pipelines.components.infra_validator import EmbeddedInfraValidator
from pipelines.components.pusher import GatedPusher
from pipelines.components.ranking_evaluator import ranking_gate
from pipelines.components.recommender_assembler import RecommenderAssembler
from pipelines.components.retrieval_evaluator import RetrievalEvaluator
from pipelines.components.retrieval_tuner import RetrievalTuner
from pipelines.components.schema_gen import SchemaGen
from pipelines.components.tables_gen import TablesGen
from pipelines.components.trainer import ModelTrainer
from pipelines.example_gen.component import ExampleGen
from tfrec.config import Config, ConfigError
from tfrec.data.objectives import columns_of
from tfrec.schema import LABEL, TIMESTAMP, WEIGHT
from tfrec.training.checks import check_models
from tfrec.training.transformed import LOG_ORDER

# Names under which the models are served.
RETRIEVAL, RANKING, RECOMMENDER = "retrieval", "ranking", "recommender"


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

    Raises:
        ValueError, KeyError, TypeError: see ``check_models``.
    """
    check_models(config)
    nodes: list[BaseNode] = []
    labels = columns_of(config.ranking.objectives)

    tables = TablesGen(config, settings.span)
    examples = ExampleGen(tables.outputs["tables"], config)
    statistics = StatisticsGen(
        examples=examples.outputs["examples"],
        stats_options=tfdv.StatsOptions(
            feature_allowlist=measured_columns(config),
            num_top_values=20,
            num_rank_histogram_buckets=100,
        ),
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
        # Histories are made by the trainers from the events themselves; encoding them in every row
        # would double Transform's work and output.
        custom_config={
            "features": config.feature_table.model_dump_json(),
            "history_length": 0,
            **({"passed": labels} if labels else {}),
        },
        disable_statistics=True,
        disable_analyzer_cache=True,
    )
    transform.add_upstream_node(gate)
    nodes += [tables, examples, statistics, schema, validator, gate, transform]

    nodes += retrieval_nodes(config, settings, tables, examples, schema, transform)
    if config.ranking.enabled:
        nodes += ranking_nodes(config, settings, tables, examples, schema, transform)
    if config.ranking.enabled and config.recommender.enabled:
        nodes += recommender_nodes(config, settings, nodes)

    metadata = sqlite_metadata_connection_config(settings.metadata) if settings.metadata else None
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=settings.artifacts,
        components=nodes,
        enable_cache=settings.cache,
        metadata_connection_config=metadata,
        beam_pipeline_args=list(settings.beam),
    )


def measured_columns(config: Config) -> list[str]:
    """Columns that statistics are made of: all but ``history`` and images.

    History repeats ``item_id`` and holds most values of a row; counting its distinct values again
    was a third of StatisticsGen's time on MovieLens-1M.
    """
    names = [f.name for f in config.feature_table if f.kind != "image"]
    labels = columns_of(config.ranking.objectives)
    return [*names, WEIGHT, TIMESTAMP, LABEL, LOG_ORDER, *labels]


def retrieval_nodes(
    config: Config,
    settings: RunSettings,
    tables: TablesGen,
    examples: ExampleGen,
    schema: SchemaGen,
    transform: Transform,
) -> list[BaseNode]:
    """From transformed examples to a pushed retrieval model."""
    raw = examples.outputs["examples"]
    tuner = None
    if config.retrieval.search.in_pipeline:
        tuner = RetrievalTuner(
            examples=transform.outputs["transformed_examples"],
            transform_graph=transform.outputs["transform_graph"],
            config=config,
        )
    resolver = None
    if config.retrieval.warm_start == "latest":
        resolver = last_blessed(transform, own_resolver=settings.metadata is not None)
    trainer = ModelTrainer(
        "retrieval",
        examples=transform.outputs["transformed_examples"],
        raw_examples=raw,
        tables=tables.outputs["tables"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema.outputs["schema"],
        config=config,
        hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
        base_model=resolver.outputs["model"] if resolver else None,
    ).with_id("RetrievalTrainer")
    evaluator = RetrievalEvaluator(
        model=trainer.outputs["model"],
        examples=transform.outputs["transformed_examples"],
        raw_examples=raw,
        transform_graph=transform.outputs["transform_graph"],
        config=config,
        serving=f"{settings.serving}/{RETRIEVAL}",
    )
    before = [node for node in (tuner, resolver) if node is not None]
    gates = {"quality": evaluator.outputs["verdict"]}
    pushed = push_nodes(trainer, raw, settings, RETRIEVAL, "recommend_examples", gates)
    return [*before, trainer, evaluator, *pushed]


def last_blessed(transform: Transform, own_resolver: bool) -> Resolver:
    """The retrieval model that training begins with: the newest blessed before today's data came.

    The candidate of the strategy is the transformed data, not a model: as long as the data stays,
    the answer stays, and a second run finds its trainer in the cache. Only the verdicts of the
    retrieval evaluator name the model they are about.

    Args:
        transform: of this run.
        own_resolver: whether the platform runs our strategy.

    Raises:
        ConfigError: it does not.
    """
    if not own_resolver:
        raise ConfigError(
            "retrieval.warm_start: latest needs the local runner, whose metadata knows what was "
            "blessed; on Kubeflow and Vertex give the path of an exported model"
        )
    return Resolver(
        strategy_class=BlessedBefore,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(type=Verdict),
        candidate=transform.outputs["transformed_examples"],
    ).with_id("WarmStartModel")


def ranking_nodes(
    config: Config,
    settings: RunSettings,
    tables: TablesGen,
    examples: ExampleGen,
    schema: SchemaGen,
    transform: Transform,
) -> list[BaseNode]:
    """From transformed examples to a pushed ranking model."""
    raw = examples.outputs["examples"]
    trainer = ModelTrainer(
        "ranking",
        examples=transform.outputs["transformed_examples"],
        raw_examples=raw,
        tables=tables.outputs["tables"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema.outputs["schema"],
        config=config,
    ).with_id("RankingTrainer")
    resolver, evaluator = ranking_gate(
        model=trainer.outputs["model"],
        examples=raw,
        schema=schema.outputs["schema"],
        config=config,
        own_resolver=settings.metadata is not None,
    )
    gates = {
        "model_blessing": evaluator.outputs["blessing"],
        "evaluation": evaluator.outputs["evaluation"],
    }
    pushed = push_nodes(trainer, raw, settings, RANKING, "serving_default", gates)
    return [trainer, resolver, evaluator, *pushed]


def push_nodes(
    maker: BaseNode,
    examples: Channel,
    settings: RunSettings,
    name: str,
    signature: str,
    gates: Mapping[str, Channel],
) -> list[BaseNode]:
    """The way of every model once it is judged: it can be served, answers as recorded, is pushed.

    Args:
        maker: the node that made the model, with outputs ``model`` and ``model_run``.
        examples: raw examples to ask with.
        settings: where it is pushed to.
        name: under which it is served; the nodes are named after it.
        signature: the one that takes examples.
        gates: what the Pusher asks beside these checks, by its argument.
    """
    model = maker.outputs["model"]
    prefix = name.capitalize()
    infra = EmbeddedInfraValidator(
        model=model, examples=examples, name=name, signature=signature
    ).with_id(f"{prefix}InfraValidator")
    golden = GoldenRequests(model=model, model_run=maker.outputs["model_run"]).with_id(
        f"{prefix}GoldenRequests"
    )
    pusher = GatedPusher(
        model=model,
        folder=f"{settings.serving}/{name}",
        infra_blessing=infra.outputs["blessing"],
        golden=golden.outputs["verdict"],
        **gates,
    ).with_id(f"{prefix}Pusher")
    return [infra, golden, pusher]


def recommender_nodes(
    config: Config, settings: RunSettings, before: list[BaseNode]
) -> list[BaseNode]:
    """From the pushed retrieval and ranking models to a pushed one-call recommender.

    Args:
        config: what to do.
        settings: where.
        before: the nodes of the two models and of the data.
    """
    named = {node.id: node for node in before}
    raw = named["ExampleGen"].outputs["examples"]
    assembler = RecommenderAssembler(
        retrieval_pushed=named["RetrievalPusher"].outputs["pushed_model"],
        ranking_pushed=named["RankingPusher"].outputs["pushed_model"],
        tables=named["TablesGen"].outputs["tables"],
        raw_examples=raw,
        config=config,
        retrieval=f"{settings.serving}/{RETRIEVAL}",
        ranking=f"{settings.serving}/{RANKING}",
    )
    gates = {"quality": assembler.outputs["verdict"]}
    pushed = push_nodes(assembler, raw, settings, RECOMMENDER, "recommend_examples", gates)
    return [assembler, *pushed]


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
