"""RetrievalEvaluator: measures the exported model on the whole catalogue and blesses or refuses it.

It has to reach the cheap baselines, trained here on the same split, and may not lose more than a
tolerated share against the model that is live. All are asked the same questions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from pipelines.blessing import JUDGED, Verdict, write_verdict
from pipelines.judging import coverage, judge, newest_version
from tfrec.config import Config, GateConfig, RankingConfig, TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.full_catalogue import evaluate, evaluate_lists
from tfrec.evaluation.metrics import parse_metric
from tfrec.evaluation.protocol import HeldOut, held_out
from tfrec.evaluation.result import Evaluation
from tfrec.export.batch import BatchRecommender
from tfrec.export.context import held_out_context
from tfrec.export.lists import saved_lists
from tfrec.export.log import Log
from tfrec.schema import FeatureTable
from tfrec.training.fit import fit_retrieval
from tfrec.training.transformed import load_transformed, read_raw_events


class RetrievalEvaluatorSpec(ComponentSpec):
    """Inputs, outputs and properties of ``RetrievalEvaluator``."""

    PARAMETERS: ClassVar[dict[str, Any]] = {
        "features": ExecutionParameter(type=str),
        "ranking": ExecutionParameter(type=str),
        "gate": ExecutionParameter(type=str),
        "serving": ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, Any]] = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "raw_examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {"verdict": ChannelParameter(type=Verdict)}


class Executor(BaseExecutor):
    """Measures, compares, writes the verdict."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        uri = {key: artifact_utils.get_single_uri(value) for key, value in input_dict.items()}
        features = FeatureTable.model_validate_json(exec_properties["features"])
        ranking = RankingConfig.model_validate_json(exec_properties["ranking"])
        gate = GateConfig.model_validate_json(exec_properties["gate"])
        data, _ = load_transformed(
            uri["examples"],
            uri["transform_graph"],
            features,
            history_length=ranking.history_length,
            sampled_negatives=ranking.samples_negatives,
        )
        questions = held_out(data, "test", gate.exclude_seen)
        events = read_raw_events(uri["raw_examples"], "test", features, data, data.test)
        context = held_out_context(events, data, questions)
        known = Log.from_encoded(data, questions.known)
        _, k = parse_metric(gate.metric)

        def measure(folder: str | Path, name: str) -> Evaluation:
            lists = saved_lists(BatchRecommender(folder, known), data, questions, k, context)
            return evaluate_lists(
                lists,
                questions.users,
                data,
                "test",
                (k,),
                exclude_seen=gate.exclude_seen,
                name=name,
            )

        candidate = measure(path_utils.serving_model_path(uri["model"]), "candidate")
        baselines = {
            name: baseline(name, data, questions, gate.metric, k) for name in gate.baselines
        }
        live_folder = newest_version(exec_properties["serving"])
        live = None if live_folder is None else measure(live_folder, "live")[gate.metric]
        value, covered = candidate[gate.metric], coverage(candidate)
        reasons = judge(gate.metric, gate, value, covered, baselines, live)
        measured = {
            "metric": gate.metric,
            "candidate": value,
            "coverage": covered,
            "users": len(questions.users),
            "baselines": baselines,
            "live": live,
            "live_version": None if live_folder is None else live_folder.name,
        }
        beside = ", ".join(
            f"{n} {v:.4f}" for n, v in {**baselines, **({"live": live} if live else {})}.items()
        )
        print(f"  retrieval: {gate.metric} {value:.4f} ({beside}), coverage {covered:.1%}")
        verdict = artifact_utils.get_single_instance(output_dict["verdict"])
        judged = artifact_utils.get_single_instance(input_dict["model"])
        verdict.set_int_custom_property(JUDGED, judged.id)
        write_verdict(verdict, "retrieval evaluator", reasons, measured)


def baseline(name: str, data: RetrievalData, questions: HeldOut, metric: str, k: int) -> float:
    """The metric of a cheap model trained on the same events with its usual parameters."""
    from tfrec.models import registry

    trained = fit_retrieval(
        name,
        registry.spec(name).example,
        TrainConfig(),
        data,
        metric=metric,
        exclude_seen=questions.exclude_seen,
    )
    return evaluate(
        trained.model, data, "test", (k,), questions=questions, name=name, progress=False
    )[metric]


class RetrievalEvaluator(base_component.BaseComponent):
    """Blesses or refuses a retrieval model.

    Args:
        model: of the trainer.
        examples: transformed.
        raw_examples: of ExampleGen.
        transform_graph: of Transform.
        config: features, gate and what tells events from sampled rows.
        serving: folder of the live retrieval model's versions.
    """

    SPEC_CLASS = RetrievalEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        model: BaseChannel,
        examples: BaseChannel,
        raw_examples: BaseChannel,
        transform_graph: BaseChannel,
        config: Config,
        serving: str,
    ) -> None:
        rows = {"enabled", "label", "history_length"}
        gate = {"metric", "exclude_seen", "baselines", "margin", "live_tolerance", "min_coverage"}
        super().__init__(
            RetrievalEvaluatorSpec(
                model=model,
                examples=examples,
                raw_examples=raw_examples,
                transform_graph=transform_graph,
                features=config.feature_table.model_dump_json(),
                ranking=config.ranking.model_dump_json(include=rows),
                gate=config.gate.model_dump_json(include=gate),
                serving=serving,
                verdict=Channel(type=Verdict),
            )
        )
