"""`tfrec recommend` for many users: users a second and peak memory as their number grows.

    python -m benchmarks.batch_answers

A synthetic shop (five events a user, 20,000 items), a two-tower of 64 dimensions with the mean of
the history (untrained: the speed does not depend on what it learned), top 10, seen items excluded.
Each size runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import Results, arguments, peak_mib

ITEMS = 20_000
K = 10


def measure(users: int, folder: Path) -> dict[str, float]:
    """Makes the data and the model, then answers for every user."""
    from tfrec.config import parse_config
    from tfrec.export.batch import BatchRecommender
    from tfrec.export.retrieval import export_retrieval
    from tfrec.models.registry import build
    from tfrec.schema import FeatureTable
    from tfrec.training.workspace import open_workspace

    config = parse_config(
        {
            "name": "batch",
            "data": {
                "format": "synthetic",
                "rows": 5 * users,
                "users_count": users,
                "items_count": ITEMS,
            },
        }
    )
    space = open_workspace(config, folder, features=FeatureTable())
    params = {"dim": 64, "history_length": 50, "history_encoder": "mean", "use_user_id": False}
    model = build("two_tower", space.data, params)
    export_retrieval(model, space.data, space.encoder, folder / "model")
    recommender = BatchRecommender(folder / "model", space.tables.interactions, space.tables.users)
    everyone = space.tables.users.column("user_id").to_pylist()
    recommender.write(everyone[:2048], K, folder / "warm.parquet")
    before = peak_mib()
    started = time.perf_counter()
    recommender.write(everyone, K, folder / "lists.parquet")
    seconds = time.perf_counter() - started
    after = peak_mib()
    return {"users_per_s": users / seconds, "peak_MiB": after, "added_MiB": after - before}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--one", type=int, help="measure this many users in this process")
    given = parser.parse_args()
    if given.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(given.one, Path(folder))))
        return
    results = Results("batch_answers", given.quick)
    for users in (5_000, 20_000) if given.quick else (10_000, 100_000, 1_000_000):
        command = [sys.executable, "-m", "benchmarks.batch_answers", "--one", str(users)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        for metric, value in json.loads(run.stdout.strip().splitlines()[-1]).items():
            results.add(
                "tfrec_recommend",
                metric,
                value,
                protocol="synthetic/top 10",
                note=f"{users:,} users",
            )
        results.write()
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
