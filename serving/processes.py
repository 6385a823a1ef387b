"""``--processes N``: several servers on one port, for more cores than one interpreter can use.

The kernel spreads new connections over the processes (SO_REUSEPORT). Each loads every model, so the
memory is N times that of one. The parent serves nothing: it keeps the port reserved, passes signals
on, and ends everything if one process dies, so that whoever supervises it can start afresh.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

log = logging.getLogger("serving")
_CHILD = (
    "import json, sys; from serving.__main__ import run_child; "
    "sys.exit(run_child(*json.loads(sys.argv[1])))"
)


def reserve(host: str, port: int) -> socket.socket:
    """Binds a port without listening, so that the kernel's choice stays ours for the children."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError:
        held.close()
        raise
    return held


def _someone_listens(host: str, port: int) -> bool:
    """SO_REUSEPORT would join another server's port in silence; this tells."""
    probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    with probe:
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def run_processes(given: dict[str, Any], count: int) -> int:
    """Starts the processes, waits for a signal or for one to end, and stops them all.

    Args:
        given: fields of :class:`serving.options.Options`.
        count: number of processes.

    Returns:
        0 after a signal; the status of the process that ended by itself otherwise.
    """
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: stop.append(received))
    host = given.get("host", "0.0.0.0")
    with ExitStack() as stack:
        settings = dict(given, reuse_port=True)
        for name in ("port", "rest_api_port"):
            wanted = given.get(name)
            if wanted is None:
                continue
            try:
                if wanted and _someone_listens(host, wanted):
                    raise OSError(f"{host}:{wanted} is in use")
                held = stack.enter_context(reserve(host, wanted))
            except OSError as error:
                print(f"serving: Failed to start server: {error}", file=sys.stderr)
                return 1
            settings[name] = held.getsockname()[1]
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="serving-"))
        sockets = [str(Path(folder, f"{index}.sock")) for index in range(count)]
        children = [_start(settings, sockets, index) for index in range(count)]
        return _watch(children, stop, settings.get("drain_seconds", 10.0))


def _start(settings: dict[str, Any], sockets: list[str], index: int) -> subprocess.Popen[bytes]:
    own = dict(settings)
    if index:
        own.pop("grpc_socket_path", None)  # one path, one listener
    others = [path for path in sockets if path != sockets[index]]
    arguments = json.dumps([own, sockets[index], others])
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    # a session of its own: a ^C reaches the parent alone, which passes it on once
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, arguments],
        env=dict(os.environ, PYTHONPATH=path),
        start_new_session=True,
    )


def _watch(children: Sequence[subprocess.Popen[bytes]], stop: list[int], drain_s: float) -> int:
    status = 0
    while not stop:
        ended = [child for child in children if child.poll() is not None]
        if ended:
            status = ended[0].returncode or 1
            log.error("process %d ended with %d; stopping", ended[0].pid, ended[0].returncode)
            break
        time.sleep(0.1)
    for child in children:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    patience = time.monotonic() + drain_s + 10
    for child in children:
        try:
            child.wait(max(0.1, patience - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    return status
