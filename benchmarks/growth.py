"""How an ALS sweep and a whole-catalogue evaluation grow from 1e5 to 1e7 events.

    python -m benchmarks.growth

Synthetic logs of 100 events a user and 20 users an item, few items popular (as in
``benchmarks.ncf --growth``, which does the same for NeuMF's step). Each size runs in a process of
its own, so that its peak memory is its own. One test item a user; seen items are excluded. Seconds
are of processor time, so that other work on the machine does not count, and of a second run: the
first one traces.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.common import Results, arguments, peak_mib

SIZES = (100_000, 1_000_000, 10_000_000)
DIM = 64


def synthetic(rows: int) -> Any:
    """Random events: the last of each user is a test."""
    from tfrec.data.encoded import Interactions, RetrievalData
    from tfrec.schema import ITEM_ID, USER_ID, FeatureTable

    random = np.random.default_rng(0)
    users, items = rows // 100, rows // 2000

    def events(user: np.ndarray) -> Interactions:
        item = (1 + items * random.random(len(user)) ** 3).astype(np.int32)  # few are popular
        return Interactions.from_arrays(user, item, users, items)

    train = events(np.repeat(np.arange(1, users + 1), 99))
    test = events(np.arange(1, users + 1))
    none = test.select(np.zeros(users, bool))
    told = {USER_ID: np.arange(users + 2)}, {ITEM_ID: np.arange(items + 2)}
    sizes = {USER_ID: users + 2, ITEM_ID: items + 2}
    blank = np.array([""])
    return RetrievalData(train, none, test, *told, FeatureTable(), sizes, blank, blank)


def one(rows: int) -> dict[str, float]:
    """Seconds and MiB of one size."""
    import tensorflow as tf

    from tfrec.evaluation.full_catalogue import evaluate
    from tfrec.models import registry

    data = synthetic(rows)
    random = np.random.default_rng(1)
    found: dict[str, float] = {"users": data.n_users, "items": data.n_items}
    model: Any = registry.build("als", data, {"dim": DIM})
    model.items.assign(random.normal(0, 0.1, model.items.shape))
    matrix = data.train.matrix()
    transposed = matrix.T.tocsr()
    for _ in range(2):
        began = time.process_time()
        model._half_sweep(model.users, model.items, matrix)
        model._half_sweep(model.items, model.users, transposed)
        found["als_sweep_s"] = time.process_time() - began
    found["als_peak_mib"] = peak_mib()
    plain = registry.build("mf_logistic", data, {"dim": DIM})
    for _ in range(2):
        began = time.process_time()
        evaluate(plain, data, "test", lists=False, progress=False)
        found["evaluation_s"] = time.process_time() - began
    found["evaluation_peak_mib"] = peak_mib()
    tf.keras.backend.clear_session()
    return found


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--one", type=int, help="a single size, printed as JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one)))
        return
    results = Results("growth", given.quick)
    for rows in SIZES[:1] if given.quick else SIZES:
        command = [sys.executable, "-m", "benchmarks.growth", "--one", str(rows)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(answer.splitlines()[-1])
        protocol = f"synthetic/{rows:.0e}"
        shape = f"{found['users']:,} users, {found['items']:,} items"
        for name in ("als_sweep", "evaluation"):
            seconds, memory = found[f"{name}_s"], found[f"{name.split('_')[0]}_peak_mib"]
            results.add(name, "seconds", seconds, protocol=protocol, unit="s", note=shape)
            results.add(name, "events_per_s", rows / seconds, protocol=protocol, note=shape)
            results.add(name, "peak_memory", memory, protocol=protocol, unit="MiB", note=shape)
        print(rows, found, flush=True)
        results.write()


if __name__ == "__main__":
    main()
