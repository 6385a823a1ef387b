"""The store in front of the embedded server: filled requests, and a store that dies meanwhile."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.filling import Filling, Spec
from serving.options import Options
from serving.proxy import Proxy
from serving.server import Server
from serving.tensors import encode
from tests.store.servers import RedisServer, until
from tfrec.config.store import StoreConfig
from tfrec.store import (
    HISTORIES,
    HISTORY_SCHEMA,
    USER_VECTORS,
    USERS,
    open_store,
)
from tfrec.store.breaker import Breaker
from tfrec.store.front import StoreFiller

FILLER = "tfrec.store.front:open_filler"
METRICS = "/monitoring/prometheus/metrics"


def write_echo(folder: Path) -> None:
    """Answers its inputs as text, so that a test sees what reached the graph."""
    specs = {
        "user_id": tf.TensorSpec([None], tf.string, "user_id"),
        "history": tf.TensorSpec([None, None], tf.string, "history"),
        "exclude": tf.TensorSpec([None, None], tf.string, "exclude"),
        "age": tf.TensorSpec([None], tf.string, "age"),
        "income": tf.TensorSpec([None], tf.float32, "income"),
        "device": tf.TensorSpec([None], tf.string, "device"),
        "embedding": tf.TensorSpec([None, 2], tf.float32, "embedding"),
        "k": tf.TensorSpec(None, tf.int32, "k"),
    }

    def echo(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        def line(value: tf.Tensor) -> tf.Tensor:
            text = value if value.dtype == tf.string else tf.strings.as_string(value, precision=1)
            return (
                tf.strings.reduce_join(text, axis=-1, separator=",")
                if text.shape.rank == 2
                else text
            )

        k = tf.fill(tf.shape(inputs["user_id"]), tf.reduce_max(inputs.pop("k")))
        lines = [line(v) for _, v in sorted(inputs.items())]
        return {"seen": tf.strings.join([*lines, tf.strings.as_string(k)], separator="|")}

    model = tf.Module()
    model.echo = tf.function(echo, autograph=False).get_concrete_function(**specs)
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.echo})


# age | device | embedding | exclude | history | income | user | k
KNOWN = "a2||0.5,1.5|i1,i2|i1,i2|nan|u1|10"
DEFAULT = "||nan,nan|||nan|u1|10"


def fill(config: StoreConfig) -> None:
    store = open_store(config)
    columns = {USERS: {"age": "string", "income": "float"}, HISTORIES: HISTORY_SCHEMA}
    with store.begin("v1", {**columns, USER_VECTORS: {"embedding": "vector:2"}}) as load:
        load.put_many(USERS, ["u1", "u2"], {"age": ["a2", "a3"], "income": [None, 7.0]})
        load.put_many(HISTORIES, ["u1"], {"item": [["i1"]], "time": [[1]]})
        load.put_many(USER_VECTORS, ["u1"], {"embedding": np.array([[0.5, 1.5]], np.float32)})
        load.commit()
    store.append_history(["u1"], ["i2"], [2])
    store.close()


@dataclasses.dataclass
class Caller:
    """Both transports to one server."""

    server: Server
    address: str = ""

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(self.address or self.server.grpc_address)
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def grpc(self, **inputs: Any) -> tuple[list[str], dict[str, str]]:
        """What the graph saw, a line a row, and the trailing metadata."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "echo"
        for name, value in inputs.items():
            array = np.asarray(value)
            if array.dtype.kind in "US":
                array = np.vectorize(str.encode, otypes=[object])(array)
            encode(array, request.inputs[name])
        response, call = self.stub.Predict.with_call(request, timeout=30)
        told = dict(call.trailing_metadata())
        return [line.decode() for line in response.outputs["seen"].string_val], told

    def rest(self, body: dict[str, Any]) -> requests.Response:
        url = f"{self.server.rest_address}/v1/models/echo:predict"
        return requests.post(url, json=body, timeout=30)

    def page(self) -> str:
        return requests.get(f"{self.server.rest_address}{METRICS}", timeout=30).text


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "echo"
    write_echo(folder / "1")
    (folder.parent / "monitoring").write_text("prometheus_config { enable: true }")
    return folder


