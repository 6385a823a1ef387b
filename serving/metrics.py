"""Counters and histograms under TF Serving's names, in Prometheus's text format.

Written here because the official names start with ``:`` and carry no ``_total``, which a client
library would rewrite; and because several processes on one port must answer with one sum.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

REQUEST_COUNT = ":tensorflow:serving:request_count"
REQUEST_LATENCY = ":tensorflow:serving:request_latency"
RUNTIME_LATENCY = ":tensorflow:serving:runtime_latency"
LOAD_COUNT = ":tensorflow:cc:saved_model:load_attempt_count"
LOAD_LATENCY = ":tensorflow:cc:saved_model:load_latency"
VERSION_STATE = ":tensorflow:serving:model_version_state"
STORE_COUNT = ":tfrec:store:request_count"
STORE_LATENCY = ":tfrec:store:latency"

LABELS: dict[str, tuple[str, ...]] = {
    REQUEST_COUNT: ("model_name", "status", "version", "signature"),
    REQUEST_LATENCY: ("model_name", "API", "entrypoint", "version", "signature"),
    RUNTIME_LATENCY: ("model_name", "API", "runtime", "version", "signature"),
    LOAD_COUNT: ("model_path", "status"),
    LOAD_LATENCY: ("model_path",),
    VERSION_STATE: ("model_name", "version", "state"),
    STORE_COUNT: ("outcome",),
    STORE_LATENCY: ("outcome",),
}
HELP: dict[str, str] = {
    REQUEST_COUNT: "Number of requests, by status.",
    REQUEST_LATENCY: "Time from a request's arrival to its answer, in microseconds.",
    RUNTIME_LATENCY: "Time inside the graph (with batching: waiting too), in microseconds.",
    LOAD_COUNT: "Attempts to load a SavedModel, by outcome.",
    LOAD_LATENCY: "Time spent loading SavedModels, in microseconds.",
    VERSION_STATE: "1 for the state a version is in.",
    STORE_COUNT: "Requests completed from the feature store: filled, unknown (a key without row) "
    "or defaults (the store did not answer).",
    STORE_LATENCY: "Time spent completing them, in microseconds.",
}
BUCKETS: tuple[float, ...] = tuple(10 * 1.8**power for power in range(33))
"""Upper bounds in microseconds, as in TF Serving: from 10 us, each 1.8 times the one before."""

Labels = tuple[str, ...]
Snapshot = dict[str, Any]


class Metrics:
    """Thread-safe sums of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[tuple[str, Labels], float] = {}
        self._histograms: dict[tuple[str, Labels], list[float]] = {}  # buckets, rest, sum

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Adds to a counter; labels in the order of :data:`LABELS`."""
        key = (name, labels)
        with self._lock:
            self._counters[key] = self._counters.get(key, 0) + by

    def call(
        self, entrypoint: str, api: str, status: str, spec: Labels, micros: float, runtime: float
    ) -> None:
        """Everything one request leaves behind, under one lock.

        Args:
            entrypoint: ``GRPC`` or ``REST``.
            api: ``Predict`` ...
            status: name of the canonical code.
            spec: model, version and signature.
            micros: from arrival to answer.
            runtime: inside the graph; 0 where it was not reached.
        """
        model, version, signature = spec
        count = (REQUEST_COUNT, (model, status, version, signature))
        latency = (REQUEST_LATENCY, (model, api, entrypoint, version, signature))
        with self._lock:
            self._counters[count] = self._counters.get(count, 0) + 1
            self._add(latency, micros)
            if runtime:
                self._add((RUNTIME_LATENCY, (model, api, "TF1", version, signature)), runtime)

    def observe(self, name: str, *labels: str, micros: float) -> None:
        """Adds one duration to a histogram; labels in the order of :data:`LABELS`."""
        with self._lock:
            self._add((name, labels), micros)

    def _add(self, key: tuple[str, Labels], micros: float) -> None:
        cells = self._histograms.get(key)
        if cells is None:
            cells = self._histograms[key] = [0.0] * (len(BUCKETS) + 2)
        cells[bisect_left(BUCKETS, micros)] += 1
        cells[-1] += micros

    def snapshot(self) -> Snapshot:
        """All sums in plain types, for another process to add up."""
        with self._lock:
            return {
                "counters": [[*key, value] for key, value in self._counters.items()],
                "histograms": [[*key, list(cells)] for key, cells in self._histograms.items()],
            }


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Sum of the snapshots of several processes."""
    counters: dict[tuple[str, Labels], float] = {}
    histograms: dict[tuple[str, Labels], list[float]] = {}
    for snapshot in snapshots:
        for name, labels, value in snapshot["counters"]:
            key = (name, tuple(labels))
            counters[key] = counters.get(key, 0) + value
        for name, labels, cells in snapshot["histograms"]:
            key = (name, tuple(labels))
            old = histograms.get(key, [0.0] * len(cells))
            histograms[key] = [a + b for a, b in zip(old, cells, strict=True)]
    return {
        "counters": [[*key, value] for key, value in counters.items()],
        "histograms": [[*key, cells] for key, cells in histograms.items()],
    }


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _labels(name: str, values: Labels, **extra: str) -> str:
    pairs = dict(zip(LABELS[name], values, strict=True)) | extra
    return "{" + ",".join(f'{key}="{_escape(value)}"' for key, value in pairs.items()) + "}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def render(snapshot: Snapshot, gauges: Mapping[tuple[str, Labels], float] | None = None) -> str:
    """Prometheus's text format.

    Args:
        snapshot: sums of one or more processes.
        gauges: (metric, label values) to the value now.
    """
    lines: list[str] = []

    def head(name: str, kind: str) -> None:
        lines.extend([f"# HELP {name} {HELP[name]}", f"# TYPE {name} {kind}"])

    last = ""
    for name, labels, value in sorted(snapshot["counters"]):
        if name != last:
            head(name, "counter")
        last = name
        lines.append(f"{name}{_labels(name, labels)} {_number(value)}")
    for name, labels, cells in sorted(snapshot["histograms"]):
        if name != last:
            head(name, "histogram")
        last = name
        total = 0.0
        for bound, number in zip((*BUCKETS, float("inf")), cells[:-1], strict=True):
            total += number
            le = "+Inf" if bound == float("inf") else f"{bound:.6g}"
            lines.append(f"{name}_bucket{_labels(name, labels, le=le)} {_number(total)}")
        lines.append(f"{name}_sum{_labels(name, labels)} {_number(cells[-1])}")
        lines.append(f"{name}_count{_labels(name, labels)} {_number(total)}")
    for (name, labels), value in sorted((gauges or {}).items()):
        if name != last:
            head(name, "gauge")
        last = name
        lines.append(f"{name}{_labels(name, labels)} {_number(value)}")
    return "\n".join(lines) + "\n"
