"""Pusher: TFX's, with our gates beside its own, and a voice.

TFX's Pusher reports success whether or not it pushed; this one says what it did and why.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tfx.components.pusher import executor
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_component, executor_spec
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter
from tfx.utils import json_utils

from pipelines.blessing import Verdict, read_verdict
from pipelines.components.ranking_evaluator import refusals
from serving.plan import human, plan

REASONS = "reasons"


class PusherSpec(standard_component_specs.PusherSpec):
    """TFX's spec with our verdicts and the evaluation that explains TFMA's blessing."""

    INPUTS: ClassVar[dict[str, Any]] = {
        **standard_component_specs.PusherSpec.INPUTS,
        "quality": ChannelParameter(type=Verdict, optional=True),
        "golden": ChannelParameter(type=Verdict, optional=True),
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation, optional=True),
    }


def _tell_memory(model: str) -> None:
    """Says before a push what a server needs while it holds the old version and the new one."""
    try:
        estimate = plan(model)
    except Exception as error:  # advice only: it must never stop a push
        print(f"  serving memory could not be estimated: {type(error).__name__}: {error}")
        return
    print(f"  serving needs about {human(estimate.two_versions)} during the swap", flush=True)
    for warning in estimate.warnings():
        print(f"  warning: {warning}", flush=True)


class Executor(executor.Executor):
    """Pushes where every gate says yes."""

    def CheckBlessing(self, input_dict: dict[str, list[Artifact]]) -> bool:
        self._reasons: list[str] = []
        for key in ("quality", "golden"):
            if input_dict.get(key):
                verdict = read_verdict(artifact_utils.get_single_instance(input_dict[key]))
                self._reasons += [f"{verdict['gate']}: {r}" for r in verdict["reasons"]]
        if input_dict.get("model_blessing"):
            blessing = artifact_utils.get_single_instance(input_dict["model_blessing"])
            if not model_utils.is_model_blessed(blessing):
                evaluation = artifact_utils.get_single_uri(input_dict["evaluation"])
                self._reasons += [f"evaluator: {r}" for r in refusals(evaluation)]
        if input_dict.get("infra_blessing"):
            infra = artifact_utils.get_single_instance(input_dict["infra_blessing"])
            if not model_utils.is_infra_validated(infra):
                self._reasons.append(
                    "infra validator: the embedded server could not load the model or answer "
                    "real requests; see its log above"
                )
        if not self._reasons:
            _tell_memory(self.GetModelPath(input_dict))
        return not self._reasons

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        super().Do(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        pushed.set_string_custom_property(REASONS, "\n".join(self._reasons))
        if self._reasons:
            print("  NOTHING WAS PUSHED; what was live stays live:", flush=True)
            for reason in self._reasons:
                print(f"    {reason}", flush=True)
        else:
            print(f"  pushed to {pushed.get_string_custom_property('pushed_destination')}")

    def GetModelPath(self, input_dict: dict[str, list[Artifact]]) -> str:
        """The warmed model of InfraValidator rather than the trainer's."""
        warmed = {key: value for key, value in input_dict.items() if key != "model"}
        return super().GetModelPath(warmed)


class GatedPusher(base_component.BaseComponent):
    """Pushes one model into its serving folder.

    Args:
        model: of the trainer (recorded as its source).
        folder: base of the versions.
        infra_blessing: of InfraValidator; holds the model with its warm-up records.
        golden: verdict of GoldenRequests.
        quality: verdict of RetrievalEvaluator, for retrieval.
        model_blessing, evaluation: of TFMA's Evaluator, for ranking.
    """

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        model: BaseChannel,
        folder: str,
        infra_blessing: BaseChannel,
        golden: BaseChannel,
        quality: BaseChannel | None = None,
        model_blessing: BaseChannel | None = None,
        evaluation: BaseChannel | None = None,
    ) -> None:
        if quality is None and (model_blessing is None or evaluation is None):
            raise ValueError(
                "a model is pushed on a verdict of its quality; pass 'quality', or "
                "'model_blessing' with 'evaluation'"
            )
        destination = pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(folder))
        )
        super().__init__(
            PusherSpec(
                model=model,
                infra_blessing=infra_blessing,
                golden=golden,
                quality=quality,
                model_blessing=model_blessing,
                evaluation=evaluation,
                push_destination=destination,
                custom_config=json_utils.dumps(None),
                pushed_model=Channel(type=standard_artifacts.PushedModel),
            )
        )
