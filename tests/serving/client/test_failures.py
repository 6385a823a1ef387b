"""Retries, deadlines, the fallback list and errors, and the ways to connect."""

from __future__ import annotations

import pickle
import socket
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.client import (
    BadInputError,
    Client,
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RestClient,
    Retry,
    ServerFaultError,
    ServingError,
    Tls,
    UnavailableError,
    errors,
)

QUICK = Retry(attempts=4, initial=0.001, maximum=0.002)
AWAY = ("UNAVAILABLE", "the queue is full")


def test_unavailable_is_tried_again(connect: Any, fake: Any) -> None:
    client = connect(retries=QUICK)
    fake.failures = [AWAY, AWAY, AWAY]
    assert client.recommend("u", 1)[0].item_id == "i0"
    assert len(fake.asked) == 4


def test_after_the_last_try_the_error_comes_out(connect: Any, fake: Any) -> None:
    client = connect(retries=QUICK)
    fake.failures = [AWAY] * 9
    with pytest.raises(UnavailableError, match="queue is full") as caught:
        client.recommend("u", 1)
    assert len(fake.asked) == 4
    assert caught.value.code == "UNAVAILABLE"
    assert "fallback" in caught.value.cure


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INVALID_ARGUMENT", InvalidRequestError),
        ("NOT_FOUND", NotFoundError),
        ("INTERNAL", ServerFaultError),
        ("RESOURCE_EXHAUSTED", OverloadedError),
        ("DEADLINE_EXCEEDED", DeadlineExceededError),
    ],
)
def test_nothing_else_is_tried_again(connect: Any, fake: Any, code: str, kind: Any) -> None:
    client = connect(retries=QUICK)
    fake.failures = [(code, "no, for a reason")] * 3
    with pytest.raises(kind, match="no, for a reason") as caught:
        client.recommend("u", 1)
    assert caught.value.code == code
    assert len(fake.asked) == 1


def test_an_unknown_model(connect: Any) -> None:
    with pytest.raises(NotFoundError, match=r"Servable not found|any versions"):
        connect("other").predict({"x": [1.0]}, cast=False)


def test_a_slow_server_runs_into_the_deadline(connect: Any, fake: Any) -> None:
    client = connect()
    client.metadata()
    fake.delay = 1.0
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        client.recommend("u", 1, timeout=0.15)
    assert 0.1 < time.monotonic() - started < 1.0  # the server answers after a whole second


def test_retries_stay_within_the_deadline(connect: Any, fake: Any) -> None:
    client = connect(retries=Retry(attempts=1000, initial=0.05, multiplier=1.0))
    client.metadata()
    fake.failures = [AWAY] * 1000
    started = time.monotonic()
    with pytest.raises((UnavailableError, DeadlineExceededError)):
        client.recommend("u", 1, timeout=0.4)
    assert time.monotonic() - started < 5.0
    assert 2 <= len(fake.asked) < 1000


def test_the_server_learns_the_deadline(grpc_server: Any, fake: Any) -> None:
    fake.metadata_delay = 1.5
    with Client(grpc_server.address, "m", timeout=8) as client:
        client.recommend("u", 1)
    assert all(3 < left <= 9 for left in fake.deadlines)
    # The metadata took its part of the same time.
    assert fake.deadlines[1] < fake.deadlines[0] - 0.9  # gRPC rounds what it sends


def test_pauses_grow_and_are_drawn_at_random() -> None:
    retry = Retry(attempts=9, initial=0.1, multiplier=2.0, maximum=0.5)
    for number, longest in enumerate([0.1, 0.2, 0.4, 0.5, 0.5]):
        pauses = [retry.pause(number) for _ in range(500)]
        assert 0 <= min(pauses) < 0.2 * longest
        assert 0.8 * longest < max(pauses) <= longest
    with pytest.raises(BadInputError, match="attempts >= 1"):
        Retry(attempts=0)


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def away(connect: Any, **kwargs: Any) -> Any:
    """A client whose server is not there."""
    address = f"127.0.0.1:{closed_port()}"
    return connect(
        address=f"http://{address}" if connect.kind == "rest" else address,
        retries=Retry(attempts=2, initial=0.001),
        **kwargs,
    )


