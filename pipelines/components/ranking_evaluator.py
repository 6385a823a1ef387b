"""The ranker's gate: TFMA's Evaluator with slices and thresholds, against the blessed baseline."""

from __future__ import annotations

import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2
from tfx.components import Evaluator
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import (
    LatestBlessedModelStrategy,
)
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel

from pipelines.blessed import BLESSING, CANDIDATE, MODEL, BlessedBefore
from tfrec.config import Config
from tfrec.schema import LABEL


def eval_config(config: Config, slices: tuple[str, ...] | None = None) -> tfma.EvalConfig:
    """What TFMA measures and what it asks for.

    The threshold holds over all rows; against the blessed model at most ``gate.live_tolerance`` of
    the metric may be lost. Slices report.

    Args:
        config: task of the ranker and the gate.
        slices: features to slice by; None takes ``gate.slices``.
    """
    gate = config.gate
    if config.ranking.task == "binary":
        deciding = "AUC"
        bound = tfma.GenericValueThreshold(lower_bound={"value": gate.min_ranker_auc})
        direction, lost = tfma.MetricDirection.HIGHER_IS_BETTER, -gate.live_tolerance
        others = ["ExampleCount", "BinaryCrossEntropy", "MeanLabel", "MeanPrediction"]
    else:
        deciding = "RootMeanSquaredError"
        bound = tfma.GenericValueThreshold(upper_bound={"value": gate.max_ranker_rmse})
        direction, lost = tfma.MetricDirection.LOWER_IS_BETTER, gate.live_tolerance
        others = ["ExampleCount", "MeanLabel", "MeanPrediction"]
    change = tfma.GenericChangeThreshold(direction=direction, relative={"value": lost})
    overall = config_pb2.PerSliceMetricThreshold(
        slicing_specs=[tfma.SlicingSpec()],
        threshold=tfma.MetricThreshold(value_threshold=bound, change_threshold=change),
    )
    metrics = [
        tfma.MetricConfig(class_name=deciding, per_slice_thresholds=[overall]),
        *(tfma.MetricConfig(class_name=name) for name in (*others, "Calibration")),
    ]
    sliced = gate.slices if slices is None else slices
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                signature_name="serving_default",
                label_key=LABEL,
                prediction_key="score",
                model_type=tfma.TF_GENERIC,
            )
        ],
        slicing_specs=[
            tfma.SlicingSpec(),
            *(tfma.SlicingSpec(feature_keys=[name]) for name in sliced),
        ],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
    )


def ranking_gate(
    *,
    model: BaseChannel,
    examples: BaseChannel,
    schema: BaseChannel,
    config: Config,
    own_resolver: bool = True,
) -> tuple[Resolver, Evaluator]:
    """The resolver of the last blessed ranker, and the evaluator over the test rows.

    Only the ranker's evaluator writes ``ModelBlessing`` artifacts, so the last blessed model is
    always a ranker.

    Args:
        model: of the trainer.
        examples: raw.
        schema: of SchemaGen.
        config: see ``eval_config``.
        own_resolver: False takes TFX's own strategy, the only one that Kubeflow's compiler knows.
    """
    channels = {
        MODEL: Channel(type=standard_artifacts.Model),
        BLESSING: Channel(type=standard_artifacts.ModelBlessing),
    }
    if own_resolver:
        resolver = Resolver(strategy_class=BlessedBefore, **channels, **{CANDIDATE: model})
    else:
        resolver = Resolver(strategy_class=LatestBlessedModelStrategy, **channels)
    resolver = resolver.with_id("BlessedRanker")
    evaluator = Evaluator(
        examples=examples,
        model=model,
        baseline_model=resolver.outputs["model"],
        schema=schema,
        eval_config=eval_config(config),
        example_splits=["test"],
    ).with_id("RankingEvaluator")
    return resolver, evaluator


def refusals(evaluation: str) -> list[str]:
    """Why TFMA did not bless, in words.

    Args:
        evaluation: folder of the ``ModelEvaluation``.
    """
    result = tfma.load_validation_result(evaluation)
    lines = []
    for validated in result.metric_validations_per_slice:
        keys = validated.slice_key.single_slice_keys
        where = " ".join(f"{k.column}={k.bytes_value.decode()}" for k in keys) or "all rows"
        for failure in validated.failures:
            value = failure.metric_value.double_value.value
            threshold = failure.metric_threshold
            if threshold.HasField("value_threshold"):
                bound = threshold.value_threshold
                asked = (
                    f"at least {bound.lower_bound.value:g}"
                    if bound.HasField("lower_bound")
                    else f"at most {bound.upper_bound.value:g}"
                )
                lines.append(f"{failure.metric_key.name} {value:.4f} over {where}; {asked} asked")
            else:
                lost = threshold.change_threshold.relative.value
                lines.append(
                    f"{failure.metric_key.name} changed by {value:+.4f} against the blessed model "
                    f"over {where}; at most {abs(lost):.1%} may be lost"
                )
    return lines or ["not blessed; see the evaluation"]
