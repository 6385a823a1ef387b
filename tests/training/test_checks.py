"""What a configuration asks of the models is looked at before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tfrec.config import load_config, parse_config
from tfrec.training.checks import check_models


def check(**sections: Any) -> None:
    check_models(parse_config({"name": "x", "data": {"format": "synthetic"}, **sections}))


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[2].glob("configs/*.yaml")))
def test_the_projects_own_configurations_are_fine(file: Path) -> None:
    check_models(load_config(file))


@pytest.mark.parametrize(
    ("sections", "error", "told"),
    [
        ({"retrieval": {"model": "two_towr"}}, KeyError, "did you mean 'two_tower'"),
        ({"retrieval": {"model": "wide_deep"}}, ValueError, "is a ranking model; there are"),
        (
            {"retrieval": {"model": "neumf", "params": {"factorz": 8}}},
            TypeError,
            r"got \['factorz'\]; mend 'params'",
        ),
        (
            {"retrieval": {"search": {"space": {"dimm": {"low": 8, "high": 64}}}}},
            TypeError,
            r"got \['dimm'\]; mend 'retrieval.search.space'",
        ),
        ({"gate": {"baselines": ["popular", "alz"]}}, KeyError, "did you mean 'als'"),
        (
            {"gate": {"baselines": ["wide_deep"]}},
            ValueError,
            "is a ranking model",
        ),
        ({"ranking": {"model": "ease"}}, ValueError, "ranking.model 'ease' is a retrieval model"),
        ({"ranking": {"params": {"hiden": [8]}}}, TypeError, r"got \['hiden'\]"),
        ({"gate": {"metric": "rmse"}}, ValueError, "predicts none"),
    ],
)
def test_what_the_models_do_not_know_is_refused(
    sections: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        check(**sections)


def test_what_is_tuned_of_training_is_no_parameter_of_the_model() -> None:
    ranges = {"dim": {"low": 8, "high": 64}, "train.learning_rate": {"low": 1e-4, "high": 1e-2}}
    check(retrieval={"search": {"space": ranges}})
    check(ranking={"enabled": False, "model": "none", "params": {"any": 1}})
