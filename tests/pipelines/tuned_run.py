"""Runs the pipeline with a search before training; test_tuned_run.py reads what it left behind.

python tuned_run.py ROOT
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.pipelines.drive import tiny
from tfrec.config import Config

DIMS = (3, 5)


def searched(root: Path) -> Config:
    """The tiny shop with ALS, whose dimension (it shows in the model's tables) is searched for."""
    return tiny(
        root,
        retrieval={
            "model": "als",
            "params": {"dim": 2, "sweeps": 4, "l2": 0.01},
            "search": {"space": {"dim": {"choices": DIMS}}, "trials": 2, "in_pipeline": True},
        },
        ranking={"enabled": False},
        gate={"margin": -1.0, "baselines": ["popular"]},
    )


def main(root: Path) -> None:
    from pipelines import local

    (root / "found.json").write_text(json.dumps(asdict(local.run(searched(root)))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