@pytest.fixture
def serve(echo: Path) -> Iterator[Callable[..., Caller]]:
    servers: list[Caller] = []

    def start(config: StoreConfig, **options: Any) -> Caller:
        given = {"store": config.model_dump(), **options}
        server = Server(
            Options(
                model_name="echo",
                model_base_path=str(echo),
                rest_api_port=0,
                monitoring_config_file=str(echo.parent / "monitoring"),
                input_filler=FILLER,
                input_filler_options=given,
            )
        ).start()
        servers.append(Caller(server))
        server.wait_until_available("echo")
        return servers[-1]

    yield start
    for caller in servers:
        caller.channel.close()
        caller.server.stop(drain=0)


def test_a_user_id_is_enough(config: StoreConfig, serve: Callable[..., Caller]) -> None:
    fill(config)
    ask = serve(config)
    seen, told = ask.grpc(user_id=["u1"])
    assert (seen, told["x-store"]) == ([KNOWN], "filled")
    seen, told = ask.grpc(user_id=["u2", "u1", "", "u1"], device=["tv", "", "", ""])
    assert seen == [
        "a3|tv|nan,nan|,|,|7.0|u2|10",
        KNOWN,
        "||nan,nan|,|,|nan||10",
        KNOWN,
    ]
    assert told["x-store"] == "unknown"
    # what a request has is never touched, and one that has everything asks no store
    seen, told = ask.grpc(user_id=["u1"], history=[["x"]], age=["old"], k=np.int32(3))
    assert seen == ["old||0.5,1.5|i1,i2|x|nan|u1|3"]
    everything = {"user_id": ["u1"], "history": [["h"]], "exclude": [["e"]], "age": ["a"]}
    everything |= {"income": np.float32([1]), "device": ["d"], "k": np.int32(5)}
    seen, told = ask.grpc(**everything, embedding=np.float32([[1, 2]]))
    assert seen == ["a|d|1.0,2.0|e|h|1.0|u1|5"]
    assert "x-store" not in told


def test_rest_too_and_the_usual_errors(config: StoreConfig, serve: Callable[..., Caller]) -> None:
    fill(config)
    ask = serve(config, k=7, exclude_history=False)
    line = "a2||0.5,1.5||i1,i2|nan|u1|7"
    columns = ask.rest({"inputs": {"user_id": ["u1"]}})
    assert (columns.json(), columns.headers["x-store"]) == ({"outputs": [line]}, "filled")
    rows = ask.rest({"instances": [{"user_id": "u1"}, {"user_id": "nobody"}]})
    assert rows.json() == {"predictions": [line, "||nan,nan||,|nan|nobody|7"]}
    assert rows.headers["x-store"] == "unknown"
    for body, text in [
        (
            {"instances": [{"user_id": "u1"}, {"user_id": "u1", "age": "x"}]},
            "keys must be equal to",
        ),
        ({"inputs": {"age": ["x"]}}, "input size does not match signature"),
        ({"inputs": {}}, "input size does not match signature"),
    ]:
        refused = ask.rest(body)
        assert refused.status_code == 400
        assert text in refused.json()["error"]
        assert "x-store" not in refused.headers
    with pytest.raises(grpc.RpcError, match="input size does not match signature"):
        ask.grpc(age=["x"])
    with pytest.raises(grpc.RpcError, match=r"ent extra: \{colour\}"):
        ask.grpc(user_id=["u1"], colour=["red"])
    page = ask.page()
    assert ':tfrec:store:request_count{outcome="filled"} 1' in page
    assert ':tfrec:store:request_count{outcome="unknown"} 1' in page
    assert ':tfrec:store:latency_count{outcome="filled"} 1' in page


