"""A real redis-server of one's own, single or as a cluster of one node, on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

START_S = 30.0


def free_port() -> int:
    """A port that nobody listens on just now; a cluster's bus port beside it stays below 65536."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port < 55000:
            return port


def until(check: Callable[[], object], seconds: float = START_S) -> object:
    """Waits for something to be true."""
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return value


class RedisServer:
    """``redis-server`` that keeps nothing on disk."""

    def __init__(self, folder: Path, cluster: bool = False) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("no redis-server on this machine: apt-get install redis-server")
        self._binary, self._folder, self.cluster = binary, folder, cluster
        self.port = free_port()
        try:
            self.start()
        except BaseException:
            self.kill()
            raise

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts it (again), empty, on the same port."""
        flags = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        if self.cluster:
            (self._folder / "nodes.conf").unlink(missing_ok=True)
            flags += ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]
        self._process = subprocess.Popen(
            [self._binary, *flags], cwd=self._folder, stdout=subprocess.DEVNULL
        )
        import redis

        with redis.Redis(port=self.port) as client:

            def answers() -> bool:
                try:
                    return bool(client.ping())
                except redis.ConnectionError:
                    return False

            until(answers)
            if self.cluster:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
                until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))

    def freeze(self) -> None:
        """It takes connections and answers nothing: a store that is slow."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and gone."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def flush(self) -> None:
        import redis

        with redis.Redis(port=self.port) as client:
            client.flushall()
