"""The feature store: reads of 500 keys, 1e6 rows loaded, a loader killed, and serving with it.

    python -m benchmarks.store [--quick]

LMDB and a Redis server of its own on this machine, one after the other. Rows have six columns as a
catalogue has them (two texts, a list of texts, two numbers, a whole number), about 120 bytes; the
vectors have 64 floats. ``bare`` is the client library alone: MGET, or one ``getmulti``, undecoded.
``processor`` is the time of this process and of the Redis server: what else the machine does is not
in it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.common import Results, arguments
from benchmarks.store_parts.processor import Clock, processor_clock
from tfrec.config import StoreConfig
from tfrec.store import HISTORIES, HISTORY_SCHEMA, ITEM_VECTORS, ITEMS, USERS, open_store

KEYS = 500
BLOCK = 20_000
DIM = 64
COLUMNS = {
    "title": "string",
    "brand": "string",
    "genres": "strings",
    "price": "float",
    "rating": "float",
    "stock": "int",
}


def block(start: int, stop: int) -> tuple[list[str], pa.Table]:
    """Rows by number, the same in every run."""
    n = np.arange(start, stop)
    text = n.astype(str)
    counts = n % 4
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    genres = pa.array([f"genre-{i % 20}" for i in range(ends[-1])], pa.string())
    table = pa.table(
        {
            "title": np.char.add("A title of some length, number ", text),
            "brand": np.char.add("brand-", (n % 1000).astype(str)),
            "genres": pa.ListArray.from_arrays(pa.array(ends), genres),
            "price": (n % 500).astype(np.float32) / 4,
            "rating": (n % 50).astype(np.float32) / 10,
            "stock": n,
        }
    )
    return np.char.add("item-", text).tolist(), table


def load(config: StoreConfig, rows: int, version: str, mode: str = "new") -> tuple[float, float]:
    """Loads a version, from where a killed load was; seconds and processor seconds of the store."""
    clock = processor_clock(config)
    store = open_store(config)
    one = store.begin(version, {ITEMS: COLUMNS}, mode)
    spent = processor = 0.0
    for start in range(one.done("rows"), rows, BLOCK):
        keys, table = block(start, min(start + BLOCK, rows))
        began, busy = time.perf_counter(), clock()
        one.put_many(ITEMS, keys, table, source="rows", done=start + len(keys))
        spent, processor = spent + time.perf_counter() - began, processor + clock() - busy
        if version == "v2" and mode == "new":  # the one that is to be killed tells how far it is
            print(start + len(keys), flush=True)
    began, busy = time.perf_counter(), clock()
    one.commit()
    store.close()
    return spent + time.perf_counter() - began, processor + clock() - busy


def load_vectors(config: StoreConfig, rows: int) -> None:
    store = open_store(config)
    random = np.random.default_rng(0)
    with store.begin("vectors", {ITEM_VECTORS: {"embedding": f"vector:{DIM}"}}) as one:
        for start in range(0, rows, BLOCK):
            keys = [f"item-{i}" for i in range(start, min(start + BLOCK, rows))]
            vectors = random.normal(size=(len(keys), DIM)).astype(np.float32)
            one.put_many(ITEM_VECTORS, keys, {"embedding": vectors})
        one.commit()
    store.close()


def timed(
    call: Callable[[list[str]], Any], rows: int, seconds: float, clock: Clock
) -> dict[str, float]:
    """Requests of random keys one after the other: a second; p50, p99 and processor in ms."""
    random = np.random.default_rng(1)
    requests = [[f"item-{i}" for i in random.integers(0, rows, KEYS)] for _ in range(200)]
    for keys in requests[:20]:
        call(keys)
    taken: list[float] = []
    busy = clock()
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        call(requests[len(taken) % len(requests)])
        taken.append(time.perf_counter() - began)
    busy = (clock() - busy) * 1e3 / len(taken)
    p50, p99 = np.percentile(taken, [50, 99]) * 1e3
    return {"requests_per_s": len(taken) / sum(taken), "p50": p50, "p99": p99, "processor": busy}


def bare(config: StoreConfig) -> Callable[[list[str]], Any]:
    """The client library alone."""
    from tfrec.store.keys import lmdb_keys, lmdb_prefix, redis_keys

    store: Any = open_store(config)
    if config.kind == "redis":
        client = store._reader()
        return lambda keys: client.mget(redis_keys(config.namespace, ITEMS, "v1", keys))
    prefix = lmdb_prefix(ITEMS, "v1")

    def get(keys: list[str]) -> Any:
        with store._transaction() as txn, txn.cursor() as cursor:
            return cursor.getmulti(lmdb_keys(prefix, keys))

    return get


def reads(config: StoreConfig, rows: int, seconds: float, results: Results) -> None:
    store = open_store(config)
    ways: list[tuple[str, Callable[[list[str]], Any]]] = [
        ("bare", bare(config)),
        ("six columns", lambda keys: store.get_many(ITEMS, keys)),
        ("two columns", lambda keys: store.get_many(ITEMS, keys, ["price", "stock"])),
        (f"{DIM} floats", lambda keys: store.get_many(ITEM_VECTORS, keys)),
    ]
    for note, call in ways:
        found = timed(call, rows, seconds, processor_clock(config))
        add = {"protocol": f"{KEYS} keys of {rows:,} rows", "note": note}
        results.add(config.kind, "requests_per_s", found["requests_per_s"], **add)
        results.add(config.kind, "keys_per_s", found["requests_per_s"] * KEYS, **add)
        for metric in ("p50", "p99", "processor"):
            results.add(config.kind, metric, found[metric], unit="ms", **add)
    store.close()


def killed(config: StoreConfig, rows: int, results: Results) -> None:
    """SIGKILL in the middle of version 2: version 1 is whole; the load goes on and is whole too."""
    command = [sys.executable, "-m", "benchmarks.store", "--load", config.model_dump_json()]
    process = subprocess.Popen([*command, str(rows)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= rows // 2:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    store = open_store(config)
    protocol, note = f"{rows:,} rows, SIGKILL at half", "version 1, after the kill"
    results.add(config.kind, "wrong_rows", wrong(store, rows, "v1"), protocol=protocol, note=note)
    done = store.begin("v2", mode="resume").done("rows")
    seconds, _ = load(config, rows, "v2", "resume")
    note = f"version 2, resumed at {done:,}"
    results.add(config.kind, "wrong_rows", wrong(store, rows, "v2"), protocol=protocol, note=note)
    results.add(config.kind, "seconds", seconds, protocol=protocol, unit="s", note=note)
    store.close()


def wrong(store: Any, rows: int, version: str) -> int:
    """Rows of the live version that are missing, of another version or other than written."""
    bad = 0
    for start in range(0, rows, BLOCK):
        keys, table = block(start, min(start + BLOCK, rows))
        found = store.get_many(ITEMS, keys)
        if found.version != version:
            return rows
        same = [found.columns[n].equals(table.column(n).combine_chunks()) for n in COLUMNS]
        if not all(same) or not found.found.all():
            bad += sum(
                found.columns["stock"][i].as_py() != start + i for i in range(len(keys))
            ) or len(keys)
    return bad


def serving(config: StoreConfig, seconds: float, results: Results) -> None:
    """p99 of gRPC calls by four callers: everything sent, filled from the store, store gone."""
    from benchmarks.store_parts import model, server

    store = open_store(config)
    users = [f"user-{i}" for i in range(2000)]
    history = [[f"item-{(i * 7 + j) % 5000}" for j in range(50)] for i in range(len(users))]
    with store.begin("users", {USERS: {"age": "string"}, HISTORIES: HISTORY_SCHEMA}) as one:
        one.put_many(USERS, users, {"age": ["18-24"] * len(users)})
        times = [list(range(50))] * len(users)
        one.put_many(HISTORIES, users, {"item": history, "time": times})
        one.commit()
    store.close()
    with tempfile.TemporaryDirectory() as folder:
        model.write(Path(folder) / "m" / "1")
        with server.running(Path(folder) / "m", config) as ask:
            clock = processor_clock(config)
            for name, way in (("sent by the caller", "sent"), ("from the store", "store")):
                found = ask(way, users, history, seconds, clock)
                add = {"protocol": "serving, 4 callers, gRPC", "note": f"{config.kind}: {name}"}
                for metric, value in found.items():
                    unit = "" if metric == "calls_per_s" else "ms"
                    results.add("front", metric, value, unit=unit, **add)


@contextmanager
def stores(folder: Path) -> Iterator[list[StoreConfig]]:
    """LMDB, and Redis where there is a server."""
    found = [StoreConfig(path=str(folder / "store.lmdb"), timeout_ms=1000)]
    binary = shutil.which("redis-server")
    if binary is None:
        print("no redis-server here: LMDB alone")
        yield found
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    process = subprocess.Popen([binary, *flags], stdout=subprocess.DEVNULL)
    config = StoreConfig(kind="redis", url=f"redis://127.0.0.1:{port}/0", timeout_ms=1000)
    try:
        _wait(config)
        yield [*found, config]
    finally:
        process.kill()
        process.wait()


def _wait(config: StoreConfig) -> None:
    store: Any = open_store(config)
    for _ in range(100):
        try:
            store.ping()
            break
        except ConnectionError:
            threading.Event().wait(0.1)
    store.close()


def main() -> None:
    if sys.argv[1:2] == ["--load"]:
        load(StoreConfig.model_validate(json.loads(sys.argv[2])), int(sys.argv[3]), "v2")
        return
    parser = arguments(__doc__ or "")
    given = parser.parse_args()
    results = Results("store", given.quick)
    rows, seconds = (50_000, 1.0) if given.quick else (1_000_000, 5.0)
    with tempfile.TemporaryDirectory() as folder, stores(Path(folder)) as configs:
        for config in configs:
            spent, processor = load(config, rows, "v1")
            protocol = f"load of {rows:,} rows"
            results.add(config.kind, "seconds", spent, protocol=protocol, unit="s")
            results.add(config.kind, "processor", processor, protocol=protocol, unit="s")
            results.add(config.kind, "rows_per_s", rows / spent, protocol=protocol)
            load_vectors(config, min(rows, 200_000))
            reads(config, min(rows, 200_000), seconds, results)
            killed(config, rows, results)
            serving(config, seconds, results)
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
