"""The gate's rules, without a pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.judging import blessed_before, coverage, judge, newest_version
from tfrec.config import GateConfig


def reasons(value: float, live: float | None = None, covered: float = 1.0, **gate: float) -> list:
    return judge("recall@10", GateConfig(**gate), value, covered, {"popular": 0.2}, live)


def test_better_than_all_is_blessed() -> None:
    assert reasons(0.3, live=0.3) == []


def test_below_a_baseline_is_refused() -> None:
    (reason,) = reasons(0.19)
    assert "0.1900 is below 0.2000, that of 'popular'" in reason


def test_equal_to_the_baseline_is_enough_without_a_margin() -> None:
    assert reasons(0.2) == []
    (reason,) = reasons(0.2, margin=0.1)
    assert "0.2200" in reason
    assert "margin 0.1" in reason


@pytest.mark.parametrize(("value", "refused"), [(0.295, False), (0.293, True)])
def test_a_little_may_be_lost_against_the_live_model(value: float, refused: bool) -> None:
    assert bool(reasons(value, live=0.3, live_tolerance=0.02)) is refused


def test_narrow_lists_are_refused() -> None:
    (reason,) = reasons(0.3, covered=0.05, min_coverage=0.1)
    assert "5.0% of the catalogue" in reason


def test_nan_is_refused() -> None:
    assert len(reasons(float("nan"), live=0.1)) == 2


def errors(value: float, live: float | None = None, **gate: float) -> list:
    """As ``reasons``, of an error: the smaller the better, no lists."""
    return judge("rmse", GateConfig(metric="rmse", **gate), value, None, {"biased_mf": 0.9}, live)


def test_of_errors_the_smaller_is_the_better() -> None:
    assert errors(0.8, live=0.8) == []
    assert errors(0.9) == []
    (reason,) = errors(0.95)
    assert reason == "rmse 0.9500 is above 0.9000, that of 'biased_mf'"


def test_a_margin_lowers_the_error_that_is_allowed() -> None:
    (reason,) = errors(0.9, margin=0.1)
    assert reason == "rmse 0.9000 is above 0.8100, that of 'biased_mf' less the margin 0.1"
    assert errors(0.98, margin=-0.1) == []


@pytest.mark.parametrize(("value", "refused"), [(0.815, False), (0.817, True)])
def test_a_little_may_be_added_to_the_live_models_error(value: float, refused: bool) -> None:
    found = errors(value, live=0.8, live_tolerance=0.02)
    assert bool(found) is refused
    if found:
        assert "is above 0.8160: the live model has 0.8000 and at most 2% may be added" in found[0]


def test_an_error_that_is_no_number_is_refused() -> None:
    assert len(errors(float("nan"), live=0.8)) == 2


def test_the_live_version_is_the_largest_complete_number(tmp_path: Path) -> None:
    assert newest_version(tmp_path / "none") is None
    for name in ("9", "10", "11", "latest"):
        (tmp_path / name).mkdir()
        if name != "11":
            (tmp_path / name / "saved_model.pb").touch()
    assert newest_version(tmp_path) == tmp_path / "10"


def test_coverage_counts_items_once_and_padding_never() -> None:
    lists = np.array([[1, 2, 0], [2, 3, 0]])
    assert coverage(SimpleNamespace(lists=lists, n_items=6)) == 0.5


@dataclass(frozen=True)
class Fake:
    """An artifact as the resolver sees it."""

    id: int
    properties: dict = field(default_factory=dict)

    def get_int_custom_property(self, name: str) -> int:
        return self.properties.get(name, 0)


def test_the_baseline_is_the_last_one_blessed_before_the_candidate() -> None:
    models = [Fake(3), Fake(9), Fake(1), Fake(6)]
    verdicts = [(1, 1), (3, 1), (6, 0), (9, 1)]
    blessings = [
        Fake(20 + model, {"current_model_id": model, "blessed": blessed})
        for model, blessed in verdicts
    ]

    def chosen(candidate: int) -> list[int]:
        found, with_it = blessed_before(models, blessings, Fake(candidate))
        assert [b.id - 20 for b in with_it] == [m.id for m in found]
        return [m.id for m in found]

    assert chosen(12) == [9]
    # Not itself, though it has been blessed since; not the refused one.
    assert chosen(9) == [3]
    assert chosen(3) == [1]
    assert chosen(1) == []
