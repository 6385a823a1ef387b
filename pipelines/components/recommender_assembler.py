"""RecommenderAssembler: joins the live retrieval and ranking models into the one-call recommender.

It runs behind both pushers and reads what they left: the newest *pushed* version of each, so a
model that a gate refused is never in it. Nothing is trained.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from pipelines.artifacts import Tables
from pipelines.blessing import Verdict, write_verdict
from pipelines.judging import newest_version
from pipelines.trainers import GOLDEN_FILE, golden_requests
from tfrec.config import Config
from tfrec.data.tables import open_interactions, read_items
from tfrec.export.golden import GoldenRequest, record, save_golden
from tfrec.export.recommender.assemble import assemble, save_recommender
from tfrec.export.recommender.inputs import AMONG
from tfrec.export.recommender.module import Recommendation
from tfrec.schema import ITEM_ID, USER_ID

SECTIONS: dict[str, Any] = {
    **dict.fromkeys(("name", "data", "features", "retrieval", "ranking"), True),
    **dict.fromkeys(("utility", "rerank", "recommender"), True),
    "gate": {"exclude_seen"},
}


class RecommenderAssemblerSpec(ComponentSpec):
    """Inputs, outputs and properties of ``RecommenderAssembler``."""

    PARAMETERS: ClassVar[dict[str, Any]] = {
        "config": ExecutionParameter(type=str),
        "retrieval": ExecutionParameter(type=str),
        "ranking": ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, Any]] = {
        "retrieval_pushed": ChannelParameter(type=standard_artifacts.PushedModel),
        "ranking_pushed": ChannelParameter(type=standard_artifacts.PushedModel),
        "tables": ChannelParameter(type=Tables),
        "raw_examples": ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_run": ChannelParameter(type=standard_artifacts.ModelRun),
        "verdict": ChannelParameter(type=Verdict),
    }


class Executor(BaseExecutor):
    """Assembles, saves, records golden requests."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        config = Config.model_validate_json(exec_properties["config"])
        live = {name: newest_version(exec_properties[name]) for name in ("retrieval", "ranking")}
        retrieval, ranking = live["retrieval"], live["ranking"]
        if retrieval is None or ranking is None:
            absent = [name for name, folder in live.items() if folder is None]
            raise RuntimeError(
                f"a recommender is made of a pushed retrieval and a pushed ranking model; of "
                f"{absent} no version was ever pushed: see the refusals above"
            )
        tables = artifact_utils.get_single_uri(input_dict["tables"])
        events: pa.Table = open_interactions(tables).to_table(columns=[USER_ID, ITEM_ID])
        module = assemble(config, retrieval, ranking, read_items(tables), events)
        uri = artifact_utils.get_single_uri(output_dict["model"])
        serving = Path(path_utils.serving_model_dir(uri))
        shutil.rmtree(serving, ignore_errors=True)
        serving.parent.mkdir(parents=True, exist_ok=True)
        save_recommender(module, serving)
        examples = artifact_utils.get_single_uri(input_dict["raw_examples"])
        asked = tf.function(module.recommend_examples, autograph=False)
        requests = golden_requests(asked, "recommend_examples", examples)
        requests += relaxed_requests(module, asked, requests)
        run = Path(artifact_utils.get_single_uri(output_dict["model_run"]))
        save_golden(requests, run / GOLDEN_FILE)
        report = module.index_report
        measured = {
            "retrieval": str(retrieval),
            "ranking": str(ranking),
            "items": module.catalogue.n_items,
            "index": None if report is None else report.as_dict(),
        }
        verdict = artifact_utils.get_single_instance(output_dict["verdict"])
        print(f"  retrieval {retrieval.name}, ranking {ranking.name}", flush=True)
        write_verdict(verdict, "recommender assembler", [], measured)


def relaxed_requests(
    module: Recommendation, asked: Any, requests: list[GoldenRequest]
) -> list[GoldenRequest]:
    """A request whose filter nothing passes, a filter at a time: its list must not be empty.

    Raises:
        RuntimeError: it is, though the filter may give way.
    """
    more = []
    for rule in module.rules.names:
        if not rule.startswith(AMONG) or not requests:
            continue
        example = tf.train.Example.FromString(requests[0].examples[0])
        example.features.feature[rule].bytes_list.value[:] = [b"no item has this value"]

        def ask(rows: Sequence[bytes]) -> dict[str, np.ndarray]:
            return {name: value.numpy() for name, value in asked(tf.constant(list(rows))).items()}

        more += record(ask, "recommend_examples", [[example.SerializeToString()]])
        answer = more[-1].answer
        if not answer[ITEM_ID][0, 0] or not answer["fallback"][0]:
            raise RuntimeError(f"a request for {rule} of no item got an empty list; see rules.py")
    return more


class RecommenderAssembler(base_component.BaseComponent):
    """Makes the one-call recommender of what is live.

    Args:
        retrieval_pushed, ranking_pushed: of the two pushers, whom this waits for.
        tables: canonical tables.
        raw_examples: of ExampleGen; golden requests are made of the split ``test``.
        config: the sections that the recommender is made by are handed over.
        retrieval, ranking: folders of the versions that were pushed.
    """

    SPEC_CLASS = RecommenderAssemblerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        retrieval_pushed: BaseChannel,
        ranking_pushed: BaseChannel,
        tables: BaseChannel,
        raw_examples: BaseChannel,
        config: Config,
        retrieval: str,
        ranking: str,
    ) -> None:
        super().__init__(
            RecommenderAssemblerSpec(
                retrieval_pushed=retrieval_pushed,
                ranking_pushed=ranking_pushed,
                tables=tables,
                raw_examples=raw_examples,
                config=config.model_dump_json(include=SECTIONS),
                retrieval=retrieval,
                ranking=ranking,
                model=Channel(type=standard_artifacts.Model),
                model_run=Channel(type=standard_artifacts.ModelRun),
                verdict=Channel(type=Verdict),
            )
        )
