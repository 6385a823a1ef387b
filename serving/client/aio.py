"""The asyncio client over gRPC: the calls of `Client`, awaited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, overload

import grpc
import grpc.aio
from numpy.typing import ArrayLike, NDArray

from serving.client import messages
from serving.client.calls import Calls
from serving.client.channel import DEFAULT_MESSAGE_BYTES, Tls, check_address, options
from serving.client.core import Fallback
from serving.client.results import Metadata, ModelStatus, Recommendation
from serving.client.shell import Ids
from serving.client.steps import Call, Retry, Timed, drive_async
from serving.client.sync import to_error

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same arguments, results and errors; every call is a coroutine.

    One event loop only: the connection is made in the loop of the first call.

    Example:
        >>> async with AsyncClient("localhost:8500", "retrieval") as client:
        ...     lists = await asyncio.gather(*(client.recommend(user) for user in users))
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
        self._calls = Calls.on(
            model, version, version_label, rank_model, timeout, retries, fallback
        )
        self._target = check_address(address)
        self._tls = tls
        self._options = options(tls, max_message_bytes)
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Any] = {}

    def _method(self, path: str) -> Any:
        if self._channel is None:  # here, since it belongs to the running loop
            if self._tls is None:
                self._channel = grpc.aio.insecure_channel(self._target, self._options)
            else:
                credentials = self._tls.credentials()
                self._channel = grpc.aio.secure_channel(self._target, credentials, self._options)
            self._methods = {
                name: self._channel.unary_unary(
                    name,
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=read,
                )
                for name, read in messages.RESPONSES.items()
            }
        return self._methods[path]

    async def _execute(self, step: Timed) -> Any:
        path, message = messages.to_message(step.request)
        try:
            answer = await self._method(path)(message, timeout=step.timeout)
        except grpc.RpcError as error:
            raise to_error(error) from None
        return messages.from_message(step.request, answer)

    async def _run(self, call: Call[T]) -> T:
        return await drive_async(call, self._execute)

    @overload
    async def recommend(  # type: ignore[overload-overlap]
        self,
        user_id: str,
        k: int = ...,
        *,
        history: Ids | None = ...,
        exclude: Ids | None = ...,
        features: Mapping[str, Any] | None = ...,
        timeout: float | None = ...,
    ) -> list[Recommendation]: ...
    @overload
    async def recommend(
        self,
        user_id: Ids,
        k: int = ...,
        *,
        history: Sequence[Ids] | None = ...,
        exclude: Sequence[Ids] | None = ...,
        features: Mapping[str, Any] | None = ...,
        timeout: float | None = ...,
    ) -> list[list[Recommendation]]: ...
    async def recommend(
        self,
        user_id: str | Ids,
        k: int = 10,
        *,
        history: Any = None,
        exclude: Any = None,
        features: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """The best ``k`` items for a user or for several; see `Client.recommend`."""
        return await self._run(
            self._calls.recommend_one_or_many(user_id, k, history, exclude, features, timeout)
        )

    @overload
    async def similar(  # type: ignore[overload-overlap]
        self, item_id: str, k: int = ..., *, timeout: float | None = ...
    ) -> list[Recommendation]: ...
    @overload
    async def similar(
        self, item_id: Ids, k: int = ..., *, timeout: float | None = ...
    ) -> list[list[Recommendation]]: ...
    async def similar(
        self, item_id: str | Ids, k: int = 10, *, timeout: float | None = None
    ) -> Any:
        """The ``k`` items most like an item or like each of several; see `Client.similar`."""
        return await self._run(self._calls.similar_to_one_or_many(item_id, k, timeout))

    async def rank(
        self,
        user_id: str,
        items: Ids,
        *,
        features: Mapping[str, Any] | None = None,
        item_features: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> list[Recommendation]:
        """The given items in the ranking model's order; see `Client.rank`."""
        return await self._run(self._calls.rank(user_id, items, features, item_features, timeout))

    async def predict(
        self,
        inputs: Mapping[str, ArrayLike],
        signature: str = "serving_default",
        *,
        outputs: Iterable[str] = (),
        cast: bool = True,
        model: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Runs a signature on arrays; see `Client.predict`."""
        ref = self._calls.ref(model)
        call = self._calls.predict(ref, inputs, signature, outputs, cast, timeout)
        return dict((await self._run(call)).outputs)

    async def status(
        self, model: str | None = None, *, timeout: float | None = None
    ) -> ModelStatus:
        """States of the model's versions."""
        return await self._run(self._calls.status(self._calls.ref(model), timeout))

    async def wait_ready(self, timeout: float = 60.0, *, model: str | None = None) -> ModelStatus:
        """Waits until a version answers; see `Client.wait_ready`."""
        return await self._run(self._calls.wait_ready(self._calls.ref(model), timeout, 0.1))

    async def metadata(self, model: str | None = None, *, timeout: float | None = None) -> Metadata:
        """The model's signatures, asked for anew."""
        return await self._run(self._calls.metadata(self._calls.ref(model), timeout))

    async def close(self) -> None:
        """Closes the connection; calls under way fail."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
