"""A pipeline that starts warm: from nothing, then from yesterday's model, then from the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_the_second_day_begins_where_the_first_ended(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("warm_days.py")), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
    first, rest = ran.stdout.split("DAY second", 1)
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
