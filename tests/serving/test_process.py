"""The server as a process: signals, restarts, several processes on one port."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.processes import Running
from tests.serving import saved_models
from tests.serving.conftest import Client, array
from tests.serving.test_server import busy_request, entry, listing, reload, until

START_S = 120.0  # a loaded machine takes its time to import TensorFlow


class Process(Running):
    """``python -m serving`` with these flags."""

    def __init__(self, repository: Path, *flags: str) -> None:
        super().__init__(
            [sys.executable, "-m", "serving", "--host=127.0.0.1", "--port=0", *flags],
            cwd=repository,
            # what a user has, not the quieter setting of the tests
            env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
        )

    def client(self) -> Client:
        port = until(lambda: self.said(r"gRPC ModelServer at [\d.]+:(\d+) "), START_S)[0]
        rest = self.said(r"HTTP/REST API at:([\d.]+:\d+) ")
        address = f"127.0.0.1:{port}"
        return Client(
            address, f"http://{rest[0]}" if rest else None, grpc.insecure_channel(address), True
        )


@pytest.fixture
def run(repository: Path) -> Iterator[Any]:
    started: list[Process] = []

    def start(*flags: str) -> Process:
        started.append(Process(repository, *flags))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def answers(client: Client, model: str = "m") -> Any:
    """What the model adds, waiting for it to be there."""

    def ask() -> Any:
        try:
            return client.predict(model, timeout=5, x=array.float32([[0.0]]))["y"].item()
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE):
                return None
            raise

    return until(ask, START_S)


def test_kill_in_the_middle_of_a_swap_then_restart_then_term(
    run: Any, half_plus: Path, tmp_path: Path, suite_models: Path
) -> None:
    config = tmp_path / "models.config"
    config.write_text(listing(entry("m", half_plus), entry("busy", suite_models.parent / "busy")))
    flags = (f"--model_config_file={config}", "--file_system_poll_wait_seconds=0.05")
    saved_models.write_half_plus(tmp_path / "next", 3)

    first = run(*flags)
    client = first.client()
    assert answers(client) == 2.0
    shutil.copytree(tmp_path / "next", half_plus / "2")  # being loaded when the axe falls
    os.kill(first.popen.pid, signal.SIGKILL)
    assert first.ended() == -signal.SIGKILL
    client.close()

    second = run(*flags)
    client = second.client()
    assert until(lambda: answers(client) == 3.0)
    ours = re.compile(r"\d{4}-\d\d-\d\d \S+ \d+ [IWE] ")
    assert [line for line in second.lines if not ours.match(line)] == []  # no noise at the start

    request = busy_request(1)
    request.model_spec.name = "busy"
    until(lambda: 1 in client.status("busy") and client.status("busy")[1].state == 30)
    client.prediction.Predict(request, timeout=30)
    began = time.monotonic()
    request.inputs["n"].int64_val[0] = 20_000
    client.prediction.Predict(request, timeout=60)
    rate = int(20_000 / (time.monotonic() - began))
    request.inputs["n"].int64_val[0] = 2 * rate  # about two seconds
    slow = client.prediction.Predict.future(request, timeout=60)
    time.sleep(0.5)
    second.popen.send_signal(signal.SIGTERM)
    assert slow.result(60).outputs["done"].int64_val[0] == 2 * rate
    assert second.ended() == 0
    assert second.said("stopped")
    client.close()


def test_several_processes_on_one_port(run: Any, half_plus: Path, tmp_path: Path) -> None:
    """A reload reaches both, the metrics are one sum, and a lost process ends the whole."""
    monitoring = tmp_path / "monitoring.txt"
    monitoring.write_text("prometheus_config { enable: true }")
    process = run(
        "--processes=2",
        "--rest_api_port=auto",
        "--model_name=m",
        f"--model_base_path={half_plus}",
        f"--monitoring_config_file={monitoring}",
    )
    until(lambda: len(process.said("loaded m version 1")) == 2, START_S)
    until(lambda: len(process.said("HTTP/REST API")) == 2, START_S)
    pids = set(process.said(r" (\d+) I Running gRPC"))
    assert len(pids) == 2

    def client() -> Client:
        """A connection of its own, so that the kernel chooses a process anew."""
        found = process.client()
        found.channel.close()
        options = [("grpc.use_local_subchannel_pool", 1)]
        found.channel = grpc.insecure_channel(found.grpc_address, options)
        found.__post_init__()
        return found

    for _ in range(20):
        one = client()
        assert answers(one) == 2.0
        one.close()
    one = client()
    page = one.get("/monitoring/prometheus/metrics").text
    (count,) = re.findall(r'request_count\{model_name="m",status="OK".*\} (\d+)', page)
    assert int(count) == 20
    saved_models.write_half_plus(half_plus.parent / "other" / "1", 3)
    reload(one, listing(entry("m", half_plus), entry("n", half_plus.parent / "other")))
    until(lambda: len(process.said("loaded n version 1")) == 2)
    with pytest.raises(grpc.RpcError) as caught:  # the private service is not for the port
        one.channel.unary_unary("/serving.Peer/Metrics")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    one.close()

    os.kill(int(pids.pop()), signal.SIGKILL)
    assert process.ended() != 0
    os_pids = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert os_pids == []


def test_processes_do_not_outlive_the_one_that_started_them(run: Any, half_plus: Path) -> None:
    process = run("--processes=2", "--model_name=m", f"--model_base_path={half_plus}")
    until(lambda: len(process.said("loaded m version 1")) == 2, START_S)
    pids = set(process.said(r" (\d+) I Running gRPC"))
    os.kill(process.popen.pid, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 30)
