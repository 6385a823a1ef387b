"""``python -m serving``: runs the server until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from serving import flags
from serving.quiet import quiet_imports

log = logging.getLogger("serving")


def _log_to_stderr() -> None:
    form = "%(asctime)s %(process)d %(levelname).1s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
    logging.getLogger("tensorflow").setLevel(logging.WARNING)


def serve_main(argv: Sequence[str]) -> int:
    """Runs a server with these flags and returns its exit status.

    Args:
        argv: the flags, without a program name.

    Returns:
        0 after a signal and a drain; 2 for flags or files that cannot be used; 1 where a port
        cannot be had.
    """
    _log_to_stderr()
    try:
        given = flags.parse(argv)
    except flags.FlagError as error:
        print(f"serving: {error}", file=sys.stderr)
        return 2
    if "upstream" in given:
        with quiet_imports():
            from serving.proxy import run_proxy
        return run_proxy(given)
    processes = given.pop("processes", 1)
    if processes > 1:
        from serving.processes import run_processes

        return run_processes(given, processes)
    return run_one(given)


def run_one(given: dict[str, Any], own: str = "", others: Sequence[str] = ()) -> int:
    """Runs one process's server until a signal.

    Args:
        given: fields of :class:`serving.options.Options`.
        own: this process's private socket among several processes.
        others: sockets of the other processes.
    """
    quit_ = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if quit_.is_set():  # the second signal does not wait
            sys.exit(128 + number)
        quit_.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)

    with quiet_imports():
        from serving import memory
        from serving.errors import ServingError
        from serving.options import Options, OptionsError
        from serving.peers import Peers
        from serving.server import Server
        from serving.textproto import ConfigFileError

        memory.meet_devices()

    # a waiting thread asks for the GIL after 5 ms by default, many times a small graph's run
    sys.setswitchinterval(0.0005)
    memory.settle()
    try:
        options = Options(**given)
        server = Server(options, Peers(own, others))
        server.start()
    except (OptionsError, ConfigFileError) as error:
        print(f"serving: {error}", file=sys.stderr)
        return 2
    except ServingError as error:
        file = given.get("model_config_file", "")
        print(f"serving: Failed to start server: {file}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"serving: Failed to start server: {error}", file=sys.stderr)
        return 1
    log.info("Running gRPC ModelServer at %s:%d ...", options.host, server.port)
    if server.rest_port is not None:
        log.info("Exporting HTTP/REST API at:%s:%d ...", options.host, server.rest_port)
    quit_.wait()
    log.info("stopping: calls in progress have %g s", options.drain_seconds)
    server.stop()
    log.info("stopped")
    return 0


def run_child(given: dict[str, Any], own: str, others: Sequence[str]) -> int:
    """One of several processes; started by :mod:`serving.processes`."""
    _log_to_stderr()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    return run_one(given, own, others)


def _end_with(parent: int) -> None:
    """Ends this process in good order once its parent is gone, however that came about."""
    while os.getppid() == parent:
        time.sleep(0.5)
    log.error("the process that started this one is gone; stopping")
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(serve_main(sys.argv[1:]))