def test_the_fallback_list_is_answered_and_flagged(connect: Any) -> None:
    client = away(connect, fallback=["p1", "p2", "p3", "p4"])
    best = client.recommend("u", 2, exclude=["p2"])
    assert [(one.item_id, one.from_fallback, one.version) for one in best] == [
        ("p1", True, None),
        ("p3", True, None),
    ]
    assert [one.item_id for one in client.similar("p1", 9)] == ["p2", "p3", "p4"]
    lists = client.recommend(["a", "b"], 1, exclude=[[], ["p1"]])
    assert [one[0].item_id for one in lists] == ["p1", "p2"]
    ranked = client.rank("u", ["x", "y"])
    assert [(one.item_id, one.from_fallback) for one in ranked] == [("x", True), ("y", True)]


def test_the_fallback_may_be_a_function(connect: Any) -> None:
    client = away(connect, fallback=lambda key, k: [f"{key}-{n}" for n in range(k + 5)])
    assert [one.item_id for one in client.recommend("u", 2)] == ["u-0", "u-1"]


def test_without_a_fallback_it_is_an_error(connect: Any) -> None:
    with pytest.raises(UnavailableError):
        away(connect).recommend("u", 2)
    with pytest.raises(UnavailableError):  # predict has no list to fall back to
        away(connect, fallback=["p"]).predict({"x": [1.0]})


def test_a_refused_request_never_gets_the_fallback(connect: Any, fake: Any) -> None:
    client = connect(fallback=["p1"])
    fake.failures = [("INVALID_ARGUMENT", "bad")]
    with pytest.raises(InvalidRequestError):
        client.recommend("u", 1)


def test_the_fallback_covers_a_server_too_slow(connect: Any, fake: Any) -> None:
    client = connect(fallback=["p1"])
    client.metadata()
    fake.delay = 1.0
    assert client.recommend("u", 1, timeout=0.15)[0].from_fallback


def test_wait_ready_waits_and_gives_up(connect: Any, fake: Any) -> None:
    fake.failures = [("NOT_FOUND", "no versions"), AWAY]
    assert connect(retries=1).wait_ready(10).available == (1,)
    with pytest.raises(DeadlineExceededError, match=r"not AVAILABLE within 0\.3 s; last: "):
        away(connect).wait_ready(0.3)


def test_the_client_comes_back_with_the_server(start_server: Any) -> None:
    server = start_server()
    with Client(server.address, "m", timeout=10, retries=1, fallback=["p"]) as client:
        assert not client.recommend("u", 1)[0].from_fallback
        server.stop()
        assert client.recommend("u", 1)[0].from_fallback
        server = start_server(server.address)
        client.wait_ready(10)
        assert not client.recommend("u", 1)[0].from_fallback


def test_errors_have_code_message_and_cure_and_can_be_pickled() -> None:
    for error in (errors.from_code("ABORTED", "why."), errors.from_http(429, "slow down.")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (again.code, again.message, again.cure) == (error.code, error.message, error.cure)
        assert str(error) == f"{error.code}: {error.message} {error.cure}"
    assert isinstance(errors.from_code("ABORTED", ""), ServerFaultError)
    assert issubclass(BadInputError, ValueError)
    assert issubclass(BadInputError, ServingError)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Client("http://h:1", "m"), "Leave out the scheme"),
        (lambda: Client("localhost", "m"), "Add the port"),
        (lambda: Client("h:1", ""), "name must not be empty"),
        (lambda: RestClient("h:1", "m"), "http://host:port"),
        (lambda: RestClient("http://h:1", "m", tls=Tls()), "needs an https"),
        (lambda: Tls(ca="/no/such.pem"), "none at /no/such.pem"),
        (lambda: Tls(key=__file__), "both `key` and `certificate`"),
        (lambda: Client("h:1", "m", timeout=-1), "more than 0 seconds"),
    ],
)
def test_a_bad_connection_is_refused_at_once(make: Any, rule: str) -> None:
    with pytest.raises(BadInputError, match=rule):
        make()


