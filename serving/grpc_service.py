"""PredictionService and ModelService on ``grpc.aio``.

Requests stay bytes until they reach a worker thread, so parsing, decoding, the graph and encoding
all happen off the event loop and cost it nothing. SessionService is not registered: gRPC answers
UNIMPLEMENTED by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.calls import Calls
from serving.errors import Code, ServingError, unparsable
from serving.filling import Filling, Note
from serving.workers import Workers

log = logging.getLogger("serving")
PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
STATUS: dict[Code, grpc.StatusCode] = {Code(code.value[0]): code for code in grpc.StatusCode}
Method = Callable[[Any, "float | None"], Any]


def _answer(
    message: Any, method: Method, filling: Filling, body: bytes, deadline: float | None
) -> tuple[bytes, Note]:
    """One call, on a worker thread: the answer, and metadata about inputs that were filled in."""
    filling.take_note()  # of an earlier request on this thread that failed
    try:
        request = message.FromString(body)
    except DecodeError:
        raise unparsable(message.DESCRIPTOR.full_name) from None
    answer = method(request, deadline).SerializeToString()
    return answer, filling.take_note()


def _handler(
    workers: Workers, message: Any, method: Method, filling: Filling
) -> grpc.RpcMethodHandler:
    async def handle(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        left = context.time_remaining()
        deadline = None if left is None else time.monotonic() + left
        try:
            answer, note = await workers.run(_answer, message, method, filling, body, deadline)
            if note:
                context.set_trailing_metadata(note)
            return answer
        except ServingError as error:
            await context.abort(STATUS[error.code], error.details)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("%s failed", message.DESCRIPTOR.full_name)
            await context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        raise AssertionError("abort raises")

    return grpc.unary_unary_rpc_method_handler(handle)


def handlers(calls: Calls, workers: Workers, control: Workers) -> list[grpc.GenericRpcHandler]:
    """Both services.

    Args:
        calls: answers.
        workers: threads for calls that run a graph.
        control: threads for status and reload, which must answer while all workers are busy.
    """

    def service(
        name: str, pool: Workers, methods: Mapping[str, tuple[Any, Method]]
    ) -> grpc.GenericRpcHandler:
        table = {key: _handler(pool, *pair, calls.filling) for key, pair in methods.items()}
        return grpc.method_handlers_generic_handler(name, table)

    return [
        service(
            PREDICTION_SERVICE,
            workers,
            {
                "Predict": (predict_pb2.PredictRequest, calls.predict),
                "Classify": (classification_pb2.ClassificationRequest, calls.classify),
                "Regress": (regression_pb2.RegressionRequest, calls.regress),
                "MultiInference": (inference_pb2.MultiInferenceRequest, calls.multi_inference),
                "GetModelMetadata": (
                    get_model_metadata_pb2.GetModelMetadataRequest,
                    calls.get_model_metadata,
                ),
            },
        ),
        service(
            MODEL_SERVICE,
            control,
            {
                "GetModelStatus": (
                    get_model_status_pb2.GetModelStatusRequest,
                    calls.get_model_status,
                ),
                "HandleReloadConfigRequest": (
                    model_management_pb2.ReloadConfigRequest,
                    calls.handle_reload_config_request,
                ),
            },
        ),
    ]
