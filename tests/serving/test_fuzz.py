"""Requests nobody would write: every answer is the documented code, and no one else notices."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2, regression_pb2

from serving.tensors import encode
from tests.serving.conftest import Client, array, tensor
from tests.serving.saved_models import DTYPES

Code: TypeAlias = grpc.StatusCode
INPUTS: dict[str, dict[str, set[str]]] = {  # model -> signature -> inputs
    "half_plus_two": {
        "serving_default": {"x"},
        **{s: {"inputs"} for s in ("all", "classify", "regress")},
    },
    "types": {
        "serving_default": {"a", "b"},
        "raw": {"x"},
        "matmul": {"x", "w"},
        **{f"identity_{name}": {"x"} for name in DTYPES},
    },
}
VERSIONS = {"half_plus_two": 123, "types": 1}

names = st.text(max_size=20)
sizes = st.one_of(st.integers(0, 4), st.integers(-(2**63), 2**63 - 1), st.just(1 << 20))
floats = st.lists(st.floats(width=32), max_size=5)
tensors = st.builds(
    tensor_pb2.TensorProto,
    dtype=st.one_of(st.integers(0, 30), st.just(1), st.integers(-(2**31), 2**31 - 1)),
    tensor_shape=st.one_of(
        st.none(),
        st.builds(
            lambda dims, unknown: {"dim": [{"size": d} for d in dims], "unknown_rank": unknown},
            st.one_of(st.lists(st.integers(0, 4), max_size=4), st.lists(sizes, max_size=70)),
            st.booleans(),
        ),
    ),
    tensor_content=st.one_of(st.just(b""), st.binary(max_size=64)),
    float_val=floats,
    int_val=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    int64_val=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    string_val=st.lists(st.binary(max_size=10), max_size=3),
    half_val=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    bool_val=st.lists(st.booleans(), max_size=3),
    scomplex_val=floats,
)


def fitting(signature: str, alias: str) -> tensor_pb2.TensorProto:
    """A value the input takes; serialized Examples are left to be wrong."""
    dtype = signature.removeprefix("identity_") if signature.startswith("identity_") else "float32"
    if alias == "inputs" or dtype == "string" or signature == "raw":
        return tensor(["a", "b"])
    if alias == "b":
        dtype = "int64"
    return encode(np.ones([1, 1], DTYPES[dtype].as_numpy_dtype))


@st.composite
def predict_requests(draw: Any) -> predict_pb2.PredictRequest:
    """A right request with up to three things about it changed."""
    request = predict_pb2.PredictRequest()
    spec = request.model_spec
    spec.name = draw(st.sampled_from([*INPUTS]))
    signature = draw(st.sampled_from(["serving_default", *INPUTS[spec.name]]))
    spec.signature_name = (
        draw(st.sampled_from(["", signature])) if "_de" in signature else signature
    )
    for alias in INPUTS[spec.name][signature]:
        request.inputs[alias].CopyFrom(fitting(signature, alias))
    for change in draw(st.lists(st.integers(0, 8), max_size=3)):
        if change == 0:
            spec.name = draw(st.one_of(st.sampled_from([*INPUTS, "", "nope"]), names))
        elif change == 1:
            spec.version.value = draw(st.one_of(st.sampled_from([1, 123]), sizes))
        elif change == 2:
            spec.version_label = draw(names)
        elif change == 3:
            spec.signature_name = draw(st.one_of(st.sampled_from([signature, "x"]), names))
        elif change == 4:
            request.inputs[draw(names)].CopyFrom(draw(tensors))
        elif change == 5:
            request.inputs.pop(next(iter(request.inputs), ""), None)
        elif change == 6:
            aliases = draw(st.lists(st.sampled_from(["y", "sum", "z"]), max_size=3))
            request.output_filter.extend(aliases)
        else:
            for alias in request.inputs:
                request.inputs[alias].CopyFrom(draw(tensors))
    if not draw(st.integers(0, 19)):
        request.ClearField("model_spec")
    return request


def documented(request: predict_pb2.PredictRequest) -> set[Code]:
    """The codes the protocol page allows, read off the request alone."""
    spec = request.model_spec
    if not request.HasField("model_spec") or not spec.name:
        return {Code.INVALID_ARGUMENT}
    if spec.WhichOneof("version_choice") == "version_label":
        return {Code.INVALID_ARGUMENT}
    version = spec.WhichOneof("version_choice") == "version"
    if spec.name not in VERSIONS:
        # the session's server has more models than the two that are looked into here
        others = spec.name in ("half_plus_three", "two_versions", "busy")
        return {*Code} if others else {Code.NOT_FOUND}
    if version and spec.version.value != VERSIONS[spec.name]:
        return {Code.NOT_FOUND}
    signatures = INPUTS[spec.name]
    signature = spec.signature_name or "serving_default"
    if signature not in signatures:
        known = signature in ("classify_scores", "classify_classes")
        return {Code.INVALID_ARGUMENT, Code.OK} if known else {Code.FAILED_PRECONDITION}
    if set(request.inputs) != signatures[signature]:
        return {Code.INVALID_ARGUMENT}
    return {Code.OK, Code.INVALID_ARGUMENT}


def answer(call: Any, message: Any) -> tuple[Code, str]:
    try:
        call(message, timeout=30)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return Code.OK, ""


@contextmanager
def bystander(client: Client) -> Iterator[None]:
    """Another caller, whose every answer must be right while the body runs."""
    stop, answers, wrong = threading.Event(), [0], []
    x = array.float32([[1.0], [2.0]])

    def call() -> None:
        while not stop.wait(0.005):
            try:
                got = client.predict("half_plus_three", timeout=20, x=x)["y"].tolist()
                if got != [[3.5], [4.0]]:
                    wrong.append(got)
            except grpc.RpcError as error:
                wrong.append(error)
            answers[0] += 1

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert wrong == []
    assert answers[0] > 0


def check_predict(client: Client, request: predict_pb2.PredictRequest, seen: set[Code]) -> None:
    code, details = answer(client.prediction.Predict, request)
    seen.add(code)
    assert code in documented(request), (code, details)
    assert len(details) <= 1024 + len("...TRUNCATED")


def check_bytes(client: Client, body: bytes, seen: set[Code]) -> None:
    """Arbitrary bytes as a request: unparsable ones are INTERNAL, the rest as documented."""
    code, details = answer(
        client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict"), body
    )
    seen.add(code)
    try:
        request = predict_pb2.PredictRequest.FromString(body)
    except DecodeError:
        assert code is Code.INTERNAL
    else:
        assert code in documented(request), (code, details)


@st.composite
def broken_bytes(draw: Any) -> bytes:
    """A serialized request with some bytes changed, cut or added (bad UTF-8 among them)."""
    body = bytearray(draw(predict_requests()).SerializeToString())
    for _ in range(draw(st.integers(0, 3))):
        if body:
            body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(0, len(body)))]) + draw(st.binary(max_size=4))


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=5),
        st.just({"b64": "AA=="}),
        st.just({"b64": "?"}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xabw"), inner, max_size=2)
    ),
    max_leaves=6,
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "instances": json_values,
        "inputs": json_values,
        "examples": json_values,
        "context": json_values,
        "signature_name": st.one_of(
            st.sampled_from(["serving_default", "regress", "classify", "raw"]), json_values
        ),
    },
)
bodies = st.one_of(
    documents.map(lambda value: json.dumps(value).encode()),
    documents.map(lambda value: json.dumps(value)[:-1].encode()),
    st.binary(max_size=40),
)
paths = st.one_of(
    st.builds(
        "/v1/models/{}{}:{}".format,
        st.sampled_from(["half_plus_two", "types", "nope"]),
        st.sampled_from(["", "/versions/1", "/versions/123", "/versions/" + "9" * 25, "/labels/x"]),
        st.sampled_from(["predict", "regress", "classify"]),
    ),
    st.text(alphabet="abv1/:%.é ", max_size=20).map("/v1/models/".__add__),
)


def check_rest(client: Client, path: str, body: bytes) -> None:
    response = client.post(path, body)
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        assert set(response.json()) == {"error"}
    if "/nope" in path and b"\xff" not in body and path.endswith("nope:predict"):
        assert response.status_code in (400, 404)


def check_regress(client: Client, request: regression_pb2.RegressionRequest) -> None:
    code, details = answer(client.prediction.Regress, request)
    assert code in (Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND), details


@st.composite
def regress_requests(draw: Any) -> regression_pb2.RegressionRequest:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = draw(st.sampled_from(["half_plus_two", "half_plus_two", "nope"]))
    request.model_spec.signature_name = draw(st.sampled_from(["regress", "regress", "", "all"]))
    listing = (
        request.input.example_list_with_context
        if draw(st.booleans())
        else request.input.example_list
    )
    for _ in range(draw(st.integers(0, 3))):
        feature = listing.examples.add().features.feature[draw(st.sampled_from(["x", "y"]))]
        draw(st.sampled_from([feature.float_list, feature.int64_list])).value.extend(
            draw(st.lists(st.integers(-5, 5), max_size=2))
        )
    return request


def explore(client: Client, examples: int) -> None:
    """So many requests of every kind, in four shares."""
    share = settings(
        max_examples=examples // 4,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    seen: set[Code] = set()
    with bystander(client):
        share(given(predict_requests())(lambda r: check_predict(client, r, seen)))()
        share(given(broken_bytes())(lambda b: check_bytes(client, b, seen)))()
        share(given(paths, bodies)(lambda p, b: check_rest(client, p, b)))()
        share(given(regress_requests())(lambda r: check_regress(client, r)))()
    reached = {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION}
    assert seen == reached | {Code.INTERNAL}  # the examples do reach every answer


def test_a_few_hundred_requests(embedded: Client) -> None:
    explore(embedded, 400)


@pytest.mark.slow
def test_ten_thousand_requests(embedded: Client) -> None:
    explore(embedded, 10_000)


def test_a_huge_request(embedded: Client) -> None:
    """12 MB each way, beyond gRPC's default bound of 4 MB."""
    with (
        bystander(embedded),
        grpc.insecure_channel(
            embedded.grpc_address,
            [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        ) as channel,
    ):
        large = Client(embedded.grpc_address, None, channel, ours=True)
        x = np.arange(3_000_000, dtype=np.float32).reshape(-1, 1)
        np.testing.assert_array_equal(large.predict("half_plus_two", x=x)["y"], x / 2 + 2)
        large.session.close()
