"""``tfrec serve --upstream ... --store ...`` as a process before a server without a store."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.options import Options
from serving.proxy import run_proxy
from serving.server import Server
from tests.processes import Running
from tests.store.servers import until
from tests.store.test_front import KNOWN, Caller, fill, write_echo
from tfrec.config.store import StoreConfig

START_S = 120.0  # a loaded machine takes its time to import TensorFlow
TAKEN = -1  # stands for a port that somebody has
COMMAND = "from tfrec.cli import app; app()"


class Command(Running):
    """``tfrec ARGUMENTS`` as a process of its own."""

    def __init__(self, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        super().__init__([sys.executable, "-c", COMMAND, *arguments], env=environment)

    def said(self, pattern: str) -> list[str]:
        assert self.popen.poll() is None, "".join(self.lines)
        return super().said(pattern)

    def end(self) -> int:
        """Exit status after SIGTERM."""
        self.popen.send_signal(signal.SIGTERM)
        return self.ended()


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Server]:
    """The embedded server as an official one would be: it knows no store."""
    write_echo(tmp_path / "echo" / "1")
    options = Options(model_name="echo", model_base_path=str(tmp_path / "echo"), port=0)
    with Server(options) as server:
        server.wait_until_available("echo")
        yield server


def test_the_command_completes_requests_until_it_is_told_to_end(
    tmp_path: Path, upstream: Server
) -> None:
    path = str(tmp_path / "s.lmdb")
    fill(StoreConfig(path=path, map_size_gib=0.1))
    command = Command(
        "serve",
        f"--upstream={upstream.grpc_address}",
        "--host=127.0.0.1",
        "--port=0",
        f"--store={path}",
        "--store_k=4",
    )
    try:
        pattern = r"completing requests at 127\.0\.0\.1:(\d+) for " + re.escape(
            upstream.grpc_address
        )
        found: Any = until(lambda: command.said(pattern), START_S)
        ask = Caller(upstream, f"127.0.0.1:{found[0]}")
        seen, told = ask.grpc(user_id=["u1"])
        assert (seen, told["x-store"]) == ([KNOWN.replace("|10", "|4")], "filled")
        seen, told = ask.grpc(user_id=["nobody"], k=np.int32(2))
        assert (seen, told["x-store"]) == (["||nan,nan|||nan|nobody|2"], "unknown")
        ask.channel.close()
        assert command.end() == 0
        assert "stopped" in command.lines[-1]
    finally:
        command.kill()


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        ({}, 2, "goes with an input filler, host and port; got no input_filler"),
        ({"input_filler": "a:b", "rest_api_port": 1}, 2, r"got also ['rest_api_port']"),
        ({"input_filler": "no_such_package:function"}, 2, "No module named 'no_such_package'"),
        ({"input_filler": "tfrec.store.front:open_filler", "port": TAKEN}, 1, "Failed to start"),
    ],
)
def test_what_cannot_be_started_says_why(
    flags: dict[str, Any],
    status: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"upstream": "127.0.0.1:1", "host": "127.0.0.1", "port": 0, **flags}
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if flags.get("port") == TAKEN:
            given["port"] = taken.getsockname()[1]
            store = StoreConfig(path=str(tmp_path / "s.lmdb"), map_size_gib=0.1)
            given["input_filler_options"] = {"store": store.model_dump()}
        try:
            assert run_proxy(given) == status
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
    assert message in capsys.readouterr().err
