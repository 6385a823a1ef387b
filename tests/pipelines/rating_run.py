"""Runs the pipeline with a rating model; test_rating_run.py reads what it left behind.

python rating_run.py ROOT
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.pipelines.drive import tiny
from tfrec.config import Config


def rated(root: Path) -> Config:
    """The tiny shop with an RBM, judged by the ratings it predicts.

    With so few of them the baseline is hard to beat: the error may be a tenth larger.
    """
    return tiny(
        root,
        retrieval={
            "model": "rbm",
            "params": {"by": "user", "hidden": 8, "cd": [1], "optimizer": "adam"},
            "train": {"epochs": 30, "batch_size": 32, "learning_rate": 0.01, "patience": 0},
        },
        ranking={"enabled": False},
        gate={"metric": "rmse", "margin": -0.1, "baselines": ["biased_mf"]},
    )


def main(root: Path) -> None:
    from pipelines import local

    (root / "found.json").write_text(json.dumps(asdict(local.run(rated(root)))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
