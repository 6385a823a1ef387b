"""The REST API by plain HTTP: paths, both formats, errors, callers that hold the server."""

from __future__ import annotations

import base64
import json
import math
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from serving.options import Options
from serving.rest_json import shortest
from serving.server import Server
from tests.serving.conftest import Client, array, connect

HALF = "/v1/models/half_plus_two"


def answer(client: Client, path: str, body: Any) -> Any:
    response = client.post(path, body)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("application/json")
    return response.json()


def refused(client: Client, path: str, body: Any, status: int, text: str) -> None:
    response = client.post(path, body)
    assert response.status_code == status, response.text
    assert text in response.json()["error"]


def test_rows_and_columns(client: Client) -> None:
    rows = answer(client, f"{HALF}:predict", {"instances": [[1.0], [2.0], [5]]})
    assert rows == {"predictions": [[2.5], [3.0], [4.5]]}
    named = answer(client, f"{HALF}:predict", {"instances": [{"x": [1.0]}, {"x": [2]}]})
    assert named == {"predictions": [[2.5], [3.0]]}
    for columns in ({"inputs": [[1.0], [2.0]]}, {"inputs": {"x": [[1.0], [2.0]]}}):
        assert answer(client, f"{HALF}:predict", columns) == {"outputs": [[2.5], [3.0]]}


def test_several_inputs_and_outputs(client: Client) -> None:
    body: Any = {"instances": [{"a": 0.5, "b": 2}, {"a": 1, "b": 3}]}
    assert answer(client, "/v1/models/types:predict", body) == {
        "predictions": [{"first": 0.5, "sum": 2.5}, {"first": 1.0, "sum": 4.0}]
    }
    body = {"inputs": {"a": 0.5, "b": 2}}
    assert answer(client, "/v1/models/types:predict", body) == {
        "outputs": {"first": 0.5, "sum": 2.5}
    }


def test_versions_and_labels_in_the_path(client: Client) -> None:
    base, body = "/v1/models/two_versions", {"instances": [[0.0]]}
    assert answer(client, f"{base}:predict", body) == {"predictions": [[3.0]]}
    assert answer(client, f"{base}/versions/1:predict", body) == {"predictions": [[2.0]]}
    assert answer(client, f"{base}/labels/stable:predict", body) == {"predictions": [[2.0]]}
    refused(client, f"{base}/labels/x:predict", body, 400, "Unrecognized servable version label")
    refused(client, f"{base}/versions/9:predict", body, 404, "Specific(two_versions, 9)")
    refused(client, f"{base}/versions/{10**30}:predict", body, 400, "Failed to convert version")


def test_bytes(client: Client) -> None:
    raw = b"\x00\xff"
    given = [{"b64": base64.b64encode(raw).decode()}, "é"]
    body = {"signature_name": "raw", "instances": given}
    assert answer(client, "/v1/models/types:predict", body) == {
        "predictions": [
            {"length": 2, "x_bytes": {"b64": base64.b64encode(raw).decode()}},
            {"length": 2, "x_bytes": {"b64": base64.b64encode("é".encode()).decode()}},
        ]
    }
    body = {"signature_name": "identity_string", "inputs": ["a", "é\x00"]}
    assert answer(client, "/v1/models/types:predict", body) == {"outputs": ["a", "é\x00"]}


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", [0.2, -1.5, 1e30]),
        ("float64", [0.1, 1e300]),
        ("int64", [2**63 - 1, -(2**63)]),
        ("uint64", [2**64 - 1]),
        ("int8", [-128, 127]),
        ("bool", [True, False]),
        ("float16", [0.5]),
    ],
)
def test_numbers_pass_through(client: Client, dtype: str, value: list[Any]) -> None:
    body = {"signature_name": f"identity_{dtype}", "inputs": value}
    assert answer(client, "/v1/models/types:predict", body) == {"outputs": value}


def test_nan_and_infinity_are_tokens(client: Client) -> None:
    body = b'{"signature_name": "identity_float32", "inputs": [NaN, Infinity, -Infinity]}'
    response = client.post("/v1/models/types:predict", body)
    assert "NaN" in response.text
    nan, up, down = response.json()["outputs"]
    assert (math.isnan(nan), up, down) == (True, math.inf, -math.inf)


