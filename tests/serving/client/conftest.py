"""A tiny recommender behind gRPC and REST, written on the official messages, and clients for it.

Its rules are plain, so that a test can say the right list: item ``i<n>`` scores ``10 - n``, plus
100 for the items of the history; what is excluded is left out and the list filled up with ``""``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from serving.client import AsyncClient, Client, RestClient

ITEMS = [f"i{n}" for n in range(10)]
STRING, FLOAT, INT32, INT64 = tf.string, tf.float32, tf.int32, tf.int64

RECOMMEND = {
    "user_id": (STRING, [None]),
    "history": (STRING, [None, None]),
    "exclude": (STRING, [None, None]),
    "k": (INT32, []),
    "age": (FLOAT, [None]),
    "taste": (FLOAT, [None, 2]),
}
SIGNATURES: dict[str, dict[str, Any]] = {
    "recommend": RECOMMEND,
    "similar": {"item_id": (STRING, [None]), "k": (INT64, [])},
    "rank": {
        "user_id": (STRING, [None]),
        "item_id": (STRING, [None]),
        "age": (FLOAT, [None]),
        "price": (FLOAT, [None]),
    },
    "serving_default": {"x": (FLOAT, [None])},
}
OUTPUTS = {
    "recommend": {"item_id": (STRING, [None, None]), "score": (FLOAT, [None, None])},
    "similar": {"item_id": (STRING, [None, None]), "score": (FLOAT, [None, None])},
    "rank": {"score": (FLOAT, [None])},
    "serving_default": {"y": (FLOAT, [None])},
}


class Refusal(Exception):
    """A status the fake server answers with."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Fake:
    """The recommender's state, what it was asked, and the failures it was told to have."""

    def __init__(self) -> None:
        self.version = 1
        self.signatures = {name: dict(one) for name, one in SIGNATURES.items()}
        self.defaults: dict[str, np.ndarray] = {}
        self.asked: list[tuple[str, dict[str, np.ndarray]]] = []
        self.specs: list[Any] = []
        self.metadata_asked = 0
        self.failures: list[tuple[str, str]] = []  # code and text, one a call, then none
        self.delay = self.metadata_delay = 0.0
        self.deadlines: list[float] = []
        self.mangle: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = lambda out: out

    def fail(self) -> None:
        time.sleep(self.delay)
        if self.failures:
            raise Refusal(*self.failures.pop(0))

    def signature_map(self) -> get_model_metadata_pb2.SignatureDefMap:
        found = get_model_metadata_pb2.SignatureDefMap()
        for name, inputs in self.signatures.items():
            one = found.signature_def[name]
            one.method_name = "tensorflow/serving/predict"
            for side, specs in ((one.inputs, inputs), (one.outputs, OUTPUTS[name])):
                for key, (dtype, shape) in specs.items():
                    side[key].CopyFrom(info(key, dtype, shape))
        for key, value in self.defaults.items():
            found.signature_def["recommend"].defaults[key].CopyFrom(tf.make_tensor_proto(value))
        return found

    def run(self, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.asked.append((name, inputs))
        self.fail()
        specs = self.signatures.get(name)
        if specs is None:
            raise Refusal("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        if set(inputs) != set(specs):
            raise Refusal("INVALID_ARGUMENT", "input size does not match signature")
        for key, (dtype, shape) in specs.items():
            if inputs[key].dtype != (object if dtype is STRING else dtype.as_numpy_dtype):
                raise Refusal("INVALID_ARGUMENT", f"{key}: dtype {inputs[key].dtype}")
            if inputs[key].ndim != len(shape):
                raise Refusal("INVALID_ARGUMENT", f"{key}: shape {inputs[key].shape}")
        if name == "serving_default":
            return self.mangle({"y": inputs["x"] / 2 + 2})
        if name == "rank":
            number = np.array([int(one[1:]) for one in inputs["item_id"]], np.float32)
            return self.mangle({"score": inputs["age"] - number - inputs["price"]})
        rows = inputs["user_id" if name == "recommend" else "item_id"]
        k = int(np.asarray(inputs["k"]).ravel()[0])
        lists = [self.list_for(name, inputs, row, k) for row in range(len(rows))]
        return self.mangle(
            {
                "item_id": np.array([[item for item, _ in one] for one in lists], object),
                "score": np.array([[score for _, score in one] for one in lists], np.float32),
            }
        )

    @staticmethod
    def list_for(name: str, inputs: dict, row: int, k: int) -> list[tuple[bytes, float]]:
        history = set(inputs["history"][row]) if "history" in inputs else set()
        barred = set(inputs["exclude"][row]) if "exclude" in inputs else set()
        barred |= {inputs["item_id"][row]} if name == "similar" else set()
        scores = [
            (item.encode(), 10.0 - n + 100 * (item.encode() in history))
            for n, item in enumerate(ITEMS)
            if item.encode() not in barred
        ]
        scores.sort(key=lambda pair: -pair[1])
        return (scores + [(b"", -np.inf)] * k)[:k]


def info(name: str, dtype: tf.DType, shape: Sequence[int | None]) -> meta_graph_pb2.TensorInfo:
    made = meta_graph_pb2.TensorInfo(name=f"{name}:0", dtype=dtype.as_datatype_enum)
    made.tensor_shape.SetInParent()
    for size in shape:
        made.tensor_shape.dim.add(size=-1 if size is None else size)
    return made


# -- gRPC ----------------------------------------------------------------------------------------


def typed_proto(array: np.ndarray) -> Any:
    """In the typed field, as the real server answers."""
    proto = tf.make_tensor_proto(array)
    if proto.tensor_content:
        field = {np.dtype(np.float32): "float_val", np.dtype(np.int64): "int64_val"}[array.dtype]
        getattr(proto, field).extend(array.ravel().tolist())
        proto.tensor_content = b""
    return proto


def grpc_handlers(fake: Fake) -> list[grpc.GenericRpcHandler]:
    def guarded(answer: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            fake.specs.append(request.model_spec)
            fake.deadlines.append(context.time_remaining())
            try:
                if request.model_spec.name not in ("m", "ranker"):
                    raise Refusal("NOT_FOUND", "Servable not found for request: Latest(x)")
                return answer(request)
            except Refusal as refusal:
                context.abort(getattr(grpc.StatusCode, refusal.code), refusal.message)

        return call

    def predict(request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        name = request.model_spec.signature_name or "serving_default"
        outputs = fake.run(name, inputs)
        response = predict_pb2.PredictResponse()
        response.model_spec.version.value = fake.version
        for key, array in outputs.items():
            if not request.output_filter or key in request.output_filter:
                response.outputs[key].CopyFrom(typed_proto(array))
        return response

    def metadata(request: Any) -> Any:
        fake.metadata_asked += 1
        time.sleep(fake.metadata_delay)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.version.value = fake.version
        response.metadata["signature_def"].Pack(fake.signature_map())
        return response

    def status(request: Any) -> Any:
        fake.fail()
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state in ((1, 50), (fake.version, 30)):
            one = response.model_version_status.add(version=version, state=state)
            if state == 50:
                one.status.error_code, one.status.error_message = 5, "gone"
        return response

    def unary(answer: Any, request: Any) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(
            guarded(answer), request.FromString, lambda message: message.SerializeToString()
        )

    return [
        grpc.method_handlers_generic_handler(
            "tensorflow.serving.PredictionService",
            {
                "Predict": unary(predict, predict_pb2.PredictRequest),
                "GetModelMetadata": unary(metadata, get_model_metadata_pb2.GetModelMetadataRequest),
            },
        ),
        grpc.method_handlers_generic_handler(
            "tensorflow.serving.ModelService",
            {"GetModelStatus": unary(status, get_model_status_pb2.GetModelStatusRequest)},
        ),
    ]


class GrpcServer:
    """Starts the fake on a port of the kernel's choice, or on the address given."""

    def __init__(self, fake: Fake, address: str = "127.0.0.1:0", credentials: Any = None) -> None:
        self.server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers(grpc_handlers(fake))
        if credentials is None:
            port = self.server.add_insecure_port(address)
        else:
            port = self.server.add_secure_port(address, credentials)
        self.address = address if address.startswith("unix:") else f"127.0.0.1:{port}"
        self.server.start()

    def stop(self) -> None:
        self.server.stop(None).wait()


# -- REST ----------------------------------------------------------------------------------------

HTTP = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503}
HTTP |= {"INTERNAL": 500, "DEADLINE_EXCEEDED": 504, "RESOURCE_EXHAUSTED": 429}


def rest_handler(fake: Fake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def refuse(self, refusal: Refusal) -> None:
            self.answer(HTTP[refusal.code], {"error": refusal.message})

        def do_GET(self) -> None:
            fake.specs.append(self.path)
            if not self.path.startswith(("/v1/models/m", "/v1/models/ranker")):
                return self.refuse(Refusal("NOT_FOUND", "Could not find any versions of model"))
            if self.path.endswith("/metadata"):
                fake.metadata_asked += 1
                found = json_format.MessageToDict(
                    fake.signature_map(), preserving_proto_field_name=True
                )
                spec = {"name": "m", "signature_name": "", "version": str(fake.version)}
                body = {"model_spec": spec, "metadata": {"signature_def": found}}
                return self.answer(200, body)
            try:
                fake.fail()
            except Refusal as refusal:
                return self.refuse(refusal)
            gone = {"error_code": "NOT_FOUND", "error_message": "gone"}
            fine = {"error_code": "OK", "error_message": ""}
            states = [("1", "END", gone), (str(fake.version), "AVAILABLE", fine)]
            keys = ("version", "state", "status")
            body = {"model_version_status": [dict(zip(keys, one, strict=True)) for one in states]}
            return self.answer(200, body)

        def do_POST(self) -> None:
            fake.specs.append(self.path)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                if not self.path.startswith(("/v1/models/m", "/v1/models/ranker")):
                    raise Refusal("NOT_FOUND", "Servable not found for request: Latest(x)")
                name = body["signature_name"]
                specs = fake.signatures.get(name, {})
                inputs = {k: array(v, specs.get(k)) for k, v in body["inputs"].items()}
                outputs = {k: plain(v) for k, v in fake.run(name, inputs).items()}
            except Refusal as refusal:
                return self.refuse(refusal)
            bare = len(OUTPUTS[name]) == 1
            return self.answer(200, {"outputs": next(iter(outputs.values())) if bare else outputs})

    return Handler


def array(value: Any, spec: Any) -> np.ndarray:
    found = np.array(value, object)
    flat = [
        base64.b64decode(one["b64"])
        if isinstance(one, dict)
        else (one.encode() if isinstance(one, str) else one)
        for one in found.flat
    ]
    made = np.array([*flat, None], object)[:-1].reshape(found.shape)
    if spec is None or spec[0] is STRING:
        return made
    return made.astype(spec[0].as_numpy_dtype)


def plain(value: np.ndarray) -> Any:
    if value.dtype != object:
        return value.tolist()
    flat = np.empty(value.size, object)
    flat[:] = [one.decode() for one in value.flat]
    return flat.reshape(value.shape).tolist()


class RestServer:
    def __init__(self, fake: Fake) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), rest_handler(fake))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


# -- fixtures ------------------------------------------------------------------------------------


class Awaited:
    """An `AsyncClient` with blocking calls, so that one test serves all clients."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.client = AsyncClient(*args, **kwargs)
        self.loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)
        return lambda *args, **kwargs: self.loop.run_until_complete(method(*args, **kwargs))

    def close(self) -> None:
        self.loop.run_until_complete(self.client.close())
        self.loop.close()


@pytest.fixture
def awaited() -> type[Awaited]:
    """The asyncio client with blocking calls."""
    return Awaited


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def grpc_server(fake: Fake) -> Iterator[GrpcServer]:
    server = GrpcServer(fake)
    yield server
    server.stop()


@pytest.fixture
def start_server(fake: Fake) -> Iterator[Callable[..., GrpcServer]]:
    """A function that starts a gRPC server: ``start_server(address=..., credentials=...)``."""
    started: list[GrpcServer] = []

    def start(*args: Any, **kwargs: Any) -> GrpcServer:
        started.append(GrpcServer(fake, *args, **kwargs))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def rest_server(fake: Fake) -> Iterator[RestServer]:
    server = RestServer(fake)
    yield server
    server.stop()


@pytest.fixture(params=["grpc", "asyncio", "rest"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """A function that makes a client of each kind for the fake: ``connect(timeout=..., ...)``."""
    made: list[Any] = []
    if request.param == "rest":
        address = request.getfixturevalue("rest_server").url
    else:
        address = request.getfixturevalue("grpc_server").address
    kinds = {"grpc": Client, "asyncio": Awaited, "rest": RestClient}

    def build(model: str = "m", **kwargs: Any) -> Any:
        kwargs = {"timeout": 10.0, **kwargs}
        made.append(kinds[request.param](kwargs.pop("address", address), model, **kwargs))
        return made[-1]

    build.kind = request.param  # type: ignore[attr-defined]
    yield build
    for client in made:
        client.close()