def test_a_store_that_dies_costs_features_and_no_answer(
    tmp_path: Path, serve: Callable[..., Caller]
) -> None:
    redis = RedisServer(tmp_path)
    try:
        config = StoreConfig(kind="redis", url=redis.url, timeout_ms=200)
        fill(config)
        ask = serve(config)
        assert ask.grpc(user_id=["u1"])[0] == [KNOWN]
        failures: list[str] = []
        stop = threading.Event()

        def keep_asking() -> None:
            while not stop.is_set():
                try:
                    seen, _ = ask.grpc(user_id=["u1"])
                    assert seen[0] in (KNOWN, DEFAULT)
                except Exception as error:
                    failures.append(repr(error))

        callers = [threading.Thread(target=keep_asking) for _ in range(3)]
        for caller in callers:
            caller.start()
        redis.kill()
        until(lambda: ask.grpc(user_id=["u1"])[1]["x-store"] == "defaults")

        def not_asked() -> list[str] | None:
            seen, told = ask.grpc(user_id=["u1"])
            return seen if told.get("x-store-reason", "").startswith("not asked") else None

        assert until(not_asked) == [DEFAULT]
        over_rest = ask.rest({"inputs": {"user_id": ["u1"]}})
        assert over_rest.headers["x-store"] == "defaults"
        assert "does not answer" in over_rest.headers["x-store-reason"]
        redis.start()
        fill(config)
        until(lambda: ask.grpc(user_id=["u1"]) == ([KNOWN], ask.grpc(user_id=["u1"])[1]))
        assert ask.grpc(user_id=["u1"])[1]["x-store"] == "filled"
        stop.set()
        for caller in callers:
            caller.join()
        assert failures == []
        assert ':tfrec:store:request_count{outcome="defaults"}' in ask.page()
    finally:
        redis.kill()


def test_a_frozen_store_is_asked_a_few_times_and_then_left_alone(tmp_path: Path) -> None:
    """It takes connections and never answers; only the first calls wait for it."""
    redis = RedisServer(tmp_path)
    try:
        config = StoreConfig(kind="redis", url=redis.url, timeout_ms=100)
        fill(config)
        store = open_store(config)
        calls = []
        whole = store.get_groups

        def counted(wanted: Any) -> Any:
            calls.append(1)
            return whole(wanted)

        store.get_groups = counted  # type: ignore[method-assign]
        filler = StoreFiller(store, breaker=Breaker(store.ping, failures=3, every_s=0.05))
        missing = {"age": Spec(np.dtype(object), (None,))}
        given = {"user_id": np.array([b"u1"], object)}
        assert filler.fill(given, missing, 1)[1] == "filled"
        redis.freeze()
        outcomes = [filler.fill(given, missing, 1)[1:] for _ in range(50)]
        assert {outcome for outcome, _ in outcomes} == {"defaults"}
        assert len(calls) == 1 + 3
        assert "not asked, as it does not answer" in outcomes[-1][1]
        redis.thaw()
        until(lambda: filler.fill(given, missing, 1)[1] == "filled")
        filler.close()
    finally:
        redis.thaw()
        redis.kill()


def test_the_proxy_completes_requests_for_another_server(tmp_path: Path, echo: Path) -> None:
    """The upstream has no filler, as the official server."""
    config = StoreConfig(path=str(tmp_path / "s.lmdb"), map_size_gib=0.1)
    fill(config)
    with Server(Options(model_name="echo", model_base_path=str(echo))) as upstream:
        upstream.wait_until_available("echo")
        filler = StoreFiller(open_store(config))
        proxy = Proxy(upstream.grpc_address, Filling(filler)).start()
        ask = Caller(upstream, f"127.0.0.1:{proxy.port}")
        seen, told = ask.grpc(user_id=["u1"])
        assert (seen, told["x-store"]) == ([KNOWN], "filled")
        seen, told = ask.grpc(user_id=["nobody"], k=np.int32(2), age=["a"])
        assert (seen, told["x-store"]) == (["a||nan,nan|||nan|nobody|2"], "unknown")
        with pytest.raises(grpc.RpcError, match=r"ent extra: \{colour\}"):
            ask.grpc(user_id=["u1"], colour=["red"])
        direct = Caller(upstream)
        with pytest.raises(grpc.RpcError, match="input size does not match"):
            direct.grpc(user_id=["u1"])
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "echo"
        answer = model_service_pb2_grpc.ModelServiceStub(ask.channel).GetModelStatus(status)
        assert answer.model_version_status[0].version == 1
        with pytest.raises(grpc.RpcError) as caught:
            ask.channel.unary_unary("/other.Service/Method")(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        for caller in (ask, direct):
            caller.channel.close()
        proxy.stop(drain=0)
