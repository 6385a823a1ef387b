"""How to reach a gRPC server: address, TLS, limits, as channel options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from serving.client.errors import BadInputError

DEFAULT_MESSAGE_BYTES = 64 << 20


@dataclass(frozen=True)
class Tls:
    """Certificates for a TLS connection, as PEM files.

    Attributes:
        ca: the authority that signed the server's certificate; the system's where None.
        key: this client's private key, where the server wants one.
        certificate: this client's certificate chain.
        server_name: name to check the server's certificate against, where it is not the address.
    """

    ca: str | Path | None = None
    key: str | Path | None = None
    certificate: str | Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.key is None) != (self.certificate is None):
            raise BadInputError("A client certificate takes both `key` and `certificate`.")
        for path in (self.ca, self.key, self.certificate):
            if path is not None and not Path(path).is_file():
                raise BadInputError(f"TLS needs a PEM file; there is none at {path}.")

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC makes of them."""
        ca, key, certificate = (
            None if path is None else Path(path).read_bytes()
            for path in (self.ca, self.key, self.certificate)
        )
        return grpc.ssl_channel_credentials(ca, key, certificate)


def check_address(address: str) -> str:
    """The address, if it is ``host:port``, ``unix:/path`` or a gRPC name such as ``dns:///host:port``.

    Raises:
        BadInputError: for a URL or an address without port.
    """
    if "://" in address and address.split(":", 1)[0] in ("http", "https", "grpc", "tcp"):
        raise BadInputError(
            f"A gRPC address is host:port or unix:/path; got {address!r}.",
            cure="Leave out the scheme, or use RestClient for HTTP.",
        )
    if not address or (":" not in address):
        raise BadInputError(
            f"A gRPC address is host:port or unix:/path; got {address!r}.",
            cure="Add the port, 8500 by default.",
        )
    return address


def options(
    tls: Tls | None, max_message_bytes: int, extra: Sequence[tuple[str, Any]] = ()
) -> list[tuple[str, Any]]:
    """Channel options: message limits, a quick reconnect, all addresses of a name in turn."""
    chosen: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        # gRPC's own pause between connects grows to two minutes, far beyond any deadline here.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
        ("grpc.enable_retries", 0),  # the retries are ours
    ]
    if tls is not None and tls.server_name is not None:
        chosen.append(("grpc.ssl_target_name_override", tls.server_name))
    return [*chosen, *extra]
