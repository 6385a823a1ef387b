"""Runs the pipeline on a shop with images and queries; test_content.py reads what it left behind.

python content_run.py ROOT
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.pipelines.drive import tiny
from tfrec.config import Config

ITEMS = 60
TEXT = {"kind": "text", "dim": 8, "max_length": 8}
FEATURES = [
    {"name": "age", "role": "user", "kind": "categorical", "dim": 4},
    {"name": "title", "role": "item", **TEXT},
    {"name": "image", "role": "item", "kind": "image", "dim": 8, "height": 16, "width": 16},
    {"name": "query", "role": "context", **TEXT, "shares": "title"},
]


def shop(root: Path) -> Config:
    """Both models see images (a small network trained along) and are asked queries."""
    train = {"epochs": 2, "batch_size": 128, "patience": 0}
    values = tiny(
        root,
        data={"rows": 3000, "items_count": ITEMS, "images": True},
        ranking={"train": {**train, "epochs": 1}},
        # What passes a gate is others' business; here everything does.
        gate={"margin": -1.0, "live_tolerance": 1.0, "baselines": [], "min_coverage": 0.0},
    ).model_dump()
    values["features"] = FEATURES
    values["retrieval"] = {
        "model": "two_tower",
        "params": {"dim": 8, "history_encoder": "mean", "context_dropout": 0.3},
        "train": train,
        "index": {"kind": "ivf", "at": 5},
    }
    return Config.model_validate(values)


def main(root: Path) -> None:
    from pipelines import local

    (root / "found.json").write_text(json.dumps(asdict(local.run(shop(root)))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
