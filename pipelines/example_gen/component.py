"""ExampleGen: canonical tables in, Examples out with the splits train, eval, test and items."""

from __future__ import annotations

from typing import Any, ClassVar

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from pipelines.artifacts import Tables
from pipelines.example_gen.executor import Executor
from tfrec.config import Config


class ExampleGenSpec(ComponentSpec):
    """Inputs, outputs and properties of ``ExampleGen``."""

    PARAMETERS: ClassVar[dict[str, Any]] = {
        "features": ExecutionParameter(type=str),
        "split": ExecutionParameter(type=str),
        "ranking": ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, Any]] = {"tables": ChannelParameter(type=Tables)}
    OUTPUTS: ClassVar[dict[str, Any]] = {
        "examples": ChannelParameter(type=standard_artifacts.Examples)
    }


class ExampleGen(base_beam_component.BaseBeamComponent):
    """One tf.Example an event with all that is known of it at its time; see ``rows``.

    Args:
        tables: the canonical tables.
        config: features, split and the ranking section's label, history and negatives are used;
            a change of the others (training, parameters) does not run this component again.
    """

    SPEC_CLASS = ExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, tables: BaseChannel, config: Config) -> None:
        rows = {"enabled", "task", "label", "threshold", "negatives", "history_length"}
        if config.ranking.objectives:
            rows |= {"objectives", "primary", "window"}
        ranking = config.ranking.model_dump_json(include=rows)
        super().__init__(
            ExampleGenSpec(
                tables=tables,
                features=config.feature_table.model_dump_json(),
                split=config.split.model_dump_json(),
                ranking=ranking,
                examples=Channel(type=standard_artifacts.Examples),
            )
        )
