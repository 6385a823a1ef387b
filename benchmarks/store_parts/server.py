"""The embedded server with the store in front, asked by four callers in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2

from benchmarks.store_parts.processor import Clock
from serving.options import Options
from serving.server import Server
from serving.tensors import encode
from tfrec.config import StoreConfig

CALLERS = 4
PREDICT = "/tensorflow.serving.PredictionService/Predict"
WARM = 20  # calls of each caller that are not timed
Ask = Callable[[str, list[str], list[list[str]], float, Clock], dict[str, float]]


def _body(user: str, history: list[str] | None) -> bytes:
    def texts(values: object) -> np.ndarray:
        return np.vectorize(str.encode, otypes=[object])(np.array(values))

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    encode(texts([user]), request.inputs["user_id"])
    if history is not None:
        padded = texts([history + [""] * (64 - len(history))])
        encode(padded, request.inputs["history"])
        encode(padded, request.inputs["exclude"])
        encode(texts(["18-24"]), request.inputs["age"])
        encode(np.int32(10), request.inputs["k"])
    return request.SerializeToString()


@contextmanager
def running(folder: Path, config: StoreConfig) -> Iterator[Ask]:
    """A server; what it gives asks with everything sent, or with a user id alone."""
    options = Options(
        model_name="m",
        model_base_path=str(folder),
        input_filler="tfrec.store.front:open_filler",
        input_filler_options={"store": config.model_dump()},
    )
    with Server(options) as server:
        server.wait_until_available("m")

        def ask(
            way: str, users: list[str], history: list[list[str]], seconds: float, clock: Clock
        ) -> dict[str, float]:
            bodies = [
                _body(user, own if way == "sent" else None)
                for user, own in zip(users, history, strict=True)
            ]
            return _asked(server.grpc_address, bodies, way, seconds, clock)

        yield ask


def _asked(
    address: str, bodies: list[bytes], way: str, seconds: float, clock: Clock
) -> dict[str, float]:
    """p50 and p99 after the first calls of each caller; calls a second and processor of all."""
    taken: list[list[float]] = [[] for _ in range(CALLERS)]
    wrong: list[str] = []
    end = [float("inf")]

    def work(index: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(address, options) as channel:
            stub = channel.unary_unary(PREDICT)
            at = index
            while True:
                began = time.perf_counter()
                if began > end[0]:
                    return
                _, call = stub.with_call(bodies[at % len(bodies)], timeout=30)
                taken[index].append(time.perf_counter() - began)
                told = dict(call.trailing_metadata()).get("x-store", "")
                if told != ("filled" if way == "store" else ""):
                    wrong.append(told)
                at += CALLERS

    threads = [threading.Thread(target=work, args=(i,)) for i in range(CALLERS)]
    busy = clock()
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    end[0] = began + seconds
    for thread in threads:
        thread.join()
    if wrong:
        raise RuntimeError(f"{len(wrong)} answers were not as asked: {set(wrong)}")
    calls = sum(map(len, taken))
    busy = (clock() - busy) * 1e3 / calls
    p50, p99 = np.percentile(np.concatenate([own[WARM:] for own in taken]), [50, 99]) * 1e3
    return {"p50": p50, "p99": p99, "processor": busy, "calls_per_s": calls / seconds}
