"""RetrievalEvaluator: measures the exported model on the test split and blesses or refuses it.

By its lists over the whole catalogue, or by the ratings it predicts (``gate.metric``). It has to
reach the cheap baselines, trained here on the same split, and may not lose more than a tolerated
share against the model that is live. All are asked the same questions.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from pipelines.blessing import JUDGED, Verdict, write_verdict
from pipelines.judging import judge, newest_version
from pipelines.measuring import baseline, measure_of
from tfrec.config import Config, GateConfig, RankingConfig
from tfrec.export.batch import ModelFolderError
from tfrec.schema import FeatureTable
from tfrec.training.metric import check_gate
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
        events = read_raw_events(uri["raw_examples"], "test", features, data, data.test)
        measure = measure_of(gate)(data, gate, events)
        found = measure.saved(path_utils.serving_model_path(uri["model"]), "candidate")
        baselines = {name: baseline(name, data, gate, measure) for name in gate.baselines}
        live_folder = newest_version(exec_properties["serving"])
        live, unlike = None, []
        if live_folder is not None:
            try:
                live = measure.saved(live_folder, "live").value
            except ModelFolderError as error:
                unlike = [
                    f"the live model cannot be measured by {gate.metric} ({error}); for the first "
                    f"model of another kind let a metric decide that both have, as 'recall@10'"
                ]
        reasons = judge(gate.metric, gate, found.value, found.covered, baselines, live) + unlike
        measured = {
            "metric": gate.metric,
            "candidate": found.value,
            **({} if found.covered is None else {"coverage": found.covered}),
            **measure.asked,
            "baselines": baselines,
            "live": live,
            "live_version": None if live_folder is None else live_folder.name,
        }
        beside = {**baselines, **({} if live is None else {"live": live})}
        told = ", ".join(f"{name} {value:.4f}" for name, value in beside.items())
        spread = "" if found.covered is None else f", coverage {found.covered:.1%}"
        print(f"  retrieval: {gate.metric} {found.value:.4f} ({told}){spread}")
        verdict = artifact_utils.get_single_instance(output_dict["verdict"])
        judged = artifact_utils.get_single_instance(input_dict["model"])
        verdict.set_int_custom_property(JUDGED, judged.id)
        write_verdict(verdict, "retrieval evaluator", reasons, measured)


class RetrievalEvaluator(base_component.BaseComponent):
    """Blesses or refuses a retrieval model.

    Args:
        model: of the trainer.
        examples: transformed.
        raw_examples: of ExampleGen.
        transform_graph: of Transform.
        config: features, gate and what tells events from sampled rows.
        serving: folder of the live retrieval model's versions.

    Raises:
        ValueError: the gate measures ratings, which the model or a baseline does not predict.
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
        check_gate(config.retrieval.model, config.gate)
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
