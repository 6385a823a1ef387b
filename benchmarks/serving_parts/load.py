"""The two measuring processes of the serving benchmark: one bare session, one client.

Each reads a JSON command a line and answers a JSON line. They live through the whole run, so that
the bare call and the server are measured in turn, seconds apart, on the same noisy machine.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Call = Callable[[], Any]
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def latency(call: Call, seconds: float) -> dict[str, float]:
    """Percentiles in milliseconds of calls made one after the other."""
    for _ in range(20):
        call()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end or len(taken) < 50:
        call()
        taken.append(time.perf_counter() - began)
    taken.sort()
    return {
        **{f"p{q}": taken[min(len(taken) - 1, len(taken) * q // 100)] * 1e3 for q in (50, 95, 99)},
        "calls": len(taken),
    }


def throughput(make: Callable[[], Call], callers: int, seconds: float) -> dict[str, float]:
    """Calls a second by several callers, each with its own connection; failures are counted."""
    counts, failures = [0] * callers, [0] * callers
    stop = threading.Event()
    ready = threading.Barrier(callers + 1)

    def work(index: int) -> None:
        call = make()
        call()
        ready.wait()
        while not stop.is_set():
            try:
                call()
                counts[index] += 1
            except Exception:
                failures[index] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(callers)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    elapsed = time.perf_counter() - began
    done = sum(counts)
    for thread in threads:
        thread.join()
    return {"per_s": done / elapsed, "failures": sum(failures)}


def bare_calls(root: Path) -> Callable[[dict[str, Any]], Callable[[], Call]]:
    """Makers of bare session calls: arrays in, arrays out, nothing around them."""
    from benchmarks.serving_parts import models
    from serving.bundle import Bundle

    bundles = {name: Bundle(root / name / "1") for name in models.MODELS}

    def maker(command: dict[str, Any]) -> Callable[[], Call]:
        bundle = bundles[command["model"]]
        signature = bundle.signatures["serving_default"]
        values = models.inputs(command["model"])
        feeds = {ref.handle: values[alias] for alias, ref in signature.inputs.items()}
        fetches = [ref.handle for ref in signature.outputs.values()]
        session = bundle._call
        assert session is not None

        def way(inline: bool) -> Call:
            return lambda: session(feeds, fetches, None, inline)

        # in the caller's thread or on the session's pool: the bare call is the faster of the two
        fast = min((way(True), way(False)), key=lambda call: latency(call, 0.1)["p50"])
        return lambda: fast

    return maker


def client_calls(root: Path) -> Callable[[dict[str, Any]], Callable[[], Call]]:
    """Makers of gRPC and REST calls; requests are serialized once, answers are received whole."""
    import grpc

    bodies = json.loads((root / "requests.json").read_text())

    def over_grpc(command: dict[str, Any]) -> Call:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.insecure_channel(command["grpc"], options)
        stub = channel.unary_unary(PREDICT)
        body = bytes.fromhex(bodies[command["model"]]["grpc"])
        timeout = command.get("timeout")
        return lambda: stub(body, timeout=timeout)

    def over_rest(command: dict[str, Any]) -> Call:
        connection = http.client.HTTPConnection(urlsplit(command["rest"]).netloc, timeout=60)
        body = bodies[command["model"]]["rest"].encode()
        path = f"/v1/models/{command['model']}:predict"

        def call() -> None:
            connection.request("POST", path, body)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise RuntimeError(response.status)

        return call

    def maker(command: dict[str, Any]) -> Callable[[], Call]:
        kind = over_grpc if command["transport"] == "grpc" else over_rest
        return lambda: kind(command)

    return maker


def main() -> None:
    role, root = sys.argv[1], Path(sys.argv[2])
    maker = (bare_calls if role == "bare" else client_calls)(root)
    print(json.dumps({"ready": role}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        make = maker(command)
        if command["op"] == "latency":
            result = latency(make(), command["seconds"])
        else:
            result = throughput(make, command["callers"], command["seconds"])
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