def test_floats_print_as_the_shortest_decimal() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 20000, dtype=np.uint64).astype(np.uint32)
    values = np.concatenate([bits.view(np.float32), array.float32([0.2, 0, -0.0, 1e-45, 3.4e38])])
    doubles = shortest(values)
    with np.errstate(over="ignore"):
        back = np.array([float(repr(x)) for x in doubles.tolist()]).astype(np.float32)
    np.testing.assert_array_equal(back, values)  # nothing is lost
    ordinary = rng.normal(size=5000).astype(np.float32)
    want = [float(str(x)) for x in ordinary]  # numpy's own shortest text
    assert np.mean(np.array(want) == shortest(ordinary)) > 0.99


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse error"),
        (b"{", "JSON Parse error"),
        (b"\xff\xfe{", "JSON Parse error"),
        (b"[" * 100000, "JSON Parse error"),
        (b"[]", "Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [[1.0]], "inputs": [[1.0]]}, "expecting only one of"),
        ({"instances": 1}, "to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": [[1.0], [1.0, 2.0]]}, "do not form a tensor"),
        ({"instances": [["a"]]}, "not of expected type: float"),
        ({"instances": [[None]]}, "not of expected type: float"),
        ({"instances": [[True]]}, "not of expected type: float"),
        ({"instances": [[1e39]]}, "without loss of precision"),
        ({"instances": [{"x": [1.0]}, [1.0]]}, "Expecting object but got list"),
        ({"instances": [[1.0], {"x": [1.0]}]}, "Expecting value/list but got object"),
        ({"instances": [{"z": [1.0]}]}, "keys must be equal to: x"),
        ({"inputs": {"z": [1.0]}}, "Missing named input: x"),
        (
            {"signature_name": "x", "instances": [[1.0]]},
            'Serving signature name: "x" not found in signature def',
        ),
        ({"signature_name": 7, "instances": [[1.0]]}, "must be a string value"),
        (b'{"signature_name": "\\ud800", "instances": [[1.0]]}', "surrogate"),
    ],
)
def test_bad_bodies(client: Client, body: Any, text: str) -> None:
    if not client.ours:
        text = ""  # the real server words several of these differently
    refused(client, f"{HALF}:predict", body, 400, text)


def test_bad_strings(client: Client) -> None:
    path = "/v1/models/types:predict"
    name = {"signature_name": "identity_string"}
    refused(client, path, name | {"inputs": [1]}, 400, "not of expected type: string")
    refused(client, path, name | {"inputs": [{"b64": "!"}]}, 400, "base64 decode")
    refused(client, path, name | {"inputs": ["a", ["b"]]}, 400, "")
    refused(client, path, {"instances": [1, 2]}, 400, "expecting list of objects")


def test_classify_and_regress(client: Client) -> None:
    body: Any = {"signature_name": "regress", "examples": [{"x": 2.0}, {"x": [4.0]}]}
    assert answer(client, f"{HALF}:regress", body) == {"results": [3.0, 4.0]}
    body = {"signature_name": "regress", "context": {"x": 10.0}, "examples": [{}, {"x": 0.4}]}
    assert answer(client, f"{HALF}:regress", body) == {"results": [7.0, 2.2]}
    body = {"signature_name": "classify", "examples": [{"x": 2.0}]}
    assert answer(client, f"{HALF}:classify", body) == {"results": [[["up", 3.0], ["down", -3.0]]]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"examples": 1},
        {"examples": []},
        {"examples": [1]},
        {"examples": [{"x": None}]},
        {"examples": [{"x": [1.0, "a"]}]},
        {"examples": [{"x": [[1.0]]}]},
        {"examples": [{"x": 2**64}]},
        {"examples": [{"x": 1.0}], "context": 3},
    ],
)
def test_bad_examples(client: Client, body: Any) -> None:
    refused(client, f"{HALF}:regress", {"signature_name": "regress"} | body, 400, "")


