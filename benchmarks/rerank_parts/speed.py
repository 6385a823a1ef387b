"""Processor time of one list, graph against NumPy, and whether the lists are the same.

Processor time, not wall time: the two are timed in turns, and other processes on the core must not
decide between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.common import Results
from benchmarks.rerank_parts import numpy_lists
from tests.rerank import oracle
from tfrec.rerank import rerank

TRADE_OFF, DIM, CATEGORIES, BATCH = 0.4, 64, 20, 16


def _inputs(width: int, seed: int = 0) -> dict[str, np.ndarray]:
    """A batch of candidates around 30 centres, so that many are alike."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, DIM))
    near = centres[rng.integers(0, 30, (BATCH, width))]
    return {
        "relevance": rng.random((BATCH, width)).astype(np.float32),
        "vectors": (near + 0.5 * rng.normal(size=near.shape)).astype(np.float32),
        "categories": (rng.random((BATCH, width, CATEGORIES)) < 0.1).astype(np.float32),
        "target": rng.random((BATCH, CATEGORIES)).astype(np.float32),
    }


def _graph(method: str, window: int | None) -> Any:
    specs = [tf.TensorSpec([None] * n, tf.float32) for n in (2, 3, 3, 2)]

    @tf.function(input_signature=[*specs, tf.TensorSpec([], tf.int32)], autograph=False)
    def answer(
        relevance: tf.Tensor, vectors: tf.Tensor, categories: tf.Tensor, target: tf.Tensor, k: Any
    ) -> tf.Tensor:
        found = rerank(
            relevance,
            k,
            method=method,
            trade_off=TRADE_OFF,
            vectors=vectors,
            categories=categories,
            target=target,
            window=window,
        )
        return found.indices

    return answer


def _numpy(method: str, x: dict[str, np.ndarray], row: int, k: int) -> list[int]:
    relevance = x["relevance"][row]
    if method == "calibrated":
        return numpy_lists.calibrated(
            relevance, x["categories"][row], x["target"][row], k, TRADE_OFF
        )
    make = numpy_lists.mmr if method == "mmr" else numpy_lists.dpp
    return make(relevance, x["vectors"][row], k, TRADE_OFF)


def _slow(method: str, x: dict[str, np.ndarray], row: int, k: int, window: int | None) -> list[int]:
    relevance = x["relevance"][row].astype(np.float64)
    if method == "calibrated":
        gain = oracle.calibrated_gain(
            relevance, x["categories"][row], x["target"][row], TRADE_OFF, window
        )
    else:
        make = oracle.mmr_gain if method == "mmr" else oracle.dpp_gain
        gain = make(relevance, x["vectors"][row], TRADE_OFF, window)
    valid = np.ones(len(relevance), bool)
    return oracle.pick_greedily(gain, valid, k, oracle.NOISE * TRADE_OFF)


def _seconds(calls: list[Callable[[], Any]], repeats: int = 15) -> list[float]:
    """Median processor seconds of each call, in turns, after one round that is not counted."""
    took: list[list[float]] = [[] for _ in calls]
    for round_ in range(repeats + 1):
        for call, mine in zip(calls, took, strict=True):
            began = time.process_time()
            call()
            if round_:
                mine.append(time.process_time() - began)
    return [float(np.median(mine)) for mine in took]


def measure(results: Results, quick: bool) -> None:
    """Adds milliseconds a list and the share of identical lists."""
    width, k = (300, 20) if quick else (1000, 50)
    protocol = f"{width} candidates, {k} of them, {DIM} dimensions"
    x = _inputs(width)
    one = [tf.constant(v[:1]) for v in x.values()]
    all_rows = [tf.constant(v) for v in x.values()]
    cases = [(m, w) for m in ("mmr", "dpp", "calibrated") for w in (None, 10)]
    for method, window in [("none", None), *cases]:
        note = f"window {window}" if window else ""
        graph = _graph(method, window)

        def add(metric: str, value: float, unit: str = "", m: str = method, n: str = note) -> None:
            results.add(m, metric, value, protocol=protocol, unit=unit, note=n)

        calls: list[Callable[[], Any]] = [partial(graph, *one, k), partial(graph, *all_rows, k)]
        well_written = method != "none" and window is None
        if well_written:
            calls.append(partial(_numpy, method, x, 0, k))
        single, batch, *plain = _seconds(calls)
        batch /= BATCH
        add("graph, batch 1", 1000 * single, "ms/list")
        add(f"graph, batch {BATCH}", 1000 * batch, "ms/list")
        if method == "none":
            continue
        lists = graph(*all_rows, k).numpy().tolist()
        if well_written:
            same = [_numpy(method, x, row, k) == lists[row] for row in range(BATCH)]
            add("NumPy, incremental", 1000 * plain[0], "ms/list")
            add("identical to it", float(np.mean(same)))
            add("NumPy / graph, batch 1", plain[0] / single)
            add(f"NumPy / graph, batch {BATCH}", plain[0] / batch)
        began = time.process_time()
        slow = _slow(method, x, 0, k, window)
        took = time.process_time() - began
        add("slow oracle", 1000 * took, "ms/list")
        add("identical to the oracle", float(slow == lists[0]))
