"""Rating prediction on MovieLens-1M: RMSE of RBM, AutoRec, DBN, CF-NADE and biased MF.

    python -m benchmarks.ratings --preset quick10            # each model within 10 minutes a seed
    python -m benchmarks.ratings --preset full               # the paper's sizes: hours
    python -m benchmarks.ratings --preset variants --seeds 1 # the papers' plain nets, other sides
    python -m benchmarks.ratings --models i-rbm --seeds 1    # some of them
    python -m benchmarks.ratings --quick                     # two epochs each: does it run?
    python -m benchmarks.ratings --probe i-autorec --params '{"l2": 1e-4}'   # tune, on validation

``ml-1m/random-90-10``: of all ratings a random tenth tests, 0.5% of the rest validates (it chooses
the epoch); at test time training and validation ratings are given. Seeds as in Zheng et al. 2016.
Each model and seed runs in a process of its own, so that peak memory is its own; results are
written after each. Test ratings are read once, after the weights are chosen. ``--probe`` holds
out 5% for validation, keeps nothing and never looks at a test rating: it is for finding parameters.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.common import HERE, Results, arguments, peak_mib, shared_data

SEEDS = (1234, 2341, 3412, 4123, 1324)
PROTOCOL = "ml-1m/random-90-10"
TEST_SHARE, VALIDATION_SHARE, PROBE_SHARE = 0.1, 0.005, 0.05
ANSWER = "ANSWER "


@dataclass(frozen=True)
class Run:
    """One model under one preset.

    Attributes:
        model, params: registry name and parameters.
        epochs, batch_size, learning_rate: of training; the seed is the split's.
        every: epochs between validations.
        patience: epochs without a better validation before it stops; 0 never.
        limit_s: training stops after the epoch that passes it; seconds of processor time, so that
            other work on the machine does not change what is measured.
    """

    model: str
    params: dict[str, Any]
    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    every: int = 5
    patience: int = 0
    limit_s: float = 1e9


# Found by --probe: rounded products, a learning rate that ends at 0, and an l2 that fits the cost.
FAST = {"products": "bfloat16", "schedule": "cosine"}
ITEM, USER = {"by": "item", **FAST}, {"by": "user", **FAST}
AUTOREC = {"l2": 3e-4, "dropout": 0.3}
LEVELS = {"l2": 1e-4, "dropout": 0.3, "share_levels": True}
MF = {"l2": 0.07, "nu": 1.0}
# On a processor without bfloat16 (as where these were run) rounding costs more than it saves.
RBM = {
    "products": "dense",
    "optimizer": "adam",
    "weight_decay": 0.004,
    "row_odds": True,
    "share_levels": True,
}
CHAIN = {"cd": [1, 3, 5], "cd_epochs": 8}
NADE = {"products": "dense", "common": True, "ordinal": 0.7, "l2": 3e-4, "least_given": 0.35}


def quick10() -> dict[str, Run]:
    """Ten minutes a model and seed on 2 cores: training stops after nine of processor time."""
    net = {**ITEM, "hidden": [200], **LEVELS}
    return {
        "biased-mf": Run("biased_mf", {"dim": 20, **MF}, 30, every=2, limit_s=540),
        "u-rbm": Run(
            "rbm", {**USER, "hidden": 100, **RBM, "cd": [1]}, 12, 64, 0.005, 4, limit_s=540
        ),
        "i-rbm": Run(
            "rbm", {**ITEM, "hidden": 100, **RBM, "cd": [1]}, 12, 64, 0.005, 4, limit_s=540
        ),
        "u-autorec": Run("autorec", {**USER, "hidden": [500], **AUTOREC}, 20, limit_s=540),
        "i-autorec": Run("autorec", {**ITEM, "hidden": [500], **AUTOREC}, 20, limit_s=540),
        "i-autorec-levels": Run("autorec", {**net, "units": "levels"}, 15, 128, 2e-3, limit_s=540),
        "i-dbn": Run("dbn", {**net, "pretrain_epochs": 5}, 15, 128, 2e-3, limit_s=540),
        "i-cf-nade-1": Run(
            "cf_nade", {**ITEM, "hidden": [200], **NADE}, 60, 128, 1.5e-3, 10, limit_s=540
        ),
        "i-cf-nade-2": Run(
            "cf_nade", {**ITEM, "hidden": [200, 200], **NADE}, 60, 128, 1.5e-3, 10, limit_s=540
        ),
    }


def full() -> dict[str, Run]:
    """The papers' sizes: CF-NADE's 500 hidden units, more of the Markov chain, more epochs."""
    net = {**ITEM, "hidden": [500], **LEVELS}
    nade = {**ITEM, **NADE}
    return {
        "biased-mf": Run("biased_mf", {"dim": 40, **MF}, 60, every=2),
        "u-rbm": Run("rbm", {**USER, "hidden": 100, **RBM, **CHAIN}, 24, 64, 0.005, 4),
        "i-rbm": Run("rbm", {**ITEM, "hidden": 100, **RBM, **CHAIN}, 24, 64, 0.005, 4),
        "u-autorec": Run("autorec", {**USER, "hidden": [500], **AUTOREC}, 40),
        "i-autorec": Run("autorec", {**ITEM, "hidden": [500], **AUTOREC, "dropout": 0.5}, 40),
        "i-autorec-levels": Run("autorec", {**net, "units": "levels"}, 20, 128, 2e-3),
        "i-dbn": Run("dbn", {**net, "pretrain_epochs": 5}, 20, 128, 2e-3),
        "i-cf-nade-1": Run("cf_nade", {**nade, "hidden": [500]}, 60, 128, 1.5e-3, 10),
        "i-cf-nade-2": Run("cf_nade", {**nade, "hidden": [500, 500]}, 60, 128, 1.5e-3, 10),
    }


def variants() -> dict[str, Run]:
    """What the tables leave out: the papers' own nets, the other side, factored, conditional."""
    quick = quick10()

    def of(name: str, **params: Any) -> Run:
        return replace(quick[name], params={**quick[name].params, **params})

    return {
        "i-autorec, no row mean": of("i-autorec", row_bias=False),
        "i-cf-nade-1, no row odds": of("i-cf-nade-1", row_odds=False),
        "i-cf-nade-1, factored": of("i-cf-nade-1", factors=50),
        "u-cf-nade-1": of("i-cf-nade-1", by="user"),
        "i-rbm, no row odds": of("i-rbm", row_odds=False),
        "i-rbm, factored": of("i-rbm", factors=30),
        "i-rbm, conditional": of("i-rbm", conditional=True),
    }


