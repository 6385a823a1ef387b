"""Fold-in: users the model never trained on, against the same users trained in full.

    python -m benchmarks.fold_in --seeds 3
    python -m benchmarks.fold_in --models gmf --seeds 1 --resume

``ml-1m/fold-in``: 600 users are drawn. ``full`` trains on everybody's events but the test item and
answers them by their id; ``folded`` trains without a single event of theirs and answers from their
history alone. Both are asked for the same last item, whole catalogue, seen items excluded.
``folded, same items`` forgets who the users are: all who were trained (the 600 for ``neumf``) are
answered from the history by the very model that learned them, which tells what folding costs
without the noise of a second training. Models that know users by their history only (item2vec,
SASRec) have one way to answer; there the ratio
tells what the 600 users' events were worth in training. ``neumf`` reads the latest 60 events of
each user only (``ml-1m-60/fold-in``), which makes its epochs four times as short. Results are
written after every model; ``--resume`` goes on with what the file holds.
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
SHORT = 60
LEARNED = ("als", "mf_logistic", "gmf", "neumf")  # they have a vector for each user of training

MODELS: dict[str, tuple[dict[str, Any], TrainConfig]] = {
    "als": ({"dim": 64, "sweeps": 12}, TrainConfig()),
    "mf_logistic": (
        {"dim": 32, "negatives": 8, "l2": 0.005, "history_length": LONG, "pairs": "catalogue"},
        TrainConfig(epochs=80, learning_rate=0.006, patience=0),
    ),
    "gmf": (
        {"factors": 32, "negatives": 8, "l2": 0.005, "history_length": LONG, "pairs": "catalogue"},
        TrainConfig(epochs=80, learning_rate=0.006, patience=0),
    ),
    "neumf": (
        {"factors": 16, "l2": 1e-5, "history_length": SHORT, "pretrain": False},
        TrainConfig(epochs=8, batch_size=2048, learning_rate=2e-3, patience=0),
    ),
    "item2vec": (
        {"dim": 64, "window": 10, "subsample": 1e-4},
        TrainConfig(epochs=10, batch_size=1024, learning_rate=5e-3, patience=0),
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


def latest(data: RetrievalData, count: int) -> RetrievalData:
    """The latest ``count`` training events of each user."""
    behind = data.train.indptr[data.train.user + 1] - np.arange(len(data.train))
    return replace(data, train=data.train.select(behind <= count))


def run(results: Results, name: str, data: RetrievalData, seed: int, quick: bool) -> None:
    """One model, trained twice."""
    params, train = MODELS[name]
    protocol = PROTOCOL
    if name == "neumf" and not quick:
        data, protocol = latest(data, SHORT), f"ml-1m-{SHORT}/fold-in"
    if results.value(name, "ms_per_user", protocol=protocol, seed=seed) is not None:
        return
    train = train.model_copy(update={"seed": seed, **({"epochs": 1} if quick else {})})
    drawn = np.random.default_rng(seed).permutation(np.arange(1, data.n_users + 1))[:USERS]
    questions = held_out(data, "test", users=drawn)
    without = replace(data, train=data.train.select(~np.isin(data.train.user, drawn)))
    full = fit_retrieval(name, params, train, data).model
    asked = {"full": evaluate(full, data, ks=(10, 100), questions=questions)}
    if name in LEARNED:
        everybody = questions if name == "neumf" else held_out(data, "test")
        for note, model in (("learned", full), ("folded, same items", Strangers(full))):
            asked[note] = evaluate(model, data, ks=(10, 100), questions=everybody)
    del full
    model = fit_retrieval(name, params, train, without).model
    began = time.perf_counter()
    asked["folded"] = evaluate(Strangers(model), data, ks=(10, 100), questions=questions)
    seconds = time.perf_counter() - began
    for note, found in asked.items():
        for metric in METRICS:
            results.add(name, metric, found[metric], protocol=protocol, seed=seed, note=note)
    for part, whole in (("folded", "full"), ("folded, same items", "learned")):
        for metric in METRICS if part in asked else ():
            ratio = asked[part][metric] / max(asked[whole][metric], 1e-9)
            note = f"{metric} {part} / {whole}"
            results.add(name, "ratio", ratio, protocol=protocol, seed=seed, note=note)
    results.add(
        name, "ms_per_user", 1000 * seconds / len(questions.users), protocol=protocol, seed=seed
    )
    results.write()


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--resume", action="store_true", help="keep what the file holds")
    given = parser.parse_args()
    folder = shared_data()
    if folder is None:
        print("skipped: the real data is not here; set TFREC_SHARED_DATA")
        return
    results = Results("fold_in", given.quick, given.resume)
    with tempfile.TemporaryDirectory() as work:
        data = load(folder, Path(work))
        if given.quick:
            data = latest(data, 20)
        for seed in range(1 if given.quick else given.seeds):
            for name in given.models:
                run(results, name, data, seed, given.quick)
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
