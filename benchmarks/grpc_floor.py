"""What an empty gRPC call between two Python processes costs: the floor under `benchmarks.serving`.

    python -m benchmarks.grpc_floor

The server answers with the bytes it got; nothing of ours is in it. Threaded and asyncio servers.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from concurrent import futures
from typing import Any

import grpc

from benchmarks.common import Results, arguments

METHOD = "/floor.Echo/Say"
LIFE_S = 60  # a server that nobody ends ends itself


class _Echo(grpc.GenericRpcHandler):
    """One handler for every method."""

    def __init__(self, answer: Any) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(answer)

    def service(self, handler_call_details: Any) -> Any:
        return self._handler


def threaded(port: Any) -> None:
    """A threaded server; puts its port into the queue."""
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[_Echo(lambda data, _: data)])
    port.put(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    time.sleep(LIFE_S)


def asynchronous(port: Any) -> None:
    """A ``grpc.aio`` server; puts its port into the queue."""

    async def answer(data: bytes, _: Any) -> bytes:
        return data

    async def run() -> None:
        server = grpc.aio.server(handlers=[_Echo(answer)])
        number = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        port.put(number)
        await asyncio.sleep(LIFE_S)

    asyncio.run(run())


def p50(port: int, size: int, calls: int) -> float:
    """Median milliseconds of a call with so many bytes."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD)
        data, taken = b"x" * size, []
        for _ in range(calls + 300):
            started = time.perf_counter()
            call(data, wait_for_ready=True)
            taken.append(time.perf_counter() - started)
    return sorted(taken[300:])[calls // 2] * 1000


def main() -> None:
    given = arguments(__doc__ or "").parse_args()
    results = Results("grpc_floor", given.quick)
    spawn = multiprocessing.get_context("spawn")
    for name, serve in (("threaded server", threaded), ("grpc.aio server", asynchronous)):
        port = spawn.Queue()
        process = spawn.Process(target=serve, args=(port,), daemon=True)
        process.start()
        number = port.get(timeout=30)
        for size in (100, 50_000):
            value = p50(number, size, 500 if given.quick else 2000)
            note = f"{size:,} bytes"
            results.add(name, "p50", value, protocol="echo", unit="ms", note=note)
        process.terminate()
        process.join()
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
