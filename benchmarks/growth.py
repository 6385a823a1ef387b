"""NeuMF's epoch, a sweep of ALS and ranking the whole catalogue: speed, memory, and how they grow.

    python -m benchmarks.growth

First on a log as large as MovieLens-1M (6,040 users, 3,706 items, a million events), then on 1e5 to
1e7 events of 100 a user and 20 users an item. The logs are synthetic, few items are popular, the
last event of each user is the test, seen items are excluded. Each size and job runs in a process of
its own, so that its peak memory is its own. Seconds are of processor time, so that other work on
the machine does not count, and of a second run, as the first one traces. NeuMF (32 factors, 4
negatives an event) trains for a whole epoch, or where that is more than 2,500 steps, for so many;
``input`` is what ``tf.data`` gives without a step.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import Results, arguments, peak_mib

# Protocol -> events, users, items.
LOGS = {
    "as ml-1m": (1_000_209, 6_040, 3_706),
    "synthetic/1e+05": (100_000, 1_000, 50),
    "synthetic/1e+06": (1_000_000, 10_000, 500),
    "synthetic/1e+07": (10_000_000, 100_000, 5_000),
}
QUICK = ("synthetic/1e+05",)
DIM = 64
FACTORS, NEGATIVES, BATCH = 32, 4, 2048
STEPS = 2500


def synthetic(rows: int, users: int, items: int) -> Any:
    """Random events, evenly many a user: the last of each is a test."""
    from tfrec.data.encoded import Interactions, RetrievalData
    from tfrec.schema import ITEM_ID, USER_ID, FeatureTable

    random = np.random.default_rng(0)

    def events(user: np.ndarray) -> Interactions:
        item = (1 + items * random.random(len(user)) ** 3).astype(np.int32)  # few are popular
        return Interactions.from_arrays(user, item, users, items)

    everybody = np.arange(1, users + 1)
    train = events(np.sort(np.resize(everybody, rows - users)))
    test = events(everybody)
    none = test.select(np.zeros(users, bool))
    told = {USER_ID: np.arange(users + 2)}, {ITEM_ID: np.arange(items + 2)}
    sizes = {USER_ID: users + 2, ITEM_ID: items + 2}
    blank = np.array([""])
    return RetrievalData(train, none, test, *told, FeatureTable(), sizes, blank, blank)


def second(job: Callable[[], Any]) -> float:
    """Processor seconds of a job's second run."""
    job()
    began = time.process_time()
    job()
    return time.process_time() - began


def als(data: Any) -> dict[str, float]:
    """A sweep over users and items."""
    from tfrec.models import registry

    model: Any = registry.build("als", data, {"dim": DIM})
    model.items.assign(np.random.default_rng(1).normal(0, 0.1, model.items.shape))
    matrix = data.train.matrix()
    transposed = matrix.T.tocsr()

    def sweep() -> None:
        model._half_sweep(model.users, model.items, matrix)
        model._half_sweep(model.items, model.users, transposed)

    seconds = second(sweep)
    return {"seconds": seconds, "events_per_s": len(data.train) / seconds}


def evaluation(data: Any) -> dict[str, float]:
    """Ranks of everybody's test item in the whole catalogue."""
    from tfrec.evaluation.full_catalogue import evaluate
    from tfrec.models import registry

    model = registry.build("mf_logistic", data, {"dim": DIM})
    seconds = second(lambda: evaluate(model, data, "test", lists=False, progress=False))
    return {"seconds": seconds, "users_per_s": data.n_users / seconds}


def neumf(data: Any) -> dict[str, float]:
    """Its steps with their input, an epoch of them where that is not too many."""
    import tensorflow as tf

    from tfrec.config import TrainConfig
    from tfrec.models import registry

    train = TrainConfig(epochs=1, batch_size=BATCH, learning_rate=2e-3)
    params = {"factors": FACTORS, "negatives": NEGATIVES, "pretrain": False}
    model: Any = registry.build("neumf", data, params)
    model.compile_for(train)
    batches = model.training_data(data, train)
    step = tf.function(model.train_step, reduce_retracing=True)
    step(next(iter(batches)))

    def of(job: Callable[[Any], Any]) -> tuple[int, float]:
        """Steps done and their seconds."""
        source, began, done = iter(batches), time.process_time(), 0
        for batch in source:
            job(batch)
            done += 1
            if done == STEPS:
                break
        return done, time.process_time() - began

    steps, seconds = of(step)
    _, fed = of(lambda batch: None)
    each = BATCH // (1 + NEGATIVES) * (1 + NEGATIVES)  # whole events with their negatives
    found = {"examples_per_s": steps * each / seconds, "input_examples_per_s": steps * each / fed}
    if steps < STEPS:
        found["seconds"] = seconds
    return found


JOBS = {"neumf epoch": neumf, "als sweep": als, "evaluation": evaluation}
UNITS = {"seconds": "s", "peak_memory": "MiB"}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--one", nargs=2, metavar=("LOG", "JOB"), help="one, printed as JSON")
    given = parser.parse_args()
    if given.one:
        log, job = given.one
        found = JOBS[job](synthetic(*LOGS[log]))
        print(json.dumps({**found, "peak_memory": peak_mib()}))
        return
    results = Results("growth", given.quick)
    for log in QUICK if given.quick else LOGS:
        rows, users, items = LOGS[log]
        note = f"{rows:,} events, {users:,} users, {items:,} items"
        for job in JOBS:
            command = [sys.executable, "-m", "benchmarks.growth", "--one", log, job]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found = json.loads(answer.splitlines()[-1])
            for metric, value in found.items():
                unit = UNITS.get(metric, "")
                results.add(job, metric, value, protocol=log, unit=unit, note=note)
            print(log, job, found, flush=True)
            results.write()


if __name__ == "__main__":
    main()
