"""The blocking client over REST, with nothing but the standard library's ``http.client``."""

from __future__ import annotations

import http.client
import queue
import socket
import ssl
import time
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from serving.client import json_form
from serving.client.channel import DEFAULT_MESSAGE_BYTES, Tls
from serving.client.core import Fallback
from serving.client.errors import (
    BadInputError,
    DeadlineExceededError,
    OverloadedError,
    UnavailableError,
    from_http,
)
from serving.client.shell import Shell
from serving.client.steps import Retry, Timed

_IDLE_CONNECTIONS = 16


class RestClient(Shell):
    """`Client` over HTTP: the same calls, for where gRPC does not pass.

    Slower than gRPC, since JSON spells every number out. Answers do not say which version gave
    them: ``Recommendation.version`` is None. It may be shared by threads, which reuse connections.

    Args:
        url: such as ``http://localhost:8501``, or ``https://host/prefix``.
        Others: as in `Client`.
    """

    def __init__(
        self,
        url: str,
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
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInputError(f"A REST address is http://host:port or https://...; got {url!r}.")
        if tls is not None and parts.scheme != "https":
            raise BadInputError(f"`tls` needs an https:// address; got {url!r}.")
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._context = _context(tls) if parts.scheme == "https" else None
        self._max_bytes = max_message_bytes
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue(_IDLE_CONNECTIONS)

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port)
        return http.client.HTTPSConnection(self._host, self._port, context=self._context)

    def _execute(self, step: Timed) -> Any:
        method, path, body = json_form.to_http(step.request)
        end = time.monotonic() + step.timeout
        try:
            status, answer = self._exchange(method, self._prefix + path, body, end)
        except TimeoutError:
            raise DeadlineExceededError(f"No answer within {step.timeout:.3g} s.") from None
        except (OSError, http.client.HTTPException) as error:
            where = f"{self._host}:{self._port or ''}"
            raise UnavailableError(f"{where}: {type(error).__name__}: {error}.") from None
        if status != 200:
            raise from_http(status, json_form.error_text(answer))
        return json_form.from_http(step.request, answer)

    def _exchange(
        self, method: str, path: str, body: bytes | None, end: float
    ) -> tuple[int, bytes]:
        """One request and its answer, on an idle connection or a new one."""
        while True:
            try:
                connection, reused = self._idle.get_nowait(), True
            except queue.Empty:
                connection, reused = self._connect(), False
            try:
                status, answer, keep = self._ask(connection, method, path, body, end)
            except (ConnectionError, http.client.BadStatusLine):
                connection.close()
                if not reused:  # else the server had closed it while it lay idle: a new one
                    raise
                continue
            except BaseException:
                connection.close()
                raise
            try:
                if not keep:
                    raise queue.Full
                self._idle.put_nowait(connection)
            except queue.Full:
                connection.close()
            return status, answer

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        end: float,
    ) -> tuple[int, bytes, bool]:
        connection.timeout = _left(end)
        if connection.sock is None:
            connection.connect()
            assert connection.sock is not None
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = connection.sock
        sock.settimeout(_left(end))
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        sock.settimeout(_left(end))
        response = connection.getresponse()
        chunks: list[bytes] = []
        size = 0
        while chunk := response.read1(1 << 20):
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_bytes:
                raise OverloadedError(f"The answer is larger than {self._max_bytes} bytes.")
            sock.settimeout(_left(end))  # a trickle of bytes does not stretch the deadline
        if response.length:  # the server went away in the middle
            raise http.client.IncompleteRead(b"", response.length)
        keep = not response.will_close
        response.close()  # else the connection thinks there is more to read
        return response.status, b"".join(chunks), keep

    def close(self) -> None:
        """Closes the idle connections."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    def __enter__(self) -> RestClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _context(tls: Tls | None) -> ssl.SSLContext:
    tls = tls or Tls()
    if tls.server_name is not None:
        raise BadInputError("RestClient checks the certificate against the URL's host name.")
    context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context
