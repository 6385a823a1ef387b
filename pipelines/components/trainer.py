"""Trainer: TFX's generic trainer with the raw inputs that export and golden requests need."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from tfx.components.trainer import executor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.components.base import base_component, executor_spec
from tfx.proto import trainer_pb2
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter
from tfx.utils import json_utils

from pipelines.artifacts import Tables
from tfrec.config import Config

Kind = Literal["retrieval", "ranking"]


class TrainerSpec(standard_component_specs.TrainerSpec):
    """TFX's spec with ``raw_examples`` and ``tables``."""

    INPUTS: ClassVar[dict[str, Any]] = {
        **standard_component_specs.TrainerSpec.INPUTS,
        "raw_examples": ChannelParameter(type=standard_artifacts.Examples),
        "tables": ChannelParameter(type=Tables),
    }


class Executor(executor.GenericExecutor):
    """Tells the run function where its inputs lie and where it may leave checkpoints."""

    def _GetFnArgs(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> FnArgs:
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        folders = {
            key: artifact_utils.get_single_uri(input_dict[key])
            for key in ("examples", "raw_examples", "tables", "transform_graph")
        }
        # The same job has the same folder, whatever its execution number: inputs,
        # configuration, what a tuner found and what training begins with name it.
        told = [folders, fn_args.custom_config, fn_args.hyperparameters, fn_args.base_model]
        job = json.dumps(told, sort_keys=True)
        digest = hashlib.sha256(job.encode()).hexdigest()[:16]
        model = Path(artifact_utils.get_single_uri(output_dict["model"]))
        checkpoints = model.parent.parent / "checkpoints" / digest
        fn_args.custom_config = {
            **fn_args.custom_config,
            **folders,
            "checkpoints": str(checkpoints),
        }
        return fn_args


class ModelTrainer(base_component.BaseComponent):
    """Trains one of the two models.

    Args:
        kind: ``retrieval`` or ``ranking``.
        examples: transformed.
        raw_examples: of ExampleGen; real requests are made of them.
        tables: canonical tables; items' titles are shown to people.
        transform_graph, schema: of Transform and SchemaGen.
        hyperparameters: of RetrievalTuner; None trains as configured.
        base_model: the model that training begins with; None starts cold.
        config: only the sections that this model depends on are handed over, so that a change of
            the other model does not train this one again.
    """

    SPEC_CLASS = TrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        kind: Kind,
        *,
        examples: BaseChannel,
        raw_examples: BaseChannel,
        tables: BaseChannel,
        transform_graph: BaseChannel,
        schema: BaseChannel,
        config: Config,
        hyperparameters: BaseChannel | None = None,
        base_model: BaseChannel | None = None,
    ) -> None:
        rows = {"enabled", "task", "label", "threshold", "negatives", "history_length"}
        ranking = config.ranking
        custom_config = {
            "features": config.feature_table.model_dump_json(),
            "retrieval": config.retrieval.model_dump_json(exclude={"search"})
            if kind == "retrieval"
            else "{}",
            "ranking": ranking.model_dump_json(include=rows if kind == "retrieval" else None),
            "metric": config.gate.metric,
            "exclude_seen": config.gate.exclude_seen,
            "calibration": config.utility.calibration if kind == "ranking" else "none",
        }
        super().__init__(
            TrainerSpec(
                examples=examples,
                raw_examples=raw_examples,
                tables=tables,
                transform_graph=transform_graph,
                schema=schema,
                hyperparameters=hyperparameters,
                base_model=base_model,
                train_args=trainer_pb2.TrainArgs(),
                eval_args=trainer_pb2.EvalArgs(),
                run_fn=f"pipelines.trainers.{kind}_run_fn",
                custom_config=json_utils.dumps(custom_config),
                model=Channel(type=standard_artifacts.Model),
                model_run=Channel(type=standard_artifacts.ModelRun),
            )
        )
