"""Runs the page: a socket of our own, so that the address is known before the first request."""

from __future__ import annotations

import ipaddress
import socket

import uvicorn

from tfrec.explore.app import create_app
from tfrec.explore.explorer import Explorer

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """Takes a port; 0 lets the system choose.

    Raises:
        ValueError: it is taken, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except (OSError, OverflowError) as error:
        taken.close()
        raise ValueError(
            f"the page listens on a free port of this machine; {host}:{port} cannot be had: "
            f"{error}; choose another by --port, or 0 for any"
        ) from None
    return taken


def address_of(taken: socket.socket) -> str:
    """``http://host:port`` of a bound socket."""
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(explorer: Explorer, host: str) -> uvicorn.Server:
    """The server; ``server.run(sockets=[bind(host, port)])`` serves until it is told to stop."""
    hosts = [*LOOPBACK_NAMES, host] if is_loopback(host) else ["*"]
    config = uvicorn.Config(
        create_app(explorer, hosts), log_level="warning", access_log=False, lifespan="off"
    )
    return uvicorn.Server(config)
