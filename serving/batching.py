"""Request batching: merges waiting requests into one graph call.

The first request of a batch leads it: it waits until the batch is full or
``batch_timeout_micros`` have passed, takes one of ``num_batch_threads`` turns and runs the graph
for all; the others wait for their rows. Nobody hands work to another thread, so a lone request
pays only the time-out.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving import textproto
from serving.bundle import Signature, TensorRef
from serving.errors import Code, ServingError, deadline_exceeded, failed_precondition, invalid
from serving.servable import Runner

Feeds = Sequence[tuple[TensorRef, NDArray[Any]]]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class BatchingOptions:
    """``BatchingParameters`` with TF Serving's defaults.

    Attributes:
        max_batch_size: rows a graph call takes at most.
        batch_timeout_s: seconds the first request of a batch waits for others.
        max_enqueued_batches: batches of one queue that may wait for their turn.
        num_batch_threads: graph calls in progress at the same time.
        allowed_batch_sizes: batches are padded up to one of these; empty for no padding.
        pad_variable_length_inputs: whether inputs that differ beyond axis 0 are padded to the
            longest, with the tensor's first element, instead of being batched apart.
    """

    max_batch_size: int = 1000
    batch_timeout_s: float = 0.0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.batch_timeout_s < 0:
            raise ValueError(f"batch_timeout_micros must not be negative: {self.batch_timeout_s}")
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1):
            raise ValueError(f"allowed_batch_sizes must increase from 1 or more: {list(sizes)}")
        if sizes and sizes[-1] != self.max_batch_size:
            raise ValueError(
                f"the last of allowed_batch_sizes must equal max_batch_size "
                f"({self.max_batch_size}), not {sizes[-1]}"
            )

    @classmethod
    def from_file(cls, path: str) -> BatchingOptions:
        """Reads ``--batching_parameters_file``.

        Raises:
            ConfigFileError: naming the file and the field.
        """
        proto = textproto.read(path, textproto.message_class("BatchingParameters")())
        given: dict[str, Any] = {}
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if proto.HasField(name):
                given[name] = getattr(proto, name).value
        if proto.HasField("batch_timeout_micros"):
            given["batch_timeout_s"] = proto.batch_timeout_micros.value / 1e6
        try:
            return cls(
                allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
                pad_variable_length_inputs=proto.pad_variable_length_inputs,
                **given,
            )
        except ValueError as error:
            raise textproto.ConfigFileError(f"{path}: {error}") from None


class _Task:
    """One request in a batch."""

    __slots__ = ("deadline", "done", "error", "feeds", "outputs", "rows")

    def __init__(self, feeds: Feeds, rows: int, deadline: float | None) -> None:
        self.feeds, self.rows, self.deadline = feeds, rows, deadline
        self.done = threading.Event()
        self.outputs: list[NDArray[Any]] = []
        self.error: ServingError | None = None


class _Batch:
    """Requests that will share a graph call; open until led away or full."""

    __slots__ = ("full", "rows", "tasks")

    def __init__(self) -> None:
        self.tasks: list[_Task] = []
        self.rows = 0
        self.full = threading.Event()


class BatchingRunner:
    """A runner that merges calls with the same inputs, outputs and shapes beyond axis 0.

    Args:
        inner: runs the graph.
        options: see :class:`BatchingOptions`.
        turns: semaphore of ``num_batch_threads``, shared by all models of a server.
    """

    def __init__(
        self, inner: Runner, options: BatchingOptions, turns: threading.Semaphore | None = None
    ) -> None:
        self._inner = inner
        self._options = options
        self._turns = turns or threading.Semaphore(options.num_batch_threads)
        self._lock = threading.Lock()
        self._open: dict[Key, _Batch] = {}
        self._waiting: dict[Key, int] = {}  # batches of a queue that wait for a turn

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._inner.signatures

    @property
    def signature_defs(self) -> Mapping[str, Any]:
        return self._inner.signature_defs

    def close(self) -> None:
        self._inner.close()

    def run(
        self, feeds: Feeds, fetches: Sequence[TensorRef], timeout_s: float | None = None
    ) -> list[NDArray[Any]]:
        """As :meth:`serving.bundle.Bundle.run`, possibly together with other callers' rows.

        Raises:
            ServingError: INVALID_ARGUMENT for inputs without a common axis 0 or more rows than
                ``max_batch_size``, UNAVAILABLE where the queue is full, DEADLINE_EXCEEDED, and
                whatever the graph says to this request.
        """
        rows = _rows(feeds, self._options.max_batch_size)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        task = _Task(feeds, rows, deadline)
        key = self._key(feeds, fetches)
        batch, leads = self._join(key, task)
        if leads:
            self._lead(key, batch, task, fetches)
        elif not task.done.wait(timeout_s):
            raise deadline_exceeded("while waiting for the batch")
        if task.error is not None:
            raise task.error
        return task.outputs

    def _key(self, feeds: Feeds, fetches: Sequence[TensorRef]) -> Key:
        loose = self._options.pad_variable_length_inputs
        shapes = tuple(
            (ref.name, array.dtype.num, array.ndim if loose else array.shape[1:])
            for ref, array in sorted(feeds, key=lambda feed: feed[0].name)
        )
        return shapes, tuple(ref.name for ref in fetches)

    def _join(self, key: Key, task: _Task) -> tuple[_Batch, bool]:
        """Adds a task to the open batch of its queue, or opens one and leads it."""
        limit = self._options.max_batch_size
        with self._lock:
            batch = self._open.get(key)
            if batch is not None and batch.rows + task.rows > limit:
                del self._open[key]
                batch.full.set()
                batch = None
            leads = batch is None
            if batch is None:
                queued = self._waiting.get(key, 0)
                if queued >= self._options.max_enqueued_batches:
                    raise ServingError(
                        Code.UNAVAILABLE,
                        "The batch scheduling queue to which this task was submitted is full; "
                        f"currently {queued} batches enqueued and max_enqueued_batches is "
                        f"{self._options.max_enqueued_batches}",
                    )
                batch = self._open[key] = _Batch()
                self._waiting[key] = queued + 1
            batch.tasks.append(task)
            batch.rows += task.rows
            if batch.rows == limit:
                self._open.pop(key, None)
                batch.full.set()
            return batch, leads

    def _lead(self, key: Key, batch: _Batch, own: _Task, fetches: Sequence[TensorRef]) -> None:
        if self._options.batch_timeout_s and not batch.full.is_set():
            batch.full.wait(self._options.batch_timeout_s)
        self._turns.acquire()  # others may still join while all turns are taken
        try:
            with self._lock:
                if self._open.get(key) is batch:
                    del self._open[key]
                self._waiting[key] -= 1
                if not self._waiting[key]:
                    del self._waiting[key]
            self._run(batch, fetches)
        finally:
            self._turns.release()
            for task in batch.tasks:
                task.done.set()

    def _run(self, batch: _Batch, fetches: Sequence[TensorRef]) -> None:
        now = time.monotonic()
        live = []
        for task in batch.tasks:
            if task.deadline is not None and task.deadline <= now:
                task.error = deadline_exceeded("while waiting for the batch")
            else:
                live.append(task)
        if not live:
            return
        deadlines = [task.deadline for task in live]
        # the batch may run as long as its most patient request allows
        patience = None if None in deadlines else max(d for d in deadlines if d is not None) - now
        error = self._attempt(live, fetches, patience)
        if error is None:
            return
        spoilt = error.code not in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)
        for task in live:
            # one bad request must not fail its neighbours: each is tried alone
            alone = len(live) > 1 and spoilt
            task.error = self._attempt([task], fetches, patience) if alone else error

    def _attempt(
        self, tasks: list[_Task], fetches: Sequence[TensorRef], patience: float | None
    ) -> ServingError | None:
        """One graph call for these tasks; their outputs are set unless an error is returned."""
        try:
            feeds, rows = self._merge(tasks)
            self._split(tasks, self._inner.run(feeds, fetches, patience), rows)
        except ServingError as error:
            return error
        except Exception as error:
            return ServingError(Code.INTERNAL, f"batch failed: {error}")
        return None

    def _merge(self, tasks: list[_Task]) -> tuple[Feeds, int]:
        """Concatenates along axis 0 and pads to an allowed size with the first row."""
        rows = sum(task.rows for task in tasks)
        allowed = self._options.allowed_batch_sizes if rows else ()  # nothing to pad with
        target = next((size for size in allowed if size >= rows), rows)
        if len(tasks) == 1 and target == rows:
            return tasks[0].feeds, rows
        by_name = [{ref.name: array for ref, array in task.feeds} for task in tasks]
        merged = []
        for ref, _ in tasks[0].feeds:
            parts = [arrays[ref.name] for arrays in by_name]
            if self._options.pad_variable_length_inputs:
                parts = _pad_to_longest(parts)
            if target > rows:
                parts.append(np.repeat(next(p for p in parts if len(p))[:1], target - rows, axis=0))
            merged.append((ref, np.concatenate(parts)))
        return merged, target

    @staticmethod
    def _split(tasks: list[_Task], outputs: list[NDArray[Any]], rows: int) -> None:
        for output in outputs:
            if output.ndim == 0 or output.shape[0] != rows:
                raise failed_precondition(
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                    f"dimension sizes of the input tensors: {list(output.shape)}, not {rows} rows"
                )
        at = 0
        for task in tasks:
            task.outputs = [output[at : at + task.rows] for output in outputs]
            at += task.rows


def _rows(feeds: Feeds, limit: int) -> int:
    """Common size of axis 0."""
    sizes = {ref.name: array.shape[0] if array.ndim else None for ref, array in feeds}
    if not sizes:
        raise invalid("Batching needs at least one input tensor")
    if None in sizes.values():
        raise invalid("Batching session Run() input tensors must have at least one dimension.")
    if len(set(sizes.values())) > 1:
        raise invalid(
            f"Batching session Run() input tensors must have equal 0th-dimension size: {sizes}"
        )
    rows = next(iter(sizes.values())) or 0
    if rows > limit:
        raise invalid(f"Task size {rows} is larger than maximum input batch size {limit}")
    return rows


def _pad_to_longest(parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Pads every axis but 0 to the longest, with each tensor's first element."""
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    return [_padded(part, shape) for part in parts]


def _padded(part: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    widths = [(0, want - have) for want, have in zip(shape, part.shape[1:], strict=True)]
    if not any(after for _, after in widths):
        return part
    first = part.flat[0] if part.size else (b"" if part.dtype == object else 0)
    return np.pad(part, [(0, 0), *widths], constant_values=first)
