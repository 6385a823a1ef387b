"""The server as a whole: reloads, warm-up, metrics, health, TLS, sockets, batching, draining."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    model_management_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from serving.batching import BatchingOptions
from serving.manager import Manager
from serving.options import Options
from serving.servable import State
from serving.server import Server
from tests.serving import saved_models
from tests.serving.conftest import Client, array, connect, tensor


def until(condition: Callable[[], Any], seconds: float = 15) -> Any:
    """Polls until a condition holds; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "in vain"
        time.sleep(0.01)
    return value


def entry(name: str, base: Path, more: str = "") -> str:
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more} }}'


def listing(*entries: str) -> str:
    return "model_config_list {\n" + "\n".join(entries) + "\n}\n"


def reload(client: Client, text: str, timeout: float = 30) -> Any:
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(text, request.config)
    return client.models.HandleReloadConfigRequest(request, timeout=timeout)


def state(server: Server, model: str, version: int) -> State | None:
    known = {(v.name, v.number): v.state for v in server.manager.all_versions()}
    return known.get((model, version))


# -- config -------------------------------------------------------------------------------------


@pytest.fixture
def fast(half_plus: Path) -> Any:
    """A server of the half_plus model that looks at the disk often, and a client."""
    options = Options(
        model_name="m", model_base_path=str(half_plus), file_system_poll_wait_seconds=0.05
    )
    with Server(options) as server:
        server.wait_until_available("m")
        client = connect(server)
        yield server, client
        client.close()


def test_reload_by_rpc(fast: tuple[Server, Client], half_plus: Path) -> None:
    server, client = fast
    saved_models.write_half_plus(half_plus.parent / "other" / "5", 3)
    response = reload(
        client, listing(entry("m", half_plus), entry("n", half_plus.parent / "other"))
    )
    assert response.status.error_code == 0
    assert client.predict("n", x=array.float32([[0.0]]))["y"].item() == 3.0  # it was waited for
    reload(client, listing(entry("n", half_plus.parent / "other")))
    until(lambda: state(server, "m", 1) is State.END)
    with pytest.raises(grpc.RpcError, match=r"Servable not found for request: Latest\(m\)"):
        client.predict("m", x=array.float32([[0.0]]))


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (
            "model_config_list { config { name: 'm' base_path: '/a' model_platform: 'tensorflow' } "
            "config { name: 'm' base_path: '/b' model_platform: 'tensorflow' } }",
            grpc.StatusCode.INVALID_ARGUMENT,
            "Illegal to list model m multiple times",
        ),
        (
            listing(entry("m", Path("a"))),
            grpc.StatusCode.INVALID_ARGUMENT,
            "Expected model m to have an absolute path",
        ),
        (
            "model_config_list { config { name: 'm' base_path: '/a' model_platform: 'other' } }",
            grpc.StatusCode.INVALID_ARGUMENT,
            "other",
        ),
        ("", grpc.StatusCode.INVALID_ARGUMENT, "Only ModelConfigList is currently supported"),
        (
            "model_config_list { config { name: 'm' base_path: '/nowhere' "
            "model_platform: 'tensorflow' version_labels { key: 'x' value: 7 } } }",
            grpc.StatusCode.FAILED_PRECONDITION,
            "Request to assign label to version 7 of model m",
        ),
    ],
)
def test_a_bad_reload_leaves_the_old_config(
    fast: tuple[Server, Client], text: str, code: grpc.StatusCode, message: str
) -> None:
    _, client = fast
    with pytest.raises(grpc.RpcError) as caught:
        reload(client, text)
    assert caught.value.code() is code
    assert message in caught.value.details()
    assert client.predict("m", x=array.float32([[0.0]]))["y"].item() == 2.0


def test_a_reload_reports_what_cannot_be_loaded(
    fast: tuple[Server, Client], half_plus: Path
) -> None:
    _, client = fast
    broken = half_plus.parent / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "saved_model.pb").write_bytes(b"not a graph")
    with pytest.raises(grpc.RpcError) as caught:
        reload(client, listing(entry("m", half_plus), entry("b", broken.parent)))
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert "1 servable(s) did not become available" in caught.value.details()
    assert client.predict("m", x=array.float32([[0.0]]))["y"].item() == 2.0


