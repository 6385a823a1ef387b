"""Tuning: finds what a grid finds, keeps its budget, goes on where it was stopped."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml

from tests.builders import random_data, retrieval_data, without_split
from tests.rated import rated_data
from tfrec.config import Config, ConfigError, parse_config
from tfrec.evaluation import evaluate
from tfrec.training import tune as tuning
from tfrec.training.fit import fit_retrieval
from tfrec.training.tune import TuneResult, _Report, apply, tune

DATA = random_data(n_users=40, n_items=20)
RANGE = {"low": 2, "high": 30}
CHOICES = [1.0, 10.0, 100.0, 1000.0]


def config(model: str = "ease", params: Any = None, train: Any = None, **search: Any) -> Config:
    return parse_config(
        {
            "name": "small",
            "data": {"format": "synthetic"},
            "retrieval": {
                "model": model,
                "params": params or {},
                "train": train or {},
                "search": {"metric": "ndcg@5", **search},
            },
        }
    )


def values(result: TuneResult) -> list[float | None]:
    return [row["value"] for row in result.trials]


def test_finds_the_best_of_a_grid(tmp_path: Path) -> None:
    by_hand = {
        l2: evaluate(
            fit_retrieval("ease", {"l2": l2}, config().retrieval.train, DATA).model,
            DATA,
            "validation",
            (5,),
        )["ndcg@5"]
        for l2 in CHOICES
    }
    result = tune(config(space={"l2": {"choices": CHOICES}}, trials=14), DATA, tmp_path)
    assert result.metric == "ndcg@5"
    assert result.value == pytest.approx(max(by_hand.values()))
    assert by_hand[result.best.params["l2"]] == pytest.approx(result.value)
    for row in result.trials:
        assert row["value"] == pytest.approx(by_hand[row["l2"]])
    written = yaml.safe_load((tmp_path / "best.yaml").read_text())
    again = parse_config({"name": "small", "data": {"format": "synthetic"}, **written})
    assert again.retrieval.params == result.best.params
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(r["value"]) for r in rows] == pytest.approx(values(result))


def test_a_training_that_diverges_does_not_win(tmp_path: Path) -> None:
    space = {"train.learning_rate": {"choices": [0.01, 1e30]}}
    train = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}
    searched = config("gmf", {"factors": 2}, train, space=space, trials=6)
    result = tune(searched, DATA, tmp_path)
    assert result.best.train.learning_rate == 0.01
    failed = [row for row in result.trials if row["train.learning_rate"] == 1e30]
    assert failed
    assert all("diverged" in row["error"] for row in failed)


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (None, False),
        ([5, 5], False),
        (True, False),
        (7.5, False),
        (7, True),
        (7.0, True),
        (99, False),
    ],
)
def test_a_configured_value_of_any_type_is_first_or_passed_over(value: Any, held: bool) -> None:
    searched = config("ease", {"history_length": value}, space={"history_length": RANGE})
    retrieval = searched.retrieval
    found = tuning._configured(retrieval, retrieval.search.space)
    assert found == ({"history_length": value} if held else None)


def test_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"l2": {"low": 1.0, "high": 1000.0, "log": True}}
    first = tune(config(space=space, trials=3), DATA, tmp_path)
    fits = []
    fit = tuning.fit_retrieval

    def counted(*args: Any, **kwargs: Any) -> Any:
        fits.append(args)
        return fit(*args, **kwargs)

    monkeypatch.setattr(tuning, "fit_retrieval", counted)
    more = tune(config(space=space, trials=5), DATA, tmp_path)
    assert len(fits) == 2
    assert values(more)[:3] == values(first)
    assert len({row["l2"] for row in more.trials}) == 5  # nothing was drawn twice
    assert len(tune(config(space=space, trials=5), DATA, tmp_path).trials) == 5
    assert len(fits) == 2
    # Other ranges are another search.
    other = tune(config(space={"l2": {"choices": [5.0]}}, trials=1), DATA, tmp_path)
    assert len(other.trials) == 1


def test_an_interrupted_trial_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"l2": {"choices": CHOICES}}
    with monkeypatch.context() as patched:

        def stopped(*args: Any, **kwargs: Any) -> Any:
            raise KeyboardInterrupt

        patched.setattr(tuning, "fit_retrieval", stopped)
        with pytest.raises(KeyboardInterrupt):
            tune(config(space=space, trials=1), DATA, tmp_path)
    result = tune(config(space=space, trials=1), DATA, tmp_path)
    assert [row["state"] for row in result.trials] == ["failed", "complete"]


def test_parameters_a_model_refuses_are_recorded(tmp_path: Path) -> None:
    space = {"shrinkage": {"choices": [-1.0, 5.0]}}
    result = tune(config("item_knn", {"neighbours": 5}, space=space, trials=8), DATA, tmp_path)
    failed = [row for row in result.trials if row["state"] == "failed"]
    assert failed
    assert all("shrinkage from 0" in row["error"] and row["value"] is None for row in failed)
    assert result.best.params == {"neighbours": 5, "shrinkage": 5.0}
    only_bad = config("item_knn", space={"shrinkage": {"choices": [-1.0]}}, trials=1)
    with pytest.raises(ValueError, match=r"none of 1 trials was completed.*shrinkage from 0"):
        tune(only_bad, DATA, tmp_path / "bad")


def test_time_ends_the_trial_and_the_search(tmp_path: Path) -> None:
    space = {
        "train.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
        "dim": {"choices": [4]},
    }
    train = {"epochs": 50, "batch_size": 64}
    result = tune(
        config("mf_bpr", train=train, space=space, trials=9, timeout=1e-3), DATA, tmp_path
    )
    assert [row["state"] for row in result.trials] == ["complete"]
    assert result.trials[0]["best_epoch"] == 1
    assert result.best.train.epochs == 1
    assert result.best.train.patience == 0
    assert 1e-3 <= result.best.train.learning_rate <= 1e-2


def test_the_configured_parameters_are_tried_first(tmp_path: Path) -> None:
    space = {"l2": {"low": 1.0, "high": 1000.0}}
    result = tune(config(params={"l2": 77.0}, space=space, trials=2), DATA, tmp_path)
    assert result.trials[0]["l2"] == 77.0
    outside = tune(config(params={"l2": 7777.0}, space=space, trials=1), DATA, tmp_path / "other")
    assert outside.trials[0]["l2"] != 7777.0


def test_a_trial_that_lags_behind_is_pruned() -> None:
    class Lagging:
        reported: tuple[float, int] | None = None

        def report(self, value: float, step: int) -> None:
            self.reported = (value, step)

        def should_prune(self) -> bool:
            return self.reported == (0.25, 4)

    trial: Any = Lagging()
    report = _Report(trial, "ndcg@5", np.inf)
    report.on_epoch_end(2, {"loss": 1.0})  # an epoch without validation
    report.on_epoch_end(3, {"val_ndcg@5": 0.5})
    with pytest.raises(optuna.TrialPruned, match=r"ndcg@5 0\.2500 after epoch 5"):
        report.on_epoch_end(4, {"val_ndcg@5": 0.25})


def test_values_go_to_the_model_and_to_the_training() -> None:
    retrieval = config("neumf", {"alpha": 0.5}, {"epochs": 7}).retrieval
    chosen = apply(retrieval, {"factors": 8, "train.learning_rate": 0.01})
    assert chosen.params == {"alpha": 0.5, "factors": 8}
    assert (chosen.train.epochs, chosen.train.learning_rate) == (7, 0.01)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"at least one range in retrieval\.search\.space"):
        tune(config(), DATA, tmp_path)
    blind = without_split(DATA, "validation")
    with pytest.raises(ValueError, match="validation split, which holds no events"):
        tune(config(space={"l2": {"choices": [1.0]}}), blind, tmp_path)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"l2": {"low": 1.0}}, "either 'low' and 'high', or 'choices'"),
        ({"l2": {"low": 2, "high": 1}}, "low is at most high; got 2 and 1"),
        ({"l2": {"low": 0.0, "high": 1.0, "log": True}}, "starts above 0; got 0.0"),
        ({"l2": {"choices": [1], "log": True}}, "'log' is for a range"),
        ({"train.seed": {"choices": [1]}}, "'train.seed' is no tunable name"),
        ({"model.dim": {"choices": [1]}}, "'model.dim' is no tunable name"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(space: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(space=space)


def test_rating_models_are_tuned_for_the_smallest_error(tmp_path: Path) -> None:
    space = {"l2": {"choices": [0.1, 1000.0]}}  # so much shrinkage leaves the mean alone
    data = rated_data(n_users=60, n_items=20)
    asked = config("biased_mf", {"dim": 2}, {"epochs": 3}, space=space, metric=None, trials=6)
    result = tune(asked, data, tmp_path)
    assert result.metric == "rmse"
    found = {row["l2"]: row["value"] for row in result.trials if row["value"] is not None}
    assert len(found) == 2
    assert result.value == min(found.values()) < max(found.values())
    assert result.best.params["l2"] == min(found, key=lambda l2: found[l2])
    with pytest.raises(
        ValueError,
        match=r"is tuned by one of \['rmse', 'mae'\]; got retrieval\.search\.metric 'ndcg@5'",
    ):
        tune(config("biased_mf", space=space, trials=1), data, tmp_path / "other")


def test_repeats_count_as_the_gate_counts_them(tmp_path: Path) -> None:
    again = retrieval_data(
        train=[(u, i) for u in range(1, 6) for i in (u, u + 1, u + 2)],
        validation=[(u, u) for u in range(1, 6)],  # what they had first, again
        n_users=5,
        n_items=8,
    )
    values = {**config(space={"l2": {"choices": [1.0]}}, trials=1).model_dump()}
    with pytest.raises(ValueError, match="exclude_seen=False for repeat purchases"):
        tune(parse_config(values), again, tmp_path / "new")
    values["gate"] = {"exclude_seen": False}
    assert tune(parse_config(values), again, tmp_path / "again").value > 0
