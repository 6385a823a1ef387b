"""Batching: what is merged, how it is padded and split, who waits, who is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from serving.batching import BatchingOptions, BatchingRunner
from serving.bundle import TensorRef
from serving.errors import Code, ServingError
from serving.textproto import ConfigFileError
from tests.serving.conftest import array

X = TensorRef("x:0", 1, None)
Y = TensorRef("y:0", 1, None)
Z = TensorRef("z:0", 1, None)
WORDS = TensorRef("words:0", 7, None)


class Doubler:
    """``y = 2 x``; notes the shapes it is called with, waits where told, refuses negative rows."""

    signatures: Mapping[str, Any] = MappingProxyType({})
    signature_defs: Mapping[str, Any] = MappingProxyType({})

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.fed: list[np.ndarray] = []
        self.gate: threading.Event | None = None
        self.entered = threading.Semaphore(0)

    def run(self, feeds: Any, fetches: Any, timeout_s: float | None = None) -> list[np.ndarray]:
        value = feeds[0][1]
        self.shapes.append(value.shape)
        self.fed.append(value)
        self.entered.release()
        if self.gate is not None:
            assert self.gate.wait(10)
        if value.dtype != object and (value < 0).any():
            raise ServingError(Code.INVALID_ARGUMENT, "negative")
        return [value * 2 if value.dtype != object else value for _ in fetches]

    def close(self) -> None: ...


def together(calls: list[Callable[[], Any]]) -> list[Any]:
    """Results of calls made at once; exceptions are results."""

    def guarded(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except ServingError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(guarded, calls))


def ask(runner: BatchingRunner, value: Any, ref: TensorRef = X) -> Callable[[], np.ndarray]:
    rows = value if isinstance(value, np.ndarray) else array.float32(value)
    return lambda: runner.run([(ref, rows)], [Y])[0]


def test_requests_are_merged_and_each_gets_its_rows() -> None:
    inner = Doubler()
    runner = BatchingRunner(inner, BatchingOptions(max_batch_size=6, batch_timeout_s=5))
    rows = [np.full([n, 2], n, np.float32) for n in (1, 2, 3)]
    began = time.monotonic()
    found = together([ask(runner, row) for row in rows])
    assert time.monotonic() - began < 5  # a full batch does not wait for the time-out
    assert inner.shapes == [(6, 2)]
    for row, got in zip(rows, found, strict=True):
        np.testing.assert_array_equal(got, row * 2)


def test_a_lone_request_waits_no_longer_than_the_timeout() -> None:
    inner = Doubler()
    runner = BatchingRunner(inner, BatchingOptions(max_batch_size=8, batch_timeout_s=0.01))
    assert ask(runner, [[1.0]])().tolist() == [[2.0]]
    assert inner.shapes == [(1, 1)]


def test_batches_are_padded_to_an_allowed_size_with_the_first_row() -> None:
    inner = Doubler()
    runner = BatchingRunner(inner, BatchingOptions(max_batch_size=8, allowed_batch_sizes=(2, 4, 8)))
    assert ask(runner, [[7.0], [8.0], [9.0]])().tolist() == [[14.0], [16.0], [18.0]]
    assert inner.fed[0].tolist() == [[7.0], [8.0], [9.0], [7.0]]
    assert ask(runner, np.zeros([0, 1], np.float32))().shape == (0, 1)


def test_different_shapes_dtypes_and_outputs_are_not_merged() -> None:
    inner = Doubler()
    runner = BatchingRunner(inner, BatchingOptions(max_batch_size=8, batch_timeout_s=0.1))
    calls = [
        ask(runner, np.ones([1, 2], np.float32)),
        ask(runner, np.ones([1, 3], np.float32)),
        ask(runner, np.ones([1, 2], np.float64)),
        lambda: runner.run([(X, np.ones([1, 2], np.float32))], [Z])[0],
    ]
    for got, shape in zip(together(calls), [(1, 2), (1, 3), (1, 2), (1, 2)], strict=True):
        assert got.shape == shape
    assert len(inner.shapes) == 4


def test_variable_lengths_are_padded_where_allowed() -> None:
    inner = Doubler()
    options = BatchingOptions(max_batch_size=2, batch_timeout_s=5, pad_variable_length_inputs=True)
    runner = BatchingRunner(inner, options)
    together([ask(runner, [[1.0, 2.0, 3.0]]), ask(runner, [[5.0]])])
    assert sorted(inner.fed[0].tolist()) == [[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]
    words = [np.array([[b"a", b"b"]], object), np.array([[b"c"]], object)]
    together([ask(runner, word, WORDS) for word in words])
    assert sorted(inner.fed[1].tolist()) == [[b"a", b"b"], [b"c", b"c"]]


def test_a_bad_request_does_not_fail_its_neighbours() -> None:
    runner = BatchingRunner(Doubler(), BatchingOptions(max_batch_size=3, batch_timeout_s=5))
    good, bad, fine = together([ask(runner, [[v]]) for v in (1.0, -1.0, 3.0)])
    assert (good.tolist(), fine.tolist()) == ([[2.0]], [[6.0]])
    assert isinstance(bad, ServingError)
    assert bad.message == "negative"


def test_a_full_queue_is_unavailable() -> None:
    inner = Doubler()
    inner.gate = threading.Event()
    options = BatchingOptions(max_batch_size=1, max_enqueued_batches=2, num_batch_threads=1)
    runner = BatchingRunner(inner, options)
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(ask(runner, [[1.0]]))
        assert inner.entered.acquire(timeout=10)
        waiting = [pool.submit(ask(runner, [[2.0]])) for _ in range(2)]
        while sum(runner._waiting.values()) < 2:
            time.sleep(0.001)
        with pytest.raises(
            ServingError, match="queue to which this task was submitted is full"
        ) as e:
            ask(runner, [[3.0]])()
        assert e.value.code is Code.UNAVAILABLE
        inner.gate.set()
        assert running.result(10).tolist() == [[2.0]]
        assert [future.result(10).tolist() for future in waiting] == [[[4.0]], [[4.0]]]
    assert runner._waiting == {}
    assert runner._open == {}


def test_requests_join_while_all_turns_are_taken() -> None:
    inner = Doubler()
    inner.gate = threading.Event()
    runner = BatchingRunner(inner, BatchingOptions(max_batch_size=8, num_batch_threads=1))
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask(runner, [[1.0]]))
        assert inner.entered.acquire(timeout=10)
        others = [pool.submit(ask(runner, [[float(n)]])) for n in (2, 3, 4)]
        while sum(batch.rows for batch in runner._open.values()) < 3:
            time.sleep(0.001)
        inner.gate.set()
        assert [f.result(10).item() for f in [first, *others]] == [2.0, 4.0, 6.0, 8.0]
    assert inner.shapes == [(1, 1), (3, 1)]  # without any batch time-out


def test_a_deadline_ends_the_wait() -> None:
    inner = Doubler()
    inner.gate = threading.Event()
    runner = BatchingRunner(inner, BatchingOptions(max_batch_size=8, num_batch_threads=1))
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask(runner, [[1.0]]))
        assert inner.entered.acquire(timeout=10)
        leader = pool.submit(ask(runner, [[2.0]]))
        while not runner._open:
            time.sleep(0.001)
        with pytest.raises(ServingError) as caught:  # joins the leader's batch
            runner.run([(X, array.float32([[3.0]]))], [Y], timeout_s=0.02)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        inner.gate.set()
        assert (first.result(10).item(), leader.result(10).item()) == (2.0, 4.0)
    assert inner.shapes == [(1, 1), (1, 1)]  # the expired one was left out


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ([(X, array.float32(1))], "at least one dimension"),
        ([(X, array.float32([1])), (Z, array.float32([1, 2]))], "equal 0th-dimension size"),
        ([(X, np.zeros(9, np.float32))], "Task size 9 is larger than maximum input batch size 8"),
        ([], "at least one input"),
    ],
)
def test_what_cannot_be_batched(feeds: Any, text: str) -> None:
    runner = BatchingRunner(Doubler(), BatchingOptions(max_batch_size=8))
    with pytest.raises(ServingError, match=text) as caught:
        runner.run(feeds, [Y])
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_an_output_without_rows() -> None:
    class Summed(Doubler):
        def run(self, feeds: Any, fetches: Any, timeout_s: float | None = None) -> Any:
            return [array.float32(feeds[0][1].sum())]

    runner = BatchingRunner(Summed(), BatchingOptions())
    with pytest.raises(ServingError, match="Batched output tensor's 0th dimension") as caught:
        ask(runner, [[1.0]])()
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_the_parameters_file(tmp_path: Path) -> None:
    file = tmp_path / "batching.txt"
    file.write_text(
        "max_batch_size { value: 16 } batch_timeout_micros { value: 500 }\n"
        "max_enqueued_batches { value: 7 } num_batch_threads { value: 3 }\n"
        'thread_pool_name { value: "p" } allowed_batch_sizes: [4, 16]\n'
        "pad_variable_length_inputs: true\n"
    )
    assert BatchingOptions.from_file(str(file)) == BatchingOptions(16, 0.0005, 7, 3, (4, 16), True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size { value: 16 } allowed_batch_sizes: 8", "must equal max_batch_size"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [8, 4]", "must increase"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be at least 1"),
        ("max_batch: 3", "no field named"),
    ],
)
def test_a_bad_parameters_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "batching.txt"
    file.write_text(text)
    with pytest.raises(ConfigFileError, match=message) as caught:
        BatchingOptions.from_file(str(file))
    assert str(file) in str(caught.value)