def test_a_corrupt_new_version(fast: tuple[Server, Client], half_plus: Path) -> None:
    """The old one keeps answering, the status says why; mended, it is taken."""
    server, client = fast
    staged = half_plus.parent / "staged"
    saved_models.write_half_plus(staged, 3)
    data = next(staged.glob("variables/*.data*"))
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    staged.rename(half_plus / "2")
    until(lambda: state(server, "m", 2) is State.END)
    status = client.status("m")
    assert status[2].status.error_code != 0
    assert status[2].status.error_message
    assert status[1].state == State.AVAILABLE
    assert client.predict("m", x=array.float32([[0.0]]))["y"].item() == 2.0
    (half_plus / "2" / "variables" / data.name).write_bytes(whole)
    server.wait_until_available("m", version=2)
    assert client.predict("m", x=array.float32([[0.0]]))["y"].item() == 3.0


def test_the_config_file_is_polled(half_plus: Path, tmp_path: Path) -> None:
    saved_models.write_half_plus(half_plus / "2", 3)
    file = tmp_path / "models.config"
    file.write_text(listing(entry("m", half_plus)))
    options = Options(
        model_config_file=str(file),
        model_config_file_poll_wait_seconds=0.05,
        file_system_poll_wait_seconds=0.05,
    )
    with Server(options) as server:
        server.wait_until_available("m", version=2)
        file.write_text("model_config_list { nonsense")
        time.sleep(0.3)
        assert state(server, "m", 2) is State.AVAILABLE
        both = "model_version_policy { specific { versions: [1, 2] } }"
        file.write_text(listing(entry("m", half_plus, both)))
        server.wait_until_available("m", version=1)
        file.write_text(
            listing(entry("m", half_plus, both + " version_labels { key: 'old' value: 1 }"))
        )
        until(lambda: server.manager._models["m"].labels)
        assert server.manager.resolve_label("m", "old") == 1


# -- warm-up ------------------------------------------------------------------------------------


def write_warmup(folder: Path, *logs: prediction_log_pb2.PredictionLog) -> None:
    (folder / "assets.extra").mkdir(exist_ok=True)
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(file)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def predict_log(alias: str = "x") -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.name = "m"
    log.predict_log.request.inputs[alias].CopyFrom(tensor([[1.0]], np.float32))
    return log


def inference_logs() -> list[prediction_log_pb2.PredictionLog]:
    logs = [prediction_log_pb2.PredictionLog() for _ in range(3)]
    for log, kind in zip(logs, ("classify", "regress"), strict=False):
        request = getattr(log, f"{kind}_log").request
        request.model_spec.name, request.model_spec.signature_name = "m", kind
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(1)
    multi = logs[2].multi_inference_log.request
    task = multi.tasks.add(method_name=saved_models.REGRESS)
    task.model_spec.name, task.model_spec.signature_name = "m", "regress"
    multi.input.example_list.examples.add().features.feature["x"].float_list.value.append(1)
    return logs


def serve(base: Path, **more: Any) -> Server:
    settings = {"model_name": "m", "file_system_poll_wait_seconds": 0.05, **more}
    return Server(Options(model_base_path=str(base), **settings))


def test_warm_up_runs_before_available(half_plus: Path) -> None:
    write_warmup(half_plus / "1", predict_log(), *inference_logs())
    with serve(half_plus) as server:
        server.wait_until_available("m")


def test_a_record_that_fails_fails_the_load(half_plus: Path) -> None:
    write_warmup(half_plus / "1", predict_log(), predict_log("z"))
    with serve(half_plus) as server:
        until(lambda: state(server, "m", 1) is State.END)
        (record,) = server.manager.status("m")
        assert record.error is not None
        assert "warm-up record 2 of" in record.error.message
        assert "Signature input alias" in record.error.message
    with serve(half_plus, enable_model_warmup=False) as server:
        server.wait_until_available("m")


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"this is no tfrecord file", "warm-up file"), (None, "exceeds the maximum")],
)
def test_broken_warm_up_files(half_plus: Path, content: bytes | None, text: str) -> None:
    write_warmup(half_plus / "1", *[predict_log()] * (1001 if content is None else 1))
    if content is not None:
        file = half_plus / "1" / "assets.extra" / "tf_serving_warmup_requests"
        file.write_bytes(content)
    with serve(half_plus) as server:
        until(lambda: state(server, "m", 1) is State.END)
        (record,) = server.manager.status("m")
        assert record.error is not None
        assert text in record.error.message


# -- metrics, health, TLS, sockets ----------------------------------------------------------------


