"""Sequential models on gSASRec's protocol: MovieLens-1M, last position, whole catalogue.

    python -m benchmarks.sequential --seeds 5
    python -m benchmarks.sequential --only "sasrec softmax" --seeds 1

3,416 movies (rated at least five times), 6,040 users; the last position tests, the last but
one of 512 users validates, all else trains; items that a user has had are not recommended again.
Published (gSASRec, arXiv:2308.07192): SASRec .2392 / .1259, gSASRec .3003 / .1726 of R@10 / N@10.
Results are written after every model and seed; those of variants that a run leaves alone stay, and
with ``--resume`` those of the seeds that were measured before.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Results, arguments, shared_data
from tfrec.config import Config, DataConfig, Rule, TableMap, TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.training.fit import fit_retrieval
from tfrec.training.workspace import open_workspace

PROTOCOL = "ml-1m/last-out-position/full"
METRICS = ("recall@1", "recall@10", "ndcg@10", "recall@100")
VALIDATION_USERS = 512

TRAIN = TrainConfig(epochs=40, batch_size=64, learning_rate=2e-3, patience=4)
VARIANTS: dict[str, tuple[str, dict[str, Any], TrainConfig]] = {
    "popular": ("popular", {}, TrainConfig()),
    "sasrec softmax": ("sasrec", {"dim": 64, "history_length": 100, "loss": "softmax"}, TRAIN),
    "sasrec gbce": (
        "sasrec",
        {"dim": 64, "history_length": 100, "loss": "gbce", "negatives": 256, "calibration": 0.75},
        TRAIN,
    ),
    "sasrec sampled softmax": (
        "sasrec",
        {"dim": 64, "history_length": 100, "loss": "sampled_softmax", "negatives": 256},
        TRAIN,
    ),
    "sasrec bce": (
        "sasrec",
        {"dim": 64, "history_length": 100, "loss": "bce", "negatives": 1},
        TRAIN,
    ),
    "gru4rec softmax": ("gru4rec", {"dim": 64, "history_length": 50, "loss": "softmax"}, TRAIN),
}


def load(folder: Path, work: Path) -> RetrievalData:
    """The encoded data with 512 validation users (seed 0)."""
    ratings = TableMap(
        file="ratings.csv.gz",
        columns={
            "user_id": "user_id",
            "item_id": "movie_id",
            "weight": "rating",
            "timestamp": "position",
        },
        rules=(Rule(column="position", pattern=r"\d+", reason="rated_fewer_than_5_times"),),
    )
    config = Config(
        name="ml-1m-position",
        data=DataConfig(
            format="columns", path=str(folder), interactions=ratings, min_item_events=5
        ),
    )
    data = open_workspace(config, work).data
    users = np.random.default_rng(0).permutation(np.arange(1, data.n_users + 1))
    chosen = np.isin(data.validation.user, users[:VALIDATION_USERS])
    return replace(
        data,
        train=data.train.join(data.validation.select(~chosen)),
        validation=data.validation.select(chosen),
    )


def run(results: Results, note: str, data: RetrievalData, seeds: int, epochs: int | None) -> None:
    """One variant, every seed: epochs by the validation users, test read once a seed."""
    name, params, train = VARIANTS[note]
    iterative = name != "popular"
    for seed in range(seeds if iterative else 1):
        kept = seed if iterative else None
        if results.value(name, "ndcg@10", protocol=PROTOCOL, seed=kept, note=note) is not None:
            continue
        own = train.model_copy(
            update={"seed": seed, **({"epochs": epochs} if epochs and iterative else {})}
        )
        began = time.perf_counter()
        fitted = fit_retrieval(name, params, own, data, metric="ndcg@10")
        seconds = time.perf_counter() - began
        found = evaluate(fitted.model, data, "test", (1, 10, 100))
        print(f"{note} seed {seed}: validation by epoch {fitted.validated}", flush=True)
        for metric in METRICS:
            results.add(name, metric, found[metric], protocol=PROTOCOL, seed=kept, note=note)
        if iterative:
            for metric, value in (("best_epoch", fitted.best_epoch), ("train_s", seconds)):
                results.add(name, metric, value, protocol=PROTOCOL, seed=seed, note=note)
        results.write()


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--resume", action="store_true", help="keep what the file holds")
    given = parser.parse_args()
    folder = shared_data()
    if folder is None:
        print("skipped: the real data is not here; set TFREC_SHARED_DATA")
        return
    results = Results("sequential", given.quick, resume=True)
    if not given.resume:
        results.records = [r for r in results.records if r.get("note") not in given.only]
    with tempfile.TemporaryDirectory() as work:
        data = load(folder / "ml-1m", Path(work))
        print(f"{data.n_users} users, {data.n_items} items, {len(data.train)} events", flush=True)
        if given.quick:  # the latest 30 events of each user, one epoch
            behind = data.train.indptr[data.train.user + 1] - np.arange(len(data.train))
            data = replace(data, train=data.train.select(behind <= 30))
        for note in given.only:
            seeds, epochs = (1, 1) if given.quick else (given.seeds, None)
            run(results, note, data, seeds, epochs)
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
