"""Several processes on one port: a reload must reach all, a metrics page must sum all.

Each process also listens on a UNIX socket in a private folder. The service below is refused on any
other kind of connection, so callers from outside cannot use it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from tensorflow_serving.apis import model_management_pb2

from serving.errors import Code, ServingError

if TYPE_CHECKING:
    from serving.calls import Calls
    from serving.workers import Workers

SERVICE = "serving.Peer"
RELOAD, METRICS = f"/{SERVICE}/Reload", f"/{SERVICE}/Metrics"


class Peers:
    """The other processes.

    Args:
        own: this process's socket; empty where it is alone.
        others: sockets of the others.
    """

    def __init__(self, own: str = "", others: Sequence[str] = ()) -> None:
        self.own = own
        self.others = tuple(others)

    def reload(
        self, request: model_management_pb2.ReloadConfigRequest, timeout_s: float | None
    ) -> Callable[[], None]:
        """Hands a config this process has taken to all others at once.

        Returns:
            A function that waits for them; it raises the ServingError of the first that refused
            (UNAVAILABLE where a process does not answer), when all have answered.
        """
        body = request.SerializeToString()
        channels = [grpc.insecure_channel(f"unix:{path}") for path in self.others]
        sent = [c.unary_unary(RELOAD).future(body, timeout=timeout_s) for c in channels]

        def wait() -> None:
            try:
                errors = [error for call in sent if (error := call.exception()) is not None]
            finally:
                for channel in channels:
                    channel.close()
            if errors:
                code = Code(errors[0].code().value[0])
                raise ServingError(code, f"another process: {errors[0].details()}")

        return wait

    async def snapshots(self, timeout_s: float = 5.0) -> list[dict[str, Any]]:
        """Metrics of the others; one that does not answer is left out."""

        async def one(path: str) -> dict[str, Any] | None:
            try:
                async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
                    return json.loads(await channel.unary_unary(METRICS)(b"", timeout=timeout_s))
            except grpc.RpcError:
                return None

        found = await asyncio.gather(*map(one, self.others))
        return [snapshot for snapshot in found if snapshot is not None]

    def handler(self, calls: Calls, control: Workers) -> grpc.GenericRpcHandler:
        """The private service."""

        def guarded(method: Callable[[bytes], bytes]) -> Callable[..., Awaitable[bytes]]:
            async def handle(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
                if not self.own or not context.peer().startswith("unix:"):
                    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
                try:
                    return await control.run(method, body)
                except ServingError as error:
                    await context.abort(grpc.StatusCode[error.code.name], error.details)
                raise AssertionError("abort raises")

            return handle

        def reload(body: bytes) -> bytes:
            request = model_management_pb2.ReloadConfigRequest.FromString(body)
            calls.reload_here(request, None)
            return b""

        def metrics(body: bytes) -> bytes:
            return json.dumps(calls.metrics.snapshot()).encode()

        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Reload": grpc.unary_unary_rpc_method_handler(guarded(reload)),
                "Metrics": grpc.unary_unary_rpc_method_handler(guarded(metrics)),
            },
        )
