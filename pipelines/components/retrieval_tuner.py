"""RetrievalTuner: searches ``retrieval.search`` on the pipeline's own examples.

Gives TFX's standard artifacts: the trainer takes ``best_hyperparameters`` as its input
``hyperparameters``. A search that was killed goes on: its study's folder is named by the inputs and
the configuration, whatever the number of the execution.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfrec.config import Config
from tfrec.training.strategy import make_strategy
from tfrec.training.transformed import load_transformed
from tfrec.training.tune import BEST, TABLE, tune

BEST_FILE = "best_hyperparameters.txt"  # the name under which TFX's trainer reads them


class RetrievalTunerSpec(ComponentSpec):
    """Inputs, outputs and properties of ``RetrievalTuner``."""

    PARAMETERS: ClassVar[dict[str, Any]] = {"config": ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, Any]] = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {
        "best_hyperparameters": ChannelParameter(type=standard_artifacts.HyperParameters),
        "tuner_results": ChannelParameter(type=standard_artifacts.TunerResults),
    }


class Executor(BaseExecutor):
    """Searches and writes what was found."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        uri = {key: artifact_utils.get_single_uri(value) for key, value in input_dict.items()}
        out = {key: Path(artifact_utils.get_single_uri(v)) for key, v in output_dict.items()}
        config = Config.model_validate_json(exec_properties["config"])
        ranking = config.ranking
        data, _ = load_transformed(
            uri["examples"],
            uri["transform_graph"],
            config.feature_table,
            history_length=ranking.history_length,
            sampled_negatives=ranking.samples_negatives,
        )
        job = json.dumps([uri, exec_properties["config"]], sort_keys=True)
        digest = hashlib.sha256(job.encode()).hexdigest()[:16]
        study = out["tuner_results"].parent.parent / "studies" / digest
        replicas = config.retrieval.train.replicas
        found = tune(config, data, study, strategy=make_strategy(replicas))
        print(f"  tuner: {found.metric} {found.value:.4f}, best of {len(found.trials)} trials")
        for folder in out.values():
            folder.mkdir(parents=True, exist_ok=True)
        for name in (BEST, TABLE):
            shutil.copy(study / name, out["tuner_results"] / name)
        best = found.best.model_dump(mode="json", include={"params", "train"})
        (out["best_hyperparameters"] / BEST_FILE).write_text(json.dumps(best, indent=1) + "\n")


class RetrievalTuner(base_component.BaseComponent):
    """Searches the retrieval model's parameters.

    Args:
        examples: transformed.
        transform_graph: of Transform.
        config: the sections features, retrieval, ranking, and what the gate measures, are used; a
            change of another section does not search again.

    Raises:
        ValueError: no range is declared.
    """

    SPEC_CLASS = RetrievalTunerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self, *, examples: BaseChannel, transform_graph: BaseChannel, config: Config
    ) -> None:
        if not config.retrieval.search.space:
            raise ValueError(
                "the tuner needs ranges in retrieval.search.space; got none; leave it out or "
                "declare some"
            )
        kept = config.model_dump(include={"name", "data", "split", "features", "retrieval"})
        rows = {"enabled", "label", "history_length"}
        kept["ranking"] = config.ranking.model_dump(include=rows)
        kept["gate"] = config.gate.model_dump(include={"metric", "exclude_seen"})
        super().__init__(
            RetrievalTunerSpec(
                examples=examples,
                transform_graph=transform_graph,
                config=Config.model_validate(kept).model_dump_json(),
                best_hyperparameters=Channel(type=standard_artifacts.HyperParameters),
                tuner_results=Channel(type=standard_artifacts.TunerResults),
            )
        )
