"""The inverted file against brute force, both in TensorFlow: queries a second at recall@100 >= .95.

Vectors are synthetic, 64 wide, of length 1:

- ``clustered``: one of ``n / 500`` centres, drawn with chance ~ 1 / rank^0.5, plus noise as long as
  the centre (two items of a cluster have a cosine of about 0.5). Queries are items moved by half
  their length, as users near what they like.
- ``uniform``: evenly on the sphere, queries too. Without any structure cells hardly help: the hard
  case.

Pinned to one core (``taskset -c 1``), so the ratio is that of the work, not of the threads.
"""

from __future__ import annotations

import time

import numpy as np
import tensorflow as tf

from benchmarks.common import Results, arguments
from tfrec.retrieval.brute_force import BruteForce
from tfrec.retrieval.build import build_ivf

DIM, K, SAMPLE, MIN_RECALL = 64, 100, 512, 0.95
BATCHES = (1, 16, 128)
SECONDS = 3.0  # of each timing, at least


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def noise(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal((n, DIM), np.float32) / np.float32(np.sqrt(DIM))


def vectors(kind: str, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Items [n, 64] and queries [SAMPLE, 64]; see the module's docstring."""
    rng = np.random.default_rng(seed)
    if kind == "uniform":
        return unit(noise(rng, n)), unit(noise(rng, SAMPLE))
    centres = unit(noise(rng, max(n // 500, 10)))
    chance = 1 / np.sqrt(np.arange(1, len(centres) + 1))
    items = unit(centres[rng.choice(len(centres), n, p=chance / chance.sum())] + noise(rng, n))
    asked = items[rng.choice(n, SAMPLE, replace=False)]
    return items, unit(asked + noise(rng, SAMPLE) / 2)


def rate(index: object, queries: np.ndarray, batch: int) -> float:
    """Queries a second."""
    search = tf.function(lambda q: index.search(q, K), autograph=False)  # type: ignore[attr-defined]
    parts = [tf.constant(queries[a : a + batch]) for a in range(0, len(queries), batch)]
    search(parts[0])
    done, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < SECONDS:
        search(parts[(done // batch) % len(parts)])
        done += batch
    return done / spent


def run(results: Results, kind: str, n: int, quantised: bool = False) -> None:
    """Builds one index and compares it with brute force on the same queries, in turns."""
    items, queries = vectors(kind, n)
    protocol = f"{kind}/{n:,} x {DIM}/k={K}"
    note = "int8" if quantised else "float32"
    index, report = build_ivf(items, queries, min_recall=MIN_RECALL, at=K, quantised=quantised)
    brute = BruteForce(tf.constant(items))
    named = {"build": report.seconds, "cells": report.cells, "probes": report.probes}
    for metric, value in named.items():
        unit_name = "s" if metric == "build" else ""
        results.add("ivf", metric, value, protocol=protocol, unit=unit_name, note=note)
    results.add("ivf", f"recall@{K}", report.recall[str(K)], protocol=protocol, note=note)
    results.add("ivf", "scored", report.scored, protocol=protocol, note=note)
    for batch in BATCHES:
        asked = f"{note}, batch {batch}"
        ours, theirs = rate(index, queries, batch), rate(brute, queries, batch)
        results.add("ivf", "queries_per_s", ours, protocol=protocol, note=asked)
        results.add(
            "brute_force", "queries_per_s", theirs, protocol=protocol, note=f"beside {asked}"
        )
        results.add("ivf", "ratio", ours / theirs, protocol=protocol, note=asked)
    results.write()


def main() -> None:
    given = arguments(__doc__ or "").parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    results = Results("index", given.quick)
    if given.quick:
        run(results, "clustered", 50_000)
        run(results, "uniform", 20_000)
    else:
        run(results, "clustered", 100_000)
        run(results, "clustered", 300_000)
        run(results, "clustered", 300_000, quantised=True)
        run(results, "clustered", 1_000_000)
        run(results, "uniform", 100_000)
        run(results, "uniform", 1_000_000)
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
