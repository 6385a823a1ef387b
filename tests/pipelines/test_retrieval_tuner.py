"""RetrievalTuner without a pipeline: artifacts as TFX's trainer reads them, and resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tfx.components.trainer import fn_args_utils
from tfx.types import channel_utils, standard_artifacts

from pipelines.components import retrieval_tuner
from pipelines.components.retrieval_tuner import Executor, RetrievalTuner
from pipelines.pipeline import RunSettings, create_pipeline
from tests.builders import random_data
from tfrec.config import Config, parse_config
from tfrec.training.tune import with_hyperparameters


def config(**search: Any) -> Config:
    return parse_config(
        {
            "name": "small",
            "data": {"format": "synthetic"},
            "retrieval": {"model": "item_knn", "params": {"neighbours": 5}, "search": search},
            "gate": {"metric": "ndcg@5"},
        }
    )


SEARCH = {"space": {"shrinkage": {"low": 0.0, "high": 50.0}}, "trials": 2}


def component(of: Config) -> RetrievalTuner:
    return RetrievalTuner(
        examples=channel_utils.as_channel([standard_artifacts.Examples()]),
        transform_graph=channel_utils.as_channel([standard_artifacts.TransformGraph()]),
        config=of,
    )


def artifact(kind: Any, path: Path) -> list[Any]:
    made = kind()
    made.uri = str(path)
    return [made]


def search(root: Path, number: int) -> Path:
    """One execution; its outputs have TFX's folders, ``<node>/<output>/<number>``."""
    out = {
        "best_hyperparameters": artifact(
            standard_artifacts.HyperParameters, root / f"best_hyperparameters/{number}"
        ),
        "tuner_results": artifact(
            standard_artifacts.TunerResults, root / f"tuner_results/{number}"
        ),
    }
    given = {
        "examples": artifact(standard_artifacts.Examples, root / "examples"),
        "transform_graph": artifact(standard_artifacts.TransformGraph, root / "graph"),
    }
    properties = {"config": component(config(**SEARCH)).exec_properties["config"]}
    Executor().Do(given, out, properties)
    return root / f"best_hyperparameters/{number}"


def test_writes_what_the_trainer_reads_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random_data()
    monkeypatch.setattr(retrieval_tuner, "load_transformed", lambda *a, **k: (data, None))
    folder = search(tmp_path, 7)
    read = json.loads((folder / "best_hyperparameters.txt").read_text())
    tuned = with_hyperparameters(config().retrieval, read)
    assert tuned.params["neighbours"] == 5
    assert 0 <= tuned.params["shrinkage"] <= 50
    table = (tmp_path / "tuner_results/7/trials.csv").read_text()
    assert len(table.splitlines()) == 3
    # A second execution of the same job finds its trials and runs none.
    again = json.loads((search(tmp_path, 8) / "best_hyperparameters.txt").read_text())
    assert again == read
    assert (tmp_path / "tuner_results/8/trials.csv").read_text() == table


def test_other_sections_do_not_search_again() -> None:
    one = config(**SEARCH)
    other = one.model_copy(update={"gate": one.gate.model_copy(update={"min_coverage": 0.5})})
    more = one.model_copy(
        update={"ranking": one.ranking.model_copy(update={"model": "deep", "threshold": 1.0})}
    )
    named = {component(c).exec_properties["config"] for c in (one, other, more)}
    assert len(named) == 1
    assert fn_args_utils.FnArgs().hyperparameters is None
    assert with_hyperparameters(one.retrieval, None) is one.retrieval


def test_the_pipeline_searches_only_where_told(tmp_path: Path) -> None:
    settings = RunSettings(artifacts=str(tmp_path), serving=str(tmp_path / "serving"))
    plain = {n.id: n for n in create_pipeline(config(**SEARCH), settings).components}
    assert "RetrievalTuner" not in plain
    told = create_pipeline(config(**SEARCH, in_pipeline=True), settings).components
    nodes = {n.id: n for n in told}
    best = nodes["RetrievalTuner"].outputs["best_hyperparameters"]
    assert nodes["RetrievalTrainer"].inputs["hyperparameters"] is best
    # The ranges are the tuner's matter: other ranges alone do not train again.
    assert (
        nodes["RetrievalTrainer"].exec_properties["custom_config"]
        == plain["RetrievalTrainer"].exec_properties["custom_config"]
    )


def test_no_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ranges in retrieval\.search\.space"):
        component(config())
