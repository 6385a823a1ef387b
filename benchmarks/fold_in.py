"""Fold-in: users the model never trained on, against the same users trained in full.

    python -m benchmarks.fold_in --seeds 3

``ml-1m/fold-in``: 600 users are drawn. ``full`` trains on everybody's events but the test item and
answers them by their id; ``folded`` trains without a single event of theirs and answers from their
history alone. Both are asked for the same last item, whole catalogue, seen items excluded. Models
that know users by their history only (item2vec, SASRec) have one way to answer; there the ratio
tells what the 600 users' events were worth in training. Results are written after every model.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.common import Results, arguments, shared_data
from tfrec.config import Config, DataConfig, TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.evaluation.protocol import held_out
from tfrec.schema import USER_ID
from tfrec.training.fit import fit_retrieval
from tfrec.training.workspace import open_workspace

PROTOCOL = "ml-1m/fold-in"
USERS = 600
METRICS = ("recall@10", "recall@100", "ndcg@10")
LONG = 2500  # longer than any history

MODELS: dict[str, tuple[dict[str, Any], TrainConfig]] = {
    "als": ({"dim": 64, "sweeps": 12}, TrainConfig()),
    "mf_logistic": (
        {"dim": 64, "negatives": 8, "l2": 0.005, "history_length": LONG, "fold_in_steps": 100},
        TrainConfig(epochs=60, batch_size=1024, learning_rate=0.004, patience=0),
    ),
    "gmf": (
        {"factors": 32, "l2": 1e-5, "history_length": LONG},
        TrainConfig(epochs=8, batch_size=2048, learning_rate=2e-3, patience=0),
    ),
    "neumf": (
        {"factors": 16, "l2": 1e-5, "history_length": 500, "pretrain": False},
        TrainConfig(epochs=6, batch_size=2048, learning_rate=2e-3, patience=0),
    ),
    "item2vec": (
        {"dim": 64, "window": 10},
        TrainConfig(epochs=10, batch_size=1024, learning_rate=2e-3, patience=0),
    ),
    "sasrec": (
        {"dim": 64, "history_length": 100},
        TrainConfig(epochs=8, batch_size=64, learning_rate=2e-3, patience=0),
    ),
}


class Strangers:
    """The same model, told that it does not know any user."""

    def __init__(self, model: Any) -> None:
        self.model, self.history_length = model, model.history_length
        self.bytes_per_user = model.bytes_per_user

    def score_catalogue(self, users: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return self.model.score_catalogue({**users, USER_ID: tf.zeros_like(users[USER_ID])})


def load(folder: Path, work: Path) -> RetrievalData:
    """MovieLens-1M, last event out, validation in training."""
    config = Config(
        name="ml-1m",
        data=DataConfig(format="movielens_1m", path=str(folder / "ml-1m"), min_item_events=5),
    )
    return open_workspace(config, work).data.refit()


def run(results: Results, name: str, data: RetrievalData, seed: int, quick: bool) -> None:
    """One model, trained twice."""
    params, train = MODELS[name]
    train = train.model_copy(update={"seed": seed, **({"epochs": 1} if quick else {})})
    drawn = np.random.default_rng(seed).permutation(np.arange(1, data.n_users + 1))[:USERS]
    questions = held_out(data, "test", users=drawn)
    without = replace(data, train=data.train.select(~np.isin(data.train.user, drawn)))
    full = fit_retrieval(name, params, train, data).model
    asked = {"full": evaluate(full, data, ks=(10, 100), questions=questions)}
    del full
    model = fit_retrieval(name, params, train, without).model
    began = time.perf_counter()
    asked["folded"] = evaluate(Strangers(model), data, ks=(10, 100), questions=questions)
    seconds = time.perf_counter() - began
    for note, found in asked.items():
        for metric in METRICS:
            results.add(name, metric, found[metric], protocol=PROTOCOL, seed=seed, note=note)
    for metric in METRICS:
        ratio = asked["folded"][metric] / max(asked["full"][metric], 1e-9)
        results.add(
            name, "ratio", ratio, protocol=PROTOCOL, seed=seed, note=f"{metric} folded / full"
        )
    results.add(
        name, "ms_per_user", 1000 * seconds / len(questions.users), protocol=PROTOCOL, seed=seed
    )
    results.write()


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    given = parser.parse_args()
    folder = shared_data()
    if folder is None:
        print("skipped: the real data is not here; set TFREC_SHARED_DATA")
        return
    results = Results("fold_in", given.quick)
    with tempfile.TemporaryDirectory() as work:
        data = load(folder, Path(work))
        if given.quick:  # the latest 20 events of each user
            behind = data.train.indptr[data.train.user + 1] - np.arange(len(data.train))
            data = replace(data, train=data.train.select(behind <= 20))
        for seed in range(1 if given.quick else given.seeds):
            for name in given.models:
                run(results, name, data, seed, given.quick)
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
