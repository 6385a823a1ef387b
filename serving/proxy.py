"""``--upstream host:port``: completes requests for a server that cannot do it itself.

The official ``tensorflow_model_server`` knows no feature store. This stands before it on gRPC:
Predict is completed as :mod:`serving.filling` tells and handed on, every other unary call of its
services is handed on as it came. REST stays the upstream's own, unfilled. Signatures are the
upstream's metadata, asked for again every few seconds and after an answer that says a request did
not fit.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, predict_pb2

from serving import loop
from serving.bundle import DEFAULT_SIGNATURE
from serving.errors import ServingError
from serving.filling import Filling, Note, open_filler
from serving.grpc_service import MODEL_SERVICE, PREDICTION_SERVICE, STATUS
from serving.tensors import decode, encode
from serving.workers import Workers

log = logging.getLogger("serving")
PREDICT = f"/{PREDICTION_SERVICE}/Predict"
METADATA = f"/{PREDICTION_SERVICE}/GetModelMetadata"
FORWARDED = (f"/{PREDICTION_SERVICE}/", f"/{MODEL_SERVICE}/", "/grpc.health.v1.Health/Check")
FRESH_S = 5.0
MAX_MESSAGE = 256 << 20


class Proxy(grpc.GenericRpcHandler):
    """A gRPC server before another one.

    Args:
        upstream: ``host:port`` of the server with the models.
        filling: completes Predict requests.
        host, port: where to listen; port 0 is chosen by the kernel and can be read after `start`.
        threads: requests completed at the same time.
    """

    def __init__(
        self,
        upstream: str,
        filling: Filling,
        host: str = "127.0.0.1",
        port: int = 0,
        threads: int = 16,
    ) -> None:
        self._upstream = upstream
        self._filling = filling
        self._address = f"{host}:{port}"
        self._workers = Workers(threads, "serving-proxy")
        self._known: dict[bytes, tuple[float, Any]] = {}
        self._server: grpc.aio.Server | None = None
        self._channel: grpc.aio.Channel | None = None
        self.port = 0

    def start(self) -> Proxy:
        """Opens the port.

        Raises:
            OSError: it cannot be had.
        """
        loop.run(self._open())
        return self

    async def _open(self) -> None:
        size = [
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_send_message_length", MAX_MESSAGE),
        ]
        self._channel = grpc.aio.insecure_channel(self._upstream, options=size)
        self._server = grpc.aio.server(handlers=[self], options=size)
        try:
            self.port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {self._address}: {error}") from None
        await self._server.start()

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        """The handler of a method; none for what is not forwarded."""
        method = handler_call_details.method
        if method == PREDICT:
            return grpc.unary_unary_rpc_method_handler(self._predict)
        if not method.startswith(FORWARDED):
            return None

        async def forward(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return await self._forward(method, body, context)

        return grpc.unary_unary_rpc_method_handler(forward)

    async def _forward(self, method: str, body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        assert self._channel is not None
        try:
            return await self._channel.unary_unary(method)(body, timeout=context.time_remaining())
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                self._known.clear()  # a new version may have other inputs
            await context.abort(error.code(), error.details() or "")
        raise AssertionError("abort raises")

    async def _predict(self, body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            request = predict_pb2.PredictRequest.FromString(body)
            definition = await self._definition(request.model_spec, context.time_remaining())
        except DecodeError:
            return await self._forward(PREDICT, body, context)  # for the upstream's own error
        if definition is not None:
            try:
                body, note = await self._workers.run(self._filled, request, definition)
            except ServingError as error:
                await context.abort(STATUS[error.code], error.details)
            if note:
                context.set_trailing_metadata(note)
        return await self._forward(PREDICT, body, context)

    def _filled(self, request: Any, definition: Any) -> tuple[bytes, Note]:
        """The request with missing inputs, on a worker thread."""
        sent = request.inputs
        given: dict[str, Any] = {
            alias: decode(sent[alias], alias) if alias in self._filling.keys else None
            for alias in sent
        }
        defaults = {alias: decode(value, alias) for alias, value in definition.defaults.items()}
        for alias, value in self._filling.complete(definition, defaults, given).items():
            if alias not in given:
                encode(value, sent[alias])
        return request.SerializeToString(), self._filling.take_note()

    async def _definition(self, spec: Any, timeout: float | None) -> Any:
        """``SignatureDef`` of what is called; None where the upstream does not tell."""
        key = spec.SerializeToString()
        fetched, definition = self._known.get(key, (0.0, None))
        if definition is not None and time.monotonic() - fetched < FRESH_S:
            return definition
        assert self._channel is not None
        asked = model_pb2.ModelSpec()
        asked.CopyFrom(spec)
        asked.signature_name = ""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=asked, metadata_field=["signature_def"]
        )
        try:
            answer = await self._channel.unary_unary(METADATA)(
                request.SerializeToString(), timeout=timeout
            )
        except grpc.aio.AioRpcError:
            return definition
        response = get_model_metadata_pb2.GetModelMetadataResponse.FromString(answer)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        name = spec.signature_name or DEFAULT_SIGNATURE
        found = signatures.signature_def
        definition = found.get(name)
        if len(self._known) > 256:  # callers choose the keys
            self._known.clear()
        self._known[key] = (time.monotonic(), definition)
        return definition

    def stop(self, drain: float = 10.0) -> None:
        """Refuses new calls and lets those in progress end."""
        loop.run(self._close(drain))
        self._workers.stop()
        self._filling.close()

    async def _close(self, drain: float) -> None:
        if self._server is not None:
            await self._server.stop(drain)
        if self._channel is not None:
            await self._channel.close()


ALLOWED = frozenset({"upstream", "host", "port", "input_filler", "input_filler_options"})


def run_proxy(given: Mapping[str, Any]) -> int:
    """Runs a proxy until SIGTERM or SIGINT; exit status as of ``serve_main``."""
    extra = sorted(set(given) - ALLOWED - {"drain_seconds"})
    if extra or "input_filler" not in given:
        what = f"got also {extra}" if extra else "got no input_filler"
        print(
            f"serving: upstream goes with an input filler, host and port; {what}", file=sys.stderr
        )
        return 2
    quit_ = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: quit_.set())
    try:
        filler = open_filler(given["input_filler"], given.get("input_filler_options", {}))
    except (ValueError, TypeError) as error:
        print(f"serving: {error}", file=sys.stderr)
        return 2
    proxy = Proxy(given["upstream"], Filling(filler), given["host"], given["port"])
    try:
        proxy.start()
    except OSError as error:
        print(f"serving: Failed to start server: {error}", file=sys.stderr)
        proxy.stop(drain=0)
        return 1
    log.info("completing requests at %s:%d for %s", given["host"], proxy.port, given["upstream"])
    quit_.wait()
    proxy.stop(given.get("drain_seconds", 10.0))
    log.info("stopped")
    return 0
