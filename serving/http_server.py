"""An HTTP server that cannot be held: headers must arrive in time, bodies must stay small."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler


class TimedHandler(RequestHandler):
    """A connection that must finish its headers in time: slow-loris callers are cut off.

    aiohttp bounds the pause between requests but not the time a request's headers may take.
    """

    __slots__ = ("_limit_s", "_timer")

    def __init__(self, *args: Any, header_timeout_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit_s = header_timeout_s
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        if self._timer is None and self._current_request is None:
            self._arm()  # the first bytes of another request on this connection
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.headers_complete()
        super().connection_lost(exc)

    def headers_complete(self) -> None:
        """Stops the clock: the request has reached its handler."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._cut)

    def _cut(self) -> None:
        self._timer = None
        if self.transport is not None:
            self.transport.abort()


class BoundedServer(web.Server):
    """Makes :class:`TimedHandler` connections and requests with a bounded body.

    Args:
        handler: coroutine that answers a request.
        header_timeout_s: seconds a request's headers may take.
        max_body_bytes: ``request.read()`` raises ``HTTPRequestEntityTooLarge`` beyond it.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        header_timeout_s: float,
        max_body_bytes: int,
    ) -> None:
        def make(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
            loop = asyncio.get_running_loop()
            return web.BaseRequest(
                message, payload, protocol, writer, task, loop, client_max_size=max_body_bytes
            )

        # lingering: how long a refused body is still drained, so that the refusal can be read
        super().__init__(
            handler,
            request_factory=make,
            access_log=None,
            lingering_time=1.0,
            keepalive_timeout=300.0,
        )
        self._header_timeout_s = header_timeout_s

    def __call__(self) -> RequestHandler:
        return TimedHandler(
            self, loop=self._loop, header_timeout_s=self._header_timeout_s, **self._kwargs
        )
