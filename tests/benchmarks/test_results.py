"""Benchmark records and the page made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import common
from benchmarks.render import render, shown
from benchmarks.run_all import scripts

KEYS = {"name", "metric", "value", "unit", "seed", "protocol", "machine", "date"}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(common, "RESULTS_DIR", tmp_path)
    return tmp_path


def test_records_hold_what_the_page_needs(results: Path) -> None:
    kept = common.Results("one")
    kept.add("ease", "recall@10", 0.11, protocol="ml-1m/last-out/full", seed=None)
    kept.add("two_tower", "recall@10", 0.3, protocol="ml-1m/last-out/full", seed=1, note="logq off")
    path = kept.write()
    assert path == results / "one.json"
    records = json.loads(path.read_text())
    assert set(records[0]) == KEYS
    assert set(records[1]) == KEYS | {"note"}
    assert "cores" in records[0]["machine"]


def test_quick_runs_never_replace_full_ones(results: Path) -> None:
    full, quick = common.Results("one"), common.Results("one", quick=True)
    full.add("a", "auc", 0.9, protocol="p")
    quick.add("a", "auc", 0.5, protocol="p")
    full.write()
    quick.write()
    page = render(results)
    assert "0.9000" in page
    assert "0.5000" not in page


def test_seeds_are_folded_to_mean_and_spread(results: Path) -> None:
    kept = common.Results("one")
    for seed, value in enumerate((0.1, 0.2, 0.3)):
        kept.add("a", "auc", value, protocol="p", seed=seed)
    kept.add("a", "ms", 1234.5, protocol="p", unit="ms")
    kept.write()
    page = render(results)
    assert "| name | auc | ms [ms] | seeds |" in page
    assert "| a | 0.2000 ± 0.1000 | 1,234 | 0, 1, 2 |" in page


def test_units_are_never_folded_into_one(results: Path) -> None:
    kept = common.Results("one")
    kept.add("a", "ratio", 2.0, protocol="p", unit="cpu")
    kept.add("a", "ratio", 4.5, protocol="p", unit="wall")
    kept.write()
    assert "| a | 2 | 4.5000 | - |" in render(results)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.12345], "0.1235"),
        ([12.34], "12.3"),
        ([4321.4], "4,321"),
        ([44.0], "44"),
        ([0.0], "0.0000"),
    ],
)
def test_digits_fit_the_size(values: list[float], text: str) -> None:
    assert shown(values) == text


def test_every_script_is_run_by_bench_and_takes_quick(repository: Path) -> None:
    assert {"retrieval", "wide_deep", "training_speed"} <= set(scripts())
    for name in scripts():
        text = (repository / "benchmarks" / f"{name}.py").read_text()
        if "__main__" in text:
            assert "arguments(" in text, name


def test_results_page_is_that_of_the_records(repository: Path) -> None:
    page = repository / "benchmarks" / "RESULTS.md"
    assert page.read_text() == render(repository / "benchmarks" / "results")
