"""NCF's protocol on MovieLens-1M: most popular, MF, GMF, MLP and NeuMF on the published files.

    python -m benchmarks.ncf --models popular          # a minute: is the protocol right?
    python -m benchmarks.ncf --seeds 5                 # everything

``ml-1m/ncf/sampled-99``: each user's held-out item among the 99 published negatives; beside it
``ml-1m/ncf/full``: among all items the user has not had. Epochs are chosen on the latest-but-one
item by NDCG@10 (seed 0; on the whole catalogue, and where the row says ``catalogue`` among 99 items
drawn for it, as the test does); then each seed is trained on all but the test item for that many
epochs and the test is read once. NeuMF's parts are pre-trained for the epochs found best for each.
Results are written after every model and seed; those of models that a run leaves alone stay, and
with ``--resume`` those of the seeds that were measured before.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf

from benchmarks.common import Results, arguments, peak_mib, shared_data
from tfrec.config import Config, DataConfig, TrainConfig
from tfrec.data.adapters.ncf import NEGATIVES_FILE
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.evaluation.protocol import held_out
from tfrec.evaluation.sampled import evaluate_sampled
from tfrec.schema import ITEM_ID, USER_ID
from tfrec.training.best import BestEpoch
from tfrec.training.fit import FitResult, fit_retrieval
from tfrec.training.workspace import open_workspace

PROTOCOL = "ml-1m/ncf"
FACTORS = 32


@dataclass(frozen=True)
class Preset:
    """What is trained: parameters, training, epochs between validations; the model's name."""

    params: dict[str, Any] = field(default_factory=dict)
    train: TrainConfig = field(default_factory=TrainConfig)
    every: int = 1
    iterative: bool = True  # whether epochs are to be chosen
    drawn: bool = True  # whether its start or its batches depend on the seed
    model: str = ""  # where the row of the table has another name
    sampled: bool = False  # whether epochs are chosen among 99 items, as the test does


def adam(epochs: int, patience: int = 3) -> TrainConfig:
    return TrainConfig(epochs=epochs, batch_size=2048, learning_rate=2e-3, patience=patience)


# Of NeuMFs whose halves were trained on other losses than the joint one.
JOINED = {"mlp_factors": 16, "layers": 3, "l2": 1e-5, "finetune": "none"}
SOLVED = {"sweeps": 12, "l2": 0.007, "unobserved_weight": 0.3}  # of ALS
MODELS: dict[str, Preset] = {
    "popular": Preset(iterative=False, drawn=False),
    "mf_logistic": Preset(
        {"dim": 64, "negatives": 8, "l2": 0.005},
        TrainConfig(epochs=128, batch_size=1024, learning_rate=0.004, patience=12),
        every=4,
    ),
    "als": Preset({"dim": 192, **SOLVED}, iterative=False),
    "ease": Preset({"l2": 300.0}, iterative=False, drawn=False),
    "gmf": Preset({"factors": FACTORS, "l2": 1e-5}, adam(30)),
    "mlp": Preset({"factors": FACTORS, "layers": 3, "l2": 1e-5}, adam(30)),
    "neumf": Preset(
        {"factors": FACTORS, "layers": 3, "l2": 1e-5, "finetune_learning_rate": 0.05}, adam(10)
    ),
    # The expectation over all negatives in place of draws; see docs/ncf.md.
    "mf_logistic, catalogue": Preset(
        {"dim": 192, "negatives": 8, "l2": 0.005, "pairs": "catalogue"},
        TrainConfig(epochs=120, learning_rate=0.003, patience=20),
        every=10,
        model="mf_logistic",
        sampled=True,
    ),
    "gmf, catalogue": Preset(
        {"factors": 64, "negatives": 8, "l2": 0.005, "pairs": "catalogue", "block_users": 128},
        TrainConfig(epochs=160, learning_rate=0.006, patience=30),
        every=10,
        model="gmf",
        sampled=True,
    ),
    "mlp 16": Preset(
        {"factors": 16, "layers": 3, "l2": 1e-5},
        adam(16, patience=4),
        model="mlp",
        sampled=True,
    ),
    "neumf, catalogue": Preset(
        {
            # Trained on, it goes back to what draws teach; see docs/ncf.md.
            **JOINED,
            "factors": 64,
            "gmf_pairs": "catalogue",
            "gmf_l2": 0.005,
            "gmf_negatives": 8,
            "gmf_learning_rate": 0.006,
            "block_users": 128,
            "pretrain_epochs": [160, 10],
            "alpha": 0.75,
        },
        adam(1),
        model="neumf",
        sampled=True,
    ),
    "neumf, als": Preset(
        {
            **JOINED,
            "factors": 192,
            "gmf_als": SOLVED,
            "pretrain_epochs": [1, 10],
            "alpha": 0.9,
        },
        adam(1),
        model="neumf",
        sampled=True,
    ),
}


# Whose best epochs the parts of a NeuMF are trained for.
PARTS = {
    "neumf": ("gmf", "mlp"),
    "neumf, catalogue": ("gmf, catalogue", "mlp 16"),
    "neumf, als": ("als", "mlp 16"),
}


def load(folder: Path, work: Path) -> tuple[RetrievalData, np.ndarray]:
    """The encoded data, and the published negatives as indices, int32 [user, 99]."""
    config = Config(name="ml-1m-ncf", data=DataConfig(format="ncf", path=str(folder / "ncf")))
    space = open_workspace(config, work)
    table = pq.read_table(work / "tables" / NEGATIVES_FILE)
    users = space.encoder.vocabulary(USER_ID)
    items = space.encoder.vocabulary(ITEM_ID)
    user_of, item_of = ({raw: i for i, raw in enumerate(ids)} for ids in (users, items))
    rows = np.array([user_of[u] for u in table.column(USER_ID).to_pylist()])
    negatives = np.array(
        [[item_of[i] for i in row] for row in table.column("negatives").to_pylist()], np.int32
    )
    order = np.argsort(rows)
    if not np.array_equal(rows[order], held_out(space.data, "test", exclude_seen=False).users):
        raise ValueError("every user has one row of published negatives; the files disagree")
    return space.data, negatives[order]