def test_unix_socket(start_server: Any, tmp_path: Path) -> None:
    server = start_server(f"unix:{tmp_path}/s.sock")
    with Client(server.address, "m", timeout=10) as client:
        assert client.recommend("u", 1)[0].item_id == "i0"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def test_tls_and_client_certificates(start_server: Any, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), cert.read_bytes())], cert.read_bytes(), require_client_auth=True
    )
    server = start_server(credentials=credentials)
    good = Tls(ca=cert, key=key, certificate=cert, server_name="localhost")
    with Client(server.address, "m", timeout=10, tls=good) as client:
        assert client.recommend("u", 1)[0].item_id == "i0"
    for bad in (Tls(ca=cert, server_name="localhost"), None):
        refused = pytest.raises((UnavailableError, DeadlineExceededError))
        with Client(server.address, "m", timeout=2, retries=1, tls=bad) as client, refused:
            client.recommend("u", 1)


def test_rest_over_tls(rest_server: Any, tmp_path: Path) -> None:
    import ssl

    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    rest_server.server.socket = context.wrap_socket(rest_server.server.socket, server_side=True)
    url = rest_server.url.replace("http://127.0.0.1", "https://localhost")
    with RestClient(url, "m", timeout=10, tls=Tls(ca=cert)) as client:
        assert client.recommend("u", 1)[0].item_id == "i0"
    refused = pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED")
    with RestClient(url, "m", timeout=10, retries=1) as client, refused:
        client.recommend("u", 1)


class RawServer:
    """Answers every connection with the given bytes, one piece at a time."""

    def __init__(self, *pieces: bytes, pause: float = 0.0, requests: int = 1) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections = 0
        self._given = (pieces, pause, requests)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        pieces, pause, requests = self._given
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                for _ in range(requests):
                    connection.recv(65536)
                    try:
                        for piece in pieces:
                            connection.sendall(piece)
                            time.sleep(pause)
                    except OSError:
                        break

    def close(self) -> None:
        self.listener.close()


STATUS = b'{"model_version_status": [{"version": "5", "state": "AVAILABLE"}]}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(STATUS)

LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"x" * 9999


def test_rest_opens_a_new_connection_where_the_idle_one_was_closed() -> None:
    server = RawServer(HEAD + STATUS)  # closes after each answer without saying so
    with RestClient(server.url, "m", timeout=10, retries=1) as client:
        assert [client.status().available for _ in range(3)] == [(5,)] * 3
    assert server.connections == 3
    server.close()


def test_rest_reuses_a_connection_that_is_kept() -> None:
    server = RawServer(HEAD + STATUS, requests=5)
    with RestClient(server.url, "m", timeout=10, retries=1) as client:
        assert [client.status().available for _ in range(3)] == [(5,)] * 3
    assert server.connections == 1
    server.close()


def test_a_trickling_rest_answer_does_not_stretch_the_deadline() -> None:
    server = RawServer(HEAD, *[STATUS[n : n + 1] for n in range(len(STATUS))], pause=0.1)
    with RestClient(server.url, "m", retries=1) as client:
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            client.status(timeout=0.4)
        assert time.monotonic() - started < 4.0  # the whole answer takes over 6 s
    server.close()


@pytest.mark.parametrize(
    ("answer", "kind", "rule"),
    [
        (HEAD + STATUS[:20], UnavailableError, "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", ServingError, "cannot be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<p>", ServingError, "cannot be read"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 9\r\n\r\n<h1>no</h", UnavailableError, "<h1>no"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"x" * 9999,
            OverloadedError,
            "larger",
        ),
        (b"nonsense\r\n\r\n", UnavailableError, "BadStatusLine"),
    ],
)
def test_rest_answers_that_are_not_the_protocol(answer: bytes, kind: Any, rule: str) -> None:
    server = RawServer(answer)
    client = RestClient(server.url, "m", timeout=10, retries=1, max_message_bytes=5000)
    with client, pytest.raises(kind, match=rule):
        client.status()
    server.close()


def test_a_message_over_the_limit_is_refused(grpc_server: Any) -> None:
    client = Client(grpc_server.address, "m", timeout=10, max_message_bytes=2000)
    with client, pytest.raises(OverloadedError):
        client.predict({"x": [1.0] * 5000})
