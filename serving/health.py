"""``grpc.health.v1``: whether the server takes calls; what Kubernetes and load balancers ask.

The two messages are one field each, so they are read and written here: the generated module of
``grpcio-health-checking`` demands a newer protobuf than TensorFlow 2.21 allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from enum import IntEnum

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "grpc.health.v1.Health"


class Status(IntEnum):
    """``HealthCheckResponse.ServingStatus``."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def _request_class() -> type:
    file = descriptor_pb2.FileDescriptorProto(
        name="serving/health.proto", package="grpc.health.v1", syntax="proto3"
    )
    types = descriptor_pb2.FieldDescriptorProto
    file.message_type.add(name="HealthCheckRequest").field.add(
        name="service", number=1, type=types.TYPE_STRING, label=types.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("grpc.health.v1.HealthCheckRequest")
    )


_Request = _request_class()


def _response(status: Status) -> bytes:
    return bytes((0x08, status)) if status else b""  # field 1, varint; 0 is left out


class Health:
    """The health service; lives on the event loop.

    Args:
        services: names that can be asked for; the empty one stands for the whole server.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self._services = services
        self._status = Status.SERVING
        self._changed = asyncio.Condition()

    async def set(self, status: Status) -> None:
        """Changes what is answered, and tells every watcher."""
        async with self._changed:
            self._status = status
            self._changed.notify_all()

    def _of(self, body: bytes) -> Status:
        known = _Request.FromString(body).service in self._services  # type: ignore[attr-defined]
        return self._status if known else Status.SERVICE_UNKNOWN

    async def _check(self, body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        status = self._of(body)
        if status is Status.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return _response(status)

    async def _watch(self, body: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        while True:
            told = self._of(body)
            yield _response(told)
            if self._status is Status.NOT_SERVING:
                return  # the server is stopping; a watch must not hold it up
            async with self._changed:
                while self._of(body) is told:
                    await self._changed.wait()

    def handler(self) -> grpc.GenericRpcHandler:
        """The service, for ``add_generic_rpc_handlers``."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
            },
        )
