"""The blocking client over gRPC."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import grpc

from serving.client import messages
from serving.client.channel import DEFAULT_MESSAGE_BYTES, Tls, check_address, options
from serving.client.core import Fallback
from serving.client.errors import ServingError, from_code
from serving.client.shell import Shell
from serving.client.steps import Retry, Timed


def to_error(error: Any) -> ServingError:
    """Our exception for gRPC's."""
    return from_code(error.code().name, (error.details() or "").strip() or "no message")


class Client(Shell):
    """A client of TensorFlow Serving, and of our embedded server, that needs no TensorFlow.

    It may be shared by threads. The connection is made at the first call and again when lost.

    Args:
        address: ``host:port``, ``unix:/path/to.sock`` or ``dns:///name:port`` (every address of
            the name is used in turn).
        model: the model to ask.
        version: a fixed version; the newest available by default.
        version_label: a label such as ``"stable"`` instead of a version.
        rank_model: the model `rank` asks, where it is another one.
        timeout: seconds for one call, with all its retries and the metadata asked for before it.
        retries: tries in all while the server is UNAVAILABLE (nothing else is tried again), or a
            `Retry` for the pauses too.
        fallback: item ids to answer, flagged, when the server is away; or a function of
            (user or item id, k). None raises the error instead.
        tls: certificates; plain text by default.
        max_message_bytes: largest message sent or read.

    Example:
        >>> with Client("localhost:8500", "retrieval", fallback=["i1", "i2"]) as client:
        ...     for item in client.recommend("u42", k=10, exclude=["i7"]):
        ...         print(item.item_id, item.score)
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        version_label: str | None = None,
        rank_model: str | None = None,
        timeout: float = 1.0,
        retries: int | Retry = 3,
        fallback: Fallback | None = None,
        tls: Tls | None = None,
        max_message_bytes: int = DEFAULT_MESSAGE_BYTES,
    ) -> None:
        super().__init__(model, version, version_label, rank_model, timeout, retries, fallback)
        chosen = options(tls, max_message_bytes)
        target = check_address(address)
        if tls is None:
            self._channel = grpc.insecure_channel(target, chosen)
        else:
            self._channel = grpc.secure_channel(target, tls.credentials(), chosen)
        self._methods = {
            path: self._channel.unary_unary(
                path,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=read,
            )
            for path, read in messages.RESPONSES.items()
        }

    def _execute(self, step: Timed) -> Any:
        path, message = messages.to_message(step.request)
        try:
            answer = self._methods[path](message, timeout=step.timeout)
        except grpc.RpcError as error:
            raise to_error(error) from None
        return messages.from_message(step.request, answer)

    def close(self) -> None:
        """Closes the connection; calls under way fail."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