class AmongSampled(BestEpoch):
    """The validation item among 99 that its user has not had so far; ``ndcg@10`` after epochs."""

    def __init__(self, data: RetrievalData, every: int, patience: int) -> None:
        super().__init__(rises=True, patience=patience)
        random = np.random.default_rng(0)
        had = data.train.join(data.validation).matrix().toarray() > 0
        self._negatives = np.array(
            [
                1 + random.choice(np.flatnonzero(~had[user - 1]), 99, replace=False)
                for user in data.validation.user
            ],
            np.int32,
        )
        none = data.validation.select(np.zeros(len(data.validation), bool))
        self._data = replace(data, validation=none, test=data.validation)
        self._every = every

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if (epoch + 1) % self._every:
            return
        self.model.refresh()
        self.note(evaluate_sampled(self.model, self._data, self._negatives)["ndcg@10"])
        if self.over:
            self.model.stop_training = True


class Seconds(tf.keras.callbacks.Callback):
    """Wall time of each epoch's training, validation left out."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[float] = []
        self._began = self._last = 0.0  # models that are solved have no batches

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self._last = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.epochs.append(self._last - self._began)


def fit(
    name: str,
    params: dict[str, Any],
    train: TrainConfig,
    data: RetrievalData,
    every: int,
    *more: tf.keras.callbacks.Callback,
) -> tuple[FitResult, list[float]]:
    """Trains and returns the seconds of each epoch too."""
    clock = Seconds()
    model = MODELS[name].model or name
    fitted = fit_retrieval(
        model, params, train, data, evaluate_every=every, callbacks=[clock, *more], verbose=0
    )
    return fitted, clock.epochs


def run(
    results: Results,
    name: str,
    preset: Preset,
    data: RetrievalData,
    negatives: np.ndarray,
    seeds: int,
    best_epochs: dict[str, int],
) -> None:
    """One model: epochs on validation, then every seed on test."""
    params, train = dict(preset.params), preset.train
    parts = PARTS.get(name, ())
    if parts and set(parts) <= set(best_epochs):
        params["pretrain_epochs"] = [best_epochs[part] for part in parts]
    found = results.value(name, "best_epoch", protocol=PROTOCOL, seed=0)
    if found is not None:
        best_epochs[name] = int(found)
    elif preset.iterative:
        watch = AmongSampled(data, preset.every, train.patience) if preset.sampled else None
        if watch is None:
            fitted, seconds = fit(name, params, train, data, preset.every)
            measured, best_epoch = fitted.validated, fitted.best_epoch
        else:
            apart = train.model_copy(update={"patience": 0})
            fitted, seconds = fit(name, params, apart, data, train.epochs, watch)
            measured, best_epoch = watch.measured, watch.best_epoch
        best_epochs[name] = max(best_epoch, 1)
        print(f"{name}: validation ndcg@10 by epoch {measured}", flush=True)
        results.add(name, "best_epoch", best_epochs[name], protocol=PROTOCOL, seed=0)
        if params.get("finetune") != "none":  # its epoch is one batch
            examples = len(data.train) * (1 + fitted.model.negatives)
            speed = examples / float(np.median(seconds))
            note = "expected draws" if params.get("pairs") == "catalogue" else ""
            results.add(name, "examples_per_s", speed, protocol=PROTOCOL, seed=0, note=note)
        results.add(name, "peak_memory", peak_mib(), protocol=PROTOCOL, unit="MiB", seed=0)
        results.write()
        del fitted
    else:
        best_epochs[name] = 1  # solved
    final = data.refit()
    for seed in range(seeds if preset.drawn else 1):
        kept = seed if preset.drawn else None
        if results.value(name, "ndcg@10", protocol=f"{PROTOCOL}/full", seed=kept) is not None:
            continue
        epochs = best_epochs[name]
        last = train.model_copy(update={"epochs": epochs, "patience": 0, "seed": seed})
        fitted, _ = fit(name, params, last, final, 1)
        sampled = evaluate_sampled(fitted.model, data, negatives)
        whole = evaluate(fitted.model, data, "test")
        for metric in ("hr@10", "ndcg@10"):
            results.add(name, metric, sampled[metric], protocol=f"{PROTOCOL}/sampled-99", seed=kept)
        for metric in ("recall@10", "ndcg@10"):
            results.add(name, metric, whole[metric], protocol=f"{PROTOCOL}/full", seed=kept)
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
    results = Results("ncf", given.quick, resume=True)
    if not given.resume:
        results.records = [r for r in results.records if r["name"] not in given.models]
    best_epochs: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as work:
        data, negatives = load(folder / "ml-1m", Path(work))
        if given.quick:  # the latest 15 events of each user
            behind = data.train.indptr[data.train.user + 1] - np.arange(len(data.train))
            data = replace(data, train=data.train.select(behind <= 15))
        for name in given.models:
            preset = MODELS[name]
            if given.quick:
                one = preset.train.model_copy(update={"epochs": 1})
                extra = {"factors": 8} if "factors" in preset.params else {}
                if name in PARTS:
                    extra["pretrain_epochs"] = 1
                preset = replace(preset, params={**preset.params, **extra}, train=one, every=1)
            seeds = 1 if given.quick else given.seeds
            run(results, name, preset, data, negatives, seeds, best_epochs)
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
