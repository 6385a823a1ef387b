"""Runs the pipeline on two days of a tiny shop, then once more; test_warm_days.py reads the report.

python warm_days.py ROOT
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.pipelines.drive import tiny
from tfrec.config import Config


def day(root: Path, rows: int, items: int) -> Config:
    """The shop on one day; every model is good enough here."""
    return tiny(
        root,
        data={"rows": rows, "items_count": items},
        retrieval={
            "model": "gmf",
            "params": {"factors": 4},
            "warm_start": "latest",
            "train": {"epochs": 1, "batch_size": 256, "patience": 0},
        },
        ranking={"enabled": False},
        gate={"margin": -1.0, "live_tolerance": 1.0, "baselines": []},
    )


def main(root: Path) -> None:
    from pipelines import local

    found = {}
    for name, rows, items in (("first", 3000, 60), ("second", 4000, 80), ("again", 4000, 80)):
        print(f"DAY {name}", flush=True)
        found[name] = asdict(local.run(day(root, rows, items)))
    (root / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