def test_status_and_metadata(client: Client) -> None:
    assert client.get(HALF).json() == {
        "model_version_status": [
            {
                "version": "123",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    found = client.get(f"{HALF}/metadata").json()
    assert found["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "123"}
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"
    missing = client.get("/v1/models/nope")
    assert missing.status_code == 404
    assert missing.json() == {"error": "Could not find any versions of model nope"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{HALF}:predict"),
        ("POST", HALF),
        ("GET", "/v1/models"),
        ("POST", f"{HALF}:nope"),
        ("PUT", f"{HALF}:predict"),
    ],
)
def test_malformed_requests(client: Client, method: str, path: str) -> None:
    response = client.session.request(method, f"{client.rest_address}{path}", timeout=30)
    assert response.status_code == 400
    assert "error" in response.json()


def test_unknown_model(client: Client) -> None:
    text = "Servable not found for request: Latest(nope)"
    refused(client, "/v1/models/nope:predict", {"instances": [1]}, 404, text)


# -- callers that would hold the server ----------------------------------------------------------


@pytest.fixture(scope="module")
def bounded(client: Client, suite_models: Path) -> Any:
    """A server that waits 0.5 s and takes 10 kB."""
    if not client.ours:
        pytest.skip("needs a server with bounds of its own; --target was given")
    options = Options(
        rest_api_port=0,
        model_base_path=str(suite_models.parent / "half_plus_two"),
        rest_api_timeout_in_ms=500,
        rest_api_max_body_bytes=10_000,
    )
    with Server(options) as server:
        server.wait_until_available()
        client = connect(server)
        yield client
        client.close()


def raw(client: Client) -> socket.socket:
    parts = urlsplit(client.rest_address or "")
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def closed_within(connection: socket.socket, seconds: float) -> bytes:
    """What arrives until the server hangs up, which it must do in time."""
    connection.settimeout(seconds)
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionError:
        pass
    return received


def drip(connection: socket.socket, text: bytes, pause: float, seconds: float) -> None:
    """Sends a byte at a time until the peer hangs up or the time is over."""
    end = time.monotonic() + seconds
    for byte in text:
        if time.monotonic() > end:
            return
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            return
        time.sleep(pause)


def test_headers_that_drip_are_cut_off(bounded: Client) -> None:
    with raw(bounded) as connection:
        drip(connection, b"POST /v1/models/default:predict HTTP/1.1\r\nHost: x\r\n" * 9, 0.05, 3)
        assert closed_within(connection, 5) == b""


def test_a_silent_connection_is_cut_off(bounded: Client) -> None:
    with raw(bounded) as connection:
        assert closed_within(connection, 5) == b""


def test_a_body_that_drips_is_cut_off(bounded: Client) -> None:
    with raw(bounded) as connection:
        connection.sendall(
            b"POST /v1/models/default:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"
        )
        drip(connection, b" " * 60, 0.05, 3)
        assert closed_within(connection, 5).startswith(b"HTTP/1.1 408 ")


def test_a_declared_body_too_large(bounded: Client) -> None:
    with raw(bounded) as connection:
        connection.sendall(
            b"POST /v1/models/default:predict HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: 1000000000\r\n\r\n"
        )
        received = closed_within(connection, 5)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert json.loads(received.split(b"\r\n\r\n", 1)[1])["error"].startswith("request body")


def test_an_undeclared_body_too_large(bounded: Client) -> None:
    with raw(bounded) as connection:
        connection.sendall(
            b"POST /v1/models/default:predict HTTP/1.1\r\nHost: x\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        try:
            for _ in range(50):
                connection.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        except OSError:
            pass
        assert closed_within(connection, 5).startswith(b"HTTP/1.1 413 ")


def test_others_are_not_held_up_meanwhile(bounded: Client) -> None:
    held = [raw(bounded) for _ in range(50)]
    try:
        for connection in held:
            connection.sendall(b"POST /v1/models/default:predict HTTP/1.1\r\n")
        body = {"instances": [[1.0]]}
        assert answer(bounded, "/v1/models/default:predict", body) == {"predictions": [[2.5]]}
        # a connection that was answered may wait for its next request and be used again
        assert answer(bounded, "/v1/models/default:predict", body) == {"predictions": [[2.5]]}
    finally:
        for connection in held:
            connection.close()
