"""Runs the pipeline on a tiny shop, in processes of its own; the tests read what it left behind.

python drive.py one ROOT       one run (it is killed half way by the fixture)
python drive.py all ROOT       resume, run again, refuse a bad model, stop on an anomaly, compile
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tfrec.config import Config, parse_config

FEATURES = [
    {"name": "age", "role": "user", "kind": "categorical", "dim": 4},
    {"name": "categories", "role": "item", "kind": "multi", "dim": 4, "max_length": 3},
    {"name": "price", "role": "item", "kind": "numeric", "transform": "log"},
]


def tiny(root: Path, **sections: Any) -> Config:
    """A configuration that runs in about a minute."""
    values: dict[str, Any] = {
        "name": "tiny",
        "data": {
            "format": "synthetic",
            "rows": 4000,
            "users_count": 200,
            "items_count": 80,
            "seed": 3,
        },
        "features": FEATURES,
        "retrieval": {"model": "ease", "params": {"l2": 20.0}},
        "ranking": {
            "history_length": 5,
            "negatives": 2,
            "params": {"hidden": [16]},
            "train": {"epochs": 1, "batch_size": 512, "patience": 0},
        },
        # On so small a shop popularity is hard to beat: the model may lose a tenth against it.
        "gate": {
            "metric": "recall@10",
            "baselines": ["popular"],
            "margin": -0.1,
            "slices": ["age"],
        },
        "pipeline": {"root": str(root / "run")},
    }
    for name, section in sections.items():
        values[name] = {**values[name], **section}
    return parse_config(values)


def worse(root: Path) -> Config:
    """The same with a retrieval model that learns nothing."""
    return tiny(
        root,
        retrieval={
            "model": "two_tower",
            "params": {"dim": 4},
            "train": {"epochs": 1, "learning_rate": 1e-9, "batch_size": 64},
        },
    )


def anomalous(root: Path) -> Config:
    """The same under a curated schema that does not know one age group and asks for a column."""
    schema = next((root / "run/artifacts/SchemaGen/schema").glob("*/schema.pbtxt")).read_text()
    known = 'value: "35-44"'
    assert schema.count(known) == 1, schema
    lacking = schema.replace(known, "") + (
        'feature { name: "shoe_size" type: FLOAT presence { min_fraction: 1.0 min_count: 1 } }'
    )
    path = root / "curated.pbtxt"
    path.write_text(lacking.replace("min_domain_mass: 0.95", "min_domain_mass: 1.0"))
    return tiny(root, pipeline={"root": str(root / "run"), "schema_file": str(path)})


def all_steps(root: Path) -> dict[str, Any]:
    """Every run after the killed one; each lives on the cache of those before it."""
    from pipelines import kubeflow, local
    from pipelines.components.anomaly_gate import AnomalyError
    from pipelines.spans import resolve

    config = tiny(root)
    found: dict[str, Any] = {}
    for step, asked in (("resumed", config), ("again", config), ("worse", worse(root))):
        found[step] = asdict(local.run(asked))
    try:
        local.run(anomalous(root))
    except AnomalyError as error:
        found["anomaly"] = str(error)
    found["job"] = kubeflow.compile(config, root / "job.json", root="gs://bucket/x", image="i:1")
    for span, version in ((1, 1), (2, 1), (2, 3)):
        folder = root / f"log/span-{span:02d}/v{version}"
        folder.mkdir(parents=True)
        (folder / "interactions.csv").write_text(f"{span},{version}\n")
    pattern = str(root / "log/span-{SPAN:2}/v{VERSION}")
    found["spans"] = [asdict(resolve(pattern, span)) for span in (None, 1)]
    try:
        resolve(pattern, 7)
    except ValueError as error:
        found["no_span"] = str(error)
    return found


if __name__ == "__main__":
    step, folder = sys.argv[1], Path(sys.argv[2])
    if step == "one":
        from pipelines import local

        local.run(tiny(folder))
    else:
        (folder / "found.json").write_text(json.dumps(all_steps(folder)))
