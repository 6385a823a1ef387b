"""REST beside gRPC: the paths of TF Serving's HTTP API on aiohttp, bounded in size and in time."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from serving import inference, predict, rest_json
from serving.bundle import DEFAULT_SIGNATURE
from serving.calls import SIGNATURE_DEF, Calls, remaining
from serving.errors import HTTP_STATUS, Code, ServingError, invalid, unknown_signature_rest
from serving.filling import Note
from serving.http_server import BoundedServer, TimedHandler
from serving.servable import Servable
from serving.workers import Workers

log = logging.getLogger("serving")
_WHERE = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
PREDICTION = re.compile(rf"(?i){_WHERE}:(?P<method>classify|regress|predict)")
STATUS = re.compile(rf"(?i){_WHERE}(?P<metadata>/metadata)?")
MAX_VERSION = 2**63 - 1


@dataclass(frozen=True)
class RestOptions:
    """Bounds of the HTTP side.

    Attributes:
        timeout_s: seconds for reading a request and for answering it.
        max_body_bytes: largest request body.
        metrics_path: path of the Prometheus page; empty where it is off.
    """

    timeout_s: float = 30.0
    max_body_bytes: int = 64 << 20
    metrics_path: str = ""


def model_spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    """The model, version and label of a path.

    Raises:
        ServingError: INVALID_ARGUMENT for a version that is no int64 or a name that is not UTF-8.
    """
    spec = model_pb2.ModelSpec()
    try:
        spec.name = match["name"]
        if match["version"]:
            if len(match["version"]) > 19 or int(match["version"]) > MAX_VERSION:
                raise invalid(f"Failed to convert version: {match['version']} to numeric.")
            spec.version.value = int(match["version"])
        elif match["label"]:
            spec.version_label = match["label"]
    except UnicodeEncodeError:
        raise invalid(f"Malformed request: {match.string!a} is not UTF-8") from None
    return spec


def answer(
    calls: Calls, match: re.Match[str], body: bytes, deadline: float, began: float
) -> tuple[bytes, Note]:
    """A POST to ``:predict``, ``:classify`` or ``:regress``, on a worker thread.

    Returns:
        JSON text, and headers about inputs that were filled in.

    Raises:
        ServingError: for the caller.
    """
    spec = model_spec(match)
    method = match["method"].lower()
    document = rest_json.parse(body)
    spec.signature_name = rest_json.signature_name(document)

    def predicted(servable: Servable) -> bytes:
        name = spec.signature_name or DEFAULT_SIGNATURE
        signature = servable.runner.signatures.get(name)
        if signature is None:
            raise unknown_signature_rest(name)
        inputs = rest_json.predict_inputs(document, signature, calls.filling.optional(signature))
        full = predict.completed(servable, signature, inputs, calls.filling)
        outputs = predict.run(servable, signature, full, (), remaining(deadline))
        return rest_json.dump(rest_json.predictions(outputs, "instances" in document))

    def classified(servable: Servable) -> bytes:
        request = classification_pb2.ClassificationRequest(
            model_spec=spec, input=rest_json.examples(document)
        )
        response = inference.classify(servable, request, remaining(deadline))
        rows = [row.classes for row in response.result.classifications]
        scores = iter(rest_json.numbers([one.score for row in rows for one in row]))
        return rest_json.dump({"results": [[[c.label, next(scores)] for c in row] for row in rows]})

    def regressed(servable: Servable) -> bytes:
        request = regression_pb2.RegressionRequest(
            model_spec=spec, input=rest_json.examples(document)
        )
        response = inference.regress(servable, request, remaining(deadline))
        values = [row.value for row in response.result.regressions]
        return rest_json.dump({"results": rest_json.numbers(values)})

    bodies = {"predict": predicted, "classify": classified, "regress": regressed}
    calls.filling.take_note()  # of an earlier request on this thread that failed
    text = calls.measured(method.capitalize(), "REST", spec, bodies[method], began)
    return text, calls.filling.take_note()


def status(calls: Calls, match: re.Match[str]) -> tuple[bytes, Note]:
    """A GET of a model's status or metadata."""
    spec = model_spec(match)
    if match["metadata"]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=[SIGNATURE_DEF]
        )
        response = calls.get_model_metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[SIGNATURE_DEF].Unpack(signatures)
        value: dict[str, Any] = {
            "model_spec": {
                "name": response.model_spec.name,
                "signature_name": "",
                "version": str(response.model_spec.version.value),
            },
            "metadata": {SIGNATURE_DEF: _as_dict(signatures)},
        }
    else:
        value = _as_dict(
            calls.get_model_status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        )
    return json.dumps(value, indent=1).encode("utf-8"), ()


def _as_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _reply(code: Code, body: bytes, note: Note = ()) -> web.Response:
    return web.Response(
        status=HTTP_STATUS[code],
        body=body,
        headers=dict(note),
        content_type="application/json",
        charset="utf-8",
    )


def _error(error: ServingError) -> web.Response:
    return _reply(error.code, rest_json.error_body(error))


def http_server(
    calls: Calls,
    workers: Workers,
    control: Workers,
    options: RestOptions,
    metrics_page: Callable[[], Awaitable[str]],
) -> BoundedServer:
    """The HTTP server, not yet listening; made on the event loop it will run on.

    Args:
        calls: answers.
        workers: threads for calls that run a graph.
        control: threads for status and metadata.
        options: bounds.
        metrics_page: makes the Prometheus page.
    """

    async def read(request: web.BaseRequest) -> bytes:
        too_large = _Refused(413, f"request body is larger than {options.max_body_bytes} bytes")
        if (request.content_length or 0) > options.max_body_bytes:
            raise too_large
        try:
            return await asyncio.wait_for(request.read(), options.timeout_s)
        except asyncio.TimeoutError:
            raise _Refused(408, f"no whole request within {options.timeout_s:g} s") from None
        except web.HTTPRequestEntityTooLarge:
            raise too_large from None

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        began = time.perf_counter()
        protocol = request.protocol
        if isinstance(protocol, TimedHandler):
            protocol.headers_complete()
        if options.metrics_path and request.path == options.metrics_path:
            return web.Response(text=await metrics_page(), content_type="text/plain")
        try:
            if request.method == "POST" and (match := PREDICTION.fullmatch(request.path)):
                body = await read(request)
                deadline = time.monotonic() + options.timeout_s
                job = workers.run(answer, calls, match, body, deadline, began)
            elif request.method == "GET" and (match := STATUS.fullmatch(request.path)):
                job = control.run(status, calls, match)
            else:
                raise invalid(f"Malformed request: {request.method} {request.path}")
            answered, note = await asyncio.wait_for(job, options.timeout_s)
            return _reply(Code.OK, answered, note)
        except ServingError as error:
            return _error(error)
        except asyncio.TimeoutError:
            text = f"Deadline exceeded: no answer within {options.timeout_s:g} s"
            return _error(ServingError(Code.DEADLINE_EXCEEDED, text))
        except _Refused as refused:
            response = web.json_response({"error": refused.text}, status=refused.status)
            response.force_close()
            return response
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as caught:
            log.exception("%s %s failed", request.method, request.path)
            return _error(ServingError(Code.INTERNAL, f"{type(caught).__name__}: {caught}"))

    return BoundedServer(
        handle, header_timeout_s=options.timeout_s, max_body_bytes=options.max_body_bytes
    )


class _Refused(Exception):
    """A request that is cut off: status and reason."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text