def test_metrics(half_plus: Path, tmp_path: Path) -> None:
    file = tmp_path / "monitoring.txt"
    file.write_text("prometheus_config { enable: true }")
    with serve(half_plus, rest_api_port=0, monitoring_config_file=str(file)) as server:
        server.wait_until_available("m")
        client = connect(server)
        for _ in range(3):
            client.predict("m", x=array.float32([[0.0]]))
        client.post("/v1/models/m:predict", {"instances": [[0.0]]})
        client.post("/v1/models/m:predict", {"instances": [["x"]]})
        client.post("/v1/models/unknown:predict", {"instances": [[0.0]]})
        page = client.get("/monitoring/prometheus/metrics").text
        client.close()
    from prometheus_client.parser import text_string_to_metric_families

    samples = {
        (s.name, *sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(page)
        for s in family.samples
    }

    def value(name: str, **labels: str) -> float:
        return samples[(name, *sorted(labels.items()))]

    ours = {"model_name": "m", "version": "1", "signature": "serving_default"}
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"' in page
    count = ":tensorflow:serving:request_count_total"  # this parser adds the suffix, we do not
    assert value(count, status="OK", **ours) == 4
    assert value(count, status="INVALID_ARGUMENT", **ours) == 1
    assert value(count, status="NOT_FOUND", model_name="", version="", signature="") == 1
    latency = ":tensorflow:serving:request_latency"
    grpc_side = {"API": "Predict", "entrypoint": "GRPC", **ours}
    assert value(f"{latency}_count", **grpc_side) == 3
    assert value(f"{latency}_bucket", le="+Inf", **grpc_side) == 3
    assert value(f"{latency}_count", **{**grpc_side, "entrypoint": "REST"}) == 2
    assert 0 < value(f"{latency}_sum", **grpc_side) < 3 * 30e6
    gauge = ":tensorflow:serving:model_version_state"
    assert value(gauge, model_name="m", version="1", state="AVAILABLE") == 1


def test_metrics_are_off_by_default(embedded: Client) -> None:
    assert embedded.get("/monitoring/prometheus/metrics").status_code == 400


def test_health(half_plus: Path) -> None:
    serving, not_serving = b"\x08\x01", b"\x08\x02"
    server = serve(half_plus, enable_grpc_healthcheck_service=True).start()
    with grpc.insecure_channel(server.grpc_address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=10) == serving
        name = b"tensorflow.serving.PredictionService"
        assert check(bytes([0x0A, len(name)]) + name, timeout=10) == serving
        with pytest.raises(grpc.RpcError) as caught:
            check(b"\x0a\x01x", timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=30)
        assert next(watch) == serving
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert next(watch) == not_serving
        stopping.join()


def test_health_is_off_by_default(embedded: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        embedded.channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def certificate(name: str, signer: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """A key and a certificate for localhost, signed by ``signer`` or by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer = signer[1].subject if signer else subject
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), True)
        .sign(signer[0] if signer else key, hashes.SHA256())
    )
    return key, made


def pem(key: Any = None, made: Any = None) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    if made is not None:
        return made.public_bytes(s.Encoding.PEM)
    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())


@pytest.mark.parametrize("verify", [False, True])
def test_tls(half_plus: Path, tmp_path: Path, verify: bool) -> None:
    authority = certificate("authority")
    key, cert = certificate("server", authority)
    file = tmp_path / "ssl.txt"

    def quoted(text: bytes) -> str:
        return '"' + text.decode().replace("\n", "\\n") + '"'

    file.write_text(
        f"server_key: {quoted(pem(key))} server_cert: {quoted(pem(made=cert))} "
        f"custom_ca: {quoted(pem(made=authority[1]))} client_verify: {str(verify).lower()}"
    )
    client_key, client_cert = certificate("client", authority)
    anonymous = grpc.ssl_channel_credentials(pem(made=authority[1]))
    known = grpc.ssl_channel_credentials(
        pem(made=authority[1]), pem(client_key), pem(made=client_cert)
    )
    with serve(half_plus, ssl_config_file=str(file)) as server:
        server.wait_until_available("m")

        def works(credentials: grpc.ChannelCredentials | None) -> bool:
            address = f"localhost:{server.port}"
            if credentials is None:
                channel = grpc.insecure_channel(address)
            else:
                channel = grpc.secure_channel(address, credentials)
            client = Client(address, None, channel, ours=True)
            try:
                return client.predict("m", timeout=5, x=array.float32([[0.0]]))["y"].item() == 2.0
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    return False
                raise
            finally:
                client.close()

        assert works(known)
        assert works(anonymous) is not verify
        assert not works(None)


def test_a_unix_socket(half_plus: Path, tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    with serve(half_plus, grpc_socket_path=str(path)) as server:
        server.wait_until_available("m")
        channel = grpc.insecure_channel(f"unix:{path}")
        client = Client(str(path), None, channel, ours=True)
        assert client.predict("m", x=array.float32([[0.0]]))["y"].item() == 2.0
        client.close()


def test_a_message_beyond_the_bound(half_plus: Path) -> None:
    with serve(half_plus, grpc_max_message_bytes=1000) as server:
        server.wait_until_available("m")
        client = connect(server)
        with pytest.raises(grpc.RpcError) as caught:
            client.predict("m", x=np.zeros([1000, 1], np.float32))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert client.predict("m", x=array.float32([[0.0]]))["y"].item() == 2.0
        client.close()


# -- batching and draining -------------------------------------------------------------------------


def test_batching_end_to_end(suite_models: Path) -> None:
    """Many callers, each of whom gets its own rows, bad ones their error."""
    options = BatchingOptions(max_batch_size=16, batch_timeout_s=0.002, allowed_batch_sizes=(4, 16))
    base = suite_models.parent / "half_plus_two"
    with serve(base, batching=options) as server:
        server.wait_until_available("m")
        client = connect(server)

        def call(value: int) -> bool:
            x = np.full([1 + value % 3, 1], value, np.float32)
            got = client.predict("m", x=x)["y"]
            return got.tolist() == (x / 2 + 2).tolist()

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(call, range(300)))
        with pytest.raises(grpc.RpcError) as caught:
            client.predict("m", x=np.zeros([17, 1], np.float32))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        client.close()


def busy_request(n: int) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["n"].CopyFrom(tensor([n], np.int64))
    return request


def test_a_stop_lets_calls_in_progress_end(suite_models: Path) -> None:
    with serve(suite_models.parent / "busy") as server:
        server.wait_until_available("m")
        with grpc.insecure_channel(server.grpc_address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            stub.Predict(busy_request(1), timeout=30)
            began = time.monotonic()
            stub.Predict(busy_request(20_000), timeout=30)
            rate = 20_000 / (time.monotonic() - began)
            slow = stub.Predict.future(busy_request(int(rate)), timeout=60)  # about a second
            until(lambda: any(v.in_flight for v in server.manager.all_versions()))
            server.stop()
            assert slow.result(timeout=60).outputs["done"].int64_val[0] == int(rate)
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(busy_request(1), timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_call_whose_caller_left_frees_its_thread(suite_models: Path) -> None:
    with serve(suite_models.parent / "busy", grpc_max_threads=1) as server:
        server.wait_until_available("m")
        client = connect(server)
        with pytest.raises(grpc.RpcError):
            client.prediction.Predict(busy_request(10**12), timeout=0.2)
        assert list(
            client.prediction.Predict(busy_request(2), timeout=30).outputs["done"].int64_val
        ) == [2]
        client.close()


def test_status_answers_while_every_thread_is_busy(suite_models: Path) -> None:
    with serve(suite_models.parent / "busy", grpc_max_threads=1) as server:
        server.wait_until_available("m")
        client = connect(server)
        slow = client.prediction.Predict.future(busy_request(10**12), timeout=5)
        until(lambda: any(v.in_flight for v in server.manager.all_versions()))
        assert client.status("m")[1].state == State.AVAILABLE
        slow.cancel()
        client.close()
        server.stop(drain=0)


def test_options_that_cannot_be(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "exactly one of model_base_path and model_config_file"),
        ({"model_base_path": "/a", "model_config_file": "/b"}, "exactly one of"),
        ({"model_base_path": "a"}, "must be an absolute path"),
        ({"model_base_path": "/a", "batching_parameters_file": "/b"}, "without enable_batching"),
        ({"model_base_path": "/a", "port": 70000}, "port must be between"),
        ({"model_base_path": "/a", "port": 8500, "rest_api_port": 8500}, "the same as port"),
        ({"model_base_path": "/a", "grpc_max_threads": 0}, "grpc_max_threads must be at least 1"),
    ]
    for settings, text in cases:
        with pytest.raises(ValueError, match=text):
            Options(**settings)


def test_a_port_in_use(half_plus: Path) -> None:
    with serve(half_plus) as server, pytest.raises(OSError, match="cannot listen on"):
        serve(half_plus, port=server.port).start()


def test_the_manager_needs_no_server() -> None:
    manager = Manager(lambda name, version, path: None)  # type: ignore[arg-type,return-value]
    manager.start([])
    manager.stop()


def test_rest_is_off_by_default(half_plus: Path) -> None:
    with serve(half_plus) as server:
        assert server.rest_address is None
        with pytest.raises(requests.RequestException):
            requests.get(f"http://{server.grpc_address}/v1/models/m", timeout=5)
