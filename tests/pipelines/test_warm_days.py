"""A pipeline that starts warm: from nothing, then from yesterday's model, then from the cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipelines.apart import run_script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_the_second_day_begins_where_the_first_ended(tmp_path: Path) -> None:
    printed = run_script("warm_days.py", tmp_path)
    first, rest = printed.split("DAY second", 1)
    second, again = rest.split("DAY again", 1)
    assert "warm start from" not in first
    assert "warm start from" in second
    assert "item_id: 60 rows kept, 20 new" in second
    assert "warm start from" not in again
    found = json.loads((tmp_path / "found.json").read_text())
    trainers = {
        day: next(c for c in found[day]["components"] if c["name"] == "RetrievalTrainer")
        for day in found
    }
    assert not trainers["second"]["cached"]
    assert trainers["again"]["cached"], "the same data must not be trained on twice"
    counts = sorted((tmp_path / "run/artifacts/RetrievalTrainer/model_run").glob("*/features.json"))
    assert len(counts) == 2
    assert {c["feature"] for c in json.loads(counts[0].read_text())} == {
        "age",
        "categories",
        "price",
    }
    assert "item price: 60 rows, 0 missing" in first
