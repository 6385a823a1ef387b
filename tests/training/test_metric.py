"""What a model is watched by: lists, or the error of its ratings."""

from __future__ import annotations

import pytest

from tests.rated import rated_data
from tfrec.config import GateConfig, TrainConfig
from tfrec.evaluation.rated import evaluate_ratings
from tfrec.training.fit import fit_retrieval
from tfrec.training.metric import check_gate, validation_metric


@pytest.mark.parametrize(
    ("model", "gate", "watched"),
    [
        ("two_tower", "recall@10", "recall@10"),
        ("rbm", "recall@10", "rmse"),
        ("rbm", "rmse", "rmse"),
        ("biased_mf", "mae", "mae"),
    ],
)
def test_the_metric_of_validation(model: str, gate: str, watched: str) -> None:
    assert validation_metric(model, gate) == watched


def test_ratings_of_a_model_that_predicts_none() -> None:
    with pytest.raises(ValueError, match="'ease' predicts no ratings, which 'rmse' measures"):
        validation_metric("ease", "rmse")
    with pytest.raises(ValueError, match="'ease' predicts no ratings"):
        fit_retrieval("ease", {}, TrainConfig(), rated_data(), metric="rmse")


def test_the_gate_and_its_models() -> None:
    check_gate("ease", GateConfig())
    check_gate("rbm", GateConfig())
    check_gate("rbm", GateConfig(metric="mae"))
    with pytest.raises(ValueError, match=r"retrieval\.model 'ease' predicts none"):
        check_gate("ease", GateConfig(metric="rmse"))
    with pytest.raises(ValueError, match=r"gate\.baselines \['popular'\] predict no ratings"):
        check_gate("rbm", GateConfig(metric="rmse", baselines=("popular", "biased_mf")))


def test_the_absolute_error_is_watched_where_the_gate_goes_by_it() -> None:
    data = rated_data(n_users=30, n_items=15)
    train = TrainConfig(epochs=4, patience=0)
    fitted = fit_retrieval("biased_mf", {"dim": 2, "l2": 1.0}, train, data, metric="mae")
    assert len(fitted.history["val_mae"]) == 4
    assert fitted.best == min(value for _, value in fitted.validated)
    assert fitted.best == pytest.approx(
        evaluate_ratings(fitted.model, data, "validation")["mae"], abs=1e-6
    )