PRESETS = {"quick10": quick10, "full": full, "variants": variants}


def load(seed: int, validation_share: float = VALIDATION_SHARE) -> Any:
    """MovieLens-1M as encoded data, split by ``seed``; None where this machine has no data."""
    import numpy as np
    import pyarrow.csv as pacsv

    from tfrec.data.encoded import Interactions, RetrievalData
    from tfrec.schema import ITEM_ID, USER_ID, FeatureTable

    folder = shared_data()
    if folder is None or not (folder / "ml-1m" / "ratings.csv.gz").exists():
        return None
    table = pacsv.read_csv(folder / "ml-1m" / "ratings.csv.gz")
    user_ids, user = np.unique(table.column("user_id").to_numpy(), return_inverse=True)
    item_ids, item = np.unique(table.column("movie_id").to_numpy(), return_inverse=True)
    rating = table.column("rating").to_numpy().astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(rating))
    n_test = round(TEST_SHARE * len(order))
    n_validation = round(validation_share * (len(order) - n_test))
    n_users, n_items = len(user_ids), len(item_ids)

    def events(part: np.ndarray) -> Interactions:
        part = np.sort(part)
        return Interactions.from_arrays(
            user[part] + 1, item[part] + 1, n_users, n_items, part, rating[part]
        )

    return RetrievalData(
        train=events(order[n_test + n_validation :]),
        validation=events(order[n_test : n_test + n_validation]),
        test=events(order[:n_test]),
        users={USER_ID: np.arange(n_users + 2, dtype=np.int64)},
        items={ITEM_ID: np.arange(n_items + 2, dtype=np.int64)},
        features=FeatureTable(),
        sizes={USER_ID: n_users + 2, ITEM_ID: n_items + 2},
        user_ids=np.array(["", *map(str, user_ids)]),
        item_ids=np.array(["", *map(str, item_ids)]),
    )


