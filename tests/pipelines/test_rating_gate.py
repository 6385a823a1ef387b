"""The gate by predicted ratings: told what was known before, a good model in, a bad one out."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tfx.utils import path_utils

from pipelines.components import retrieval_evaluator
from pipelines.components.retrieval_evaluator import RetrievalEvaluator
from tests.pipelines.gate_inputs import judged, write_raw
from tests.tables import FEATURES, rated_tables
from tfrec.config import GateConfig, TrainConfig, parse_config
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.rated import evaluate_ratings
from tfrec.export.batch import ModelFolderError
from tfrec.export.rating import observe_known
from tfrec.export.retrieval import export_retrieval
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.models.registry import build, spec
from tfrec.training.rating import fit_rating

# Of as few dimensions as the ratings were made of, where the baseline has those of large data; the
# bad one predicts hardly more than the mean; the net learns nothing at all.
MODELS: dict[str, tuple[str, dict[str, Any], TrainConfig]] = {
    "good": ("biased_mf", {"dim": 2, "l2": 0.05, "nu": 1.0}, TrainConfig(epochs=30)),
    "items": ("autorec", {"by": "item", "hidden": [16], "l2": 1e-4}, TrainConfig(epochs=3)),
    "bad": ("biased_mf", {"dim": 4, "l2": 1e6}, TrainConfig(epochs=2)),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], RetrievalData, Path]:
    root = tmp_path_factory.mktemp("rated_gate")
    splits, users, items = rated_tables()
    encoder = fit_encoder(splits["train"], users, items, FEATURES, root / "statistics", 8)
    data = retrieval_data(splits, users, items, encoder)
    models = {}
    for name, (kind, params, train) in MODELS.items():
        models[name] = fit_rating(kind, params, train, data).model
        observe_known(models[name], data)
        export_retrieval(models[name], data, encoder, model_folder(root / name))
    export_retrieval(build("popular", data), data, encoder, model_folder(root / "popular"))
    write_raw(splits["test"], users, root / "raw" / "Split-test")
    return models, data, root


def model_folder(artifact: Path) -> str:
    return path_utils.serving_model_dir(str(artifact))


@pytest.fixture(autouse=True)
def transformed(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval_evaluator, "load_transformed", lambda *a, **k: (made[1], None))


def go_live(made: Any, name: str, out: Path) -> None:
    """Makes a model the live one."""
    shutil.copytree(model_folder(made[2] / name), out / "live" / "7")


def ask(made: Any, name: str, out: Path, **gate: Any) -> dict[str, Any]:
    asked = GateConfig(**{"metric": "rmse", **gate})
    return judged(made[2] / name, made[2], asked, out)


@pytest.mark.parametrize("name", ["good", "items"])
@pytest.mark.parametrize("metric", ["rmse", "mae"])
def test_the_saved_model_is_measured_as_the_live_one_is(
    made: Any, tmp_path: Path, name: str, metric: str
) -> None:
    """Users by their histories, and by the columns that an item-based net keeps of them."""
    models, data, _ = made
    measured = ask(made, name, tmp_path, metric=metric, baselines=[])["measured"]
    ours = evaluate_ratings(models[name], data, "test")
    assert measured["candidate"] == pytest.approx(ours[metric], abs=1e-5)
    assert measured["ratings"] == len(data.test) == 80
    assert "coverage" not in measured


def test_a_good_model_is_blessed_and_a_bad_one_refused(made: Any, tmp_path: Path) -> None:
    data = made[1]
    good = ask(made, "good", tmp_path / "good")
    assert good["blessed"]
    assert good["reasons"] == []
    # The baseline is the library's own, trained on the same split.
    baseline = fit_rating("biased_mf", spec("biased_mf").example, TrainConfig(), data).model
    found = evaluate_ratings(baseline, data, "test")["rmse"]
    assert good["measured"]["baselines"] == {"biased_mf": pytest.approx(found, abs=1e-6)}
    assert good["measured"]["candidate"] < found

    bad = ask(made, "bad", tmp_path / "bad")
    assert not bad["blessed"]
    (reason,) = bad["reasons"]
    worse = bad["measured"]["candidate"]
    assert f"rmse {worse:.4f} is above {found:.4f}, that of 'biased_mf'" in reason


def test_no_more_than_a_share_may_be_added_to_the_live_models_error(
    made: Any, tmp_path: Path
) -> None:
    go_live(made, "good", tmp_path)
    refused = ask(made, "bad", tmp_path, baselines=[])
    (reason,) = refused["reasons"]
    assert "the live model has" in reason
    assert "at most 2% may be added" in reason
    assert refused["measured"]["live_version"] == "7"
    shutil.rmtree(tmp_path / "live")
    go_live(made, "bad", tmp_path)
    assert ask(made, "good", tmp_path, baselines=[])["blessed"]


def test_lists_may_still_decide(made: Any, tmp_path: Path) -> None:
    found = ask(made, "good", tmp_path, metric="recall@5", baselines=["popular"], margin=-1.0)
    assert found["blessed"]
    assert 0 <= found["measured"]["coverage"] <= 1
    assert "popular" in found["measured"]["baselines"]


def test_a_live_model_without_ratings_is_no_comparison(made: Any, tmp_path: Path) -> None:
    go_live(made, "popular", tmp_path)
    (reason,) = ask(made, "good", tmp_path, baselines=[])["reasons"]
    assert "the live model cannot be measured by rmse" in reason
    assert "no signature 'predict'" in reason


def test_a_candidate_without_ratings_is_an_error(made: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"no signature .predict.*predicts no ratings"):
        ask(made, "popular", tmp_path)


def test_a_log_without_ratings_is_an_error(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made[1]

    def bought(events: Any) -> Any:
        return replace(events, weight=events.weight * 0 + 1)

    alike = {n: bought(getattr(data, n)) for n in ("train", "validation", "test")}
    purchases = replace(data, **alike)
    monkeypatch.setattr(retrieval_evaluator, "load_transformed", lambda *a, **k: (purchases, None))
    with pytest.raises(ValueError, match=r"holds no ratings: the 80 events .* have the weight 1"):
        ask(made, "good", tmp_path)


@pytest.mark.parametrize(
    ("model", "baselines", "message"),
    [
        ("two_tower", None, "retrieval.model 'two_tower' predicts none"),
        ("rbm", ["popular", "biased_mf"], r"gate.baselines \['popular'\] predict no ratings"),
    ],
)
def test_models_of_another_kind_are_refused_before_anything_runs(
    model: str, baselines: list[str] | None, message: str
) -> None:
    gate = {"metric": "rmse"} | ({} if baselines is None else {"baselines": baselines})
    config = parse_config(
        {
            "name": "shop",
            "data": {"format": "synthetic"},
            "retrieval": {"model": model},
            "gate": gate,
        }
    )
    nothing: Any = None
    with pytest.raises(ValueError, match=message):
        RetrievalEvaluator(
            model=nothing,
            examples=nothing,
            raw_examples=nothing,
            transform_graph=nothing,
            config=config,
            serving="serving",
        )