def one(run: Run, seed: int, probe: bool = False) -> dict[str, float]:
    """Trains and measures; in a process of its own. A probe stops at validation."""
    import tensorflow as tf

    from tfrec.config import TrainConfig
    from tfrec.evaluation.rated import evaluate_ratings
    from tfrec.training.rating import fit_rating

    class Clock(tf.keras.callbacks.Callback):
        """Time of the epochs alone, and a stop when the time is up."""

        def on_train_begin(self, logs: Any = None) -> None:
            self.started, self.inside, self.epochs = started, 0.0, 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch_started = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.epoch_ended = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.inside += self.epoch_ended - self.epoch_started
            self.epochs = epoch + 1
            if time.process_time() - worked > run.limit_s:
                self.model.stop_training = True
            if (epoch + 1) % run.every == 0 or epoch == 0:
                shown = {k: round(float(v), 4) for k, v in (logs or {}).items()}
                print(epoch + 1, f"{time.perf_counter() - started:.0f} s", shown, flush=True)

    data = load(seed, PROBE_SHARE if probe else VALIDATION_SHARE)
    started, worked = time.perf_counter(), time.process_time()
    clock = Clock()
    train = TrainConfig(
        epochs=run.epochs,
        batch_size=run.batch_size,
        learning_rate=run.learning_rate,
        patience=run.patience,
        seed=seed,
    )
    result = fit_rating(
        run.model, run.params, train, data, evaluate_every=run.every, callbacks=[clock]
    )
    seconds, processor = time.perf_counter() - started, time.process_time() - worked
    if probe:
        return {"validation_rmse": result.best or 0.0, "best_epoch": float(result.best_epoch)}
    measured = evaluate_ratings(result.model, data, "test")
    return {
        "rmse": measured["rmse"],
        "mae": measured["mae"],
        "best_epoch": float(result.best_epoch),
        "epochs": float(clock.epochs),
        "train_s": seconds,
        "train_cpu_s": processor,
        "epoch_s": clock.inside / max(clock.epochs, 1),
        "peak_mib": peak_mib(),
    }


UNITS = {"train_s": "s", "train_cpu_s": "s", "epoch_s": "s", "peak_mib": "MiB"}


def keep(results: Results, name: str, seed: int, preset: str, found: dict[str, float]) -> None:
    """Replaces what is kept of this model, seed and preset, and writes the file."""
    results.records = [
        r for r in results.records if (r["name"], r["seed"], r.get("note")) != (name, seed, preset)
    ]
    for metric, value in found.items():
        results.add(
            name,
            metric,
            value,
            protocol=PROTOCOL,
            unit=UNITS.get(metric, ""),
            seed=seed,
            note=preset,
        )
    results.write()


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.set_defaults(seeds=len(SEEDS))
    parser.add_argument("--preset", choices=PRESETS, default="quick10")
    parser.add_argument("--models", nargs="*", default=[], help="some of the preset's models")
    parser.add_argument("--resume", action="store_true", help="leave out what the file holds")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "SEED"), help="run in this process")
    parser.add_argument("--probe", metavar="MODEL", help="one model on validation alone")
    parser.add_argument("--params", type=json.loads, default={}, help="of the probe, as JSON")
    parser.add_argument("--train", type=json.loads, default={}, help="fields of Run, as JSON")
    given = parser.parse_args()
    runs = PRESETS[given.preset]()
    unknown = sorted(set(given.models) - set(runs))
    if unknown:
        parser.error(f"no model {unknown}; there are {sorted(runs)}")
    if given.one:
        name, seed = given.one
        run = runs[name]
        if given.quick:
            run = replace(run, epochs=2, every=2)
        print(ANSWER + json.dumps(one(run, int(seed))), flush=True)
        return
    if load(SEEDS[0]) is None:
        print("no MovieLens-1M on this machine; set TFREC_SHARED_DATA")
        return
    if given.probe:
        run = runs[given.probe]
        run = replace(run, params={**run.params, **given.params}, **given.train)
        print(given.probe, run, one(run, SEEDS[0], probe=True), flush=True)
        return
    results = Results("ratings", given.quick, resume=True)
    preset = "smoke" if given.quick else given.preset
    for seed in SEEDS[: 1 if given.quick else given.seeds]:
        for name in given.models or runs:
            there = results.value(name, "rmse", protocol=PROTOCOL, seed=seed, note=preset)
            if given.resume and there is not None:
                continue
            command = [sys.executable, "-m", "benchmarks.ratings", "--preset", given.preset]
            command += ["--one", name, str(seed), *(["--quick"] if given.quick else [])]
            print(f"== {name}, seed {seed}", flush=True)
            with subprocess.Popen(
                command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True
            ) as child:
                assert child.stdout is not None
                for line in child.stdout:
                    if line.startswith(ANSWER):
                        keep(results, name, seed, preset, json.loads(line[len(ANSWER) :]))
                    else:
                        print("  ", line, end="", flush=True)
            if child.returncode:
                print(f"   {name} failed with code {child.returncode}", flush=True)


if __name__ == "__main__":
    main()
