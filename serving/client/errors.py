"""What can go wrong in a call, as exceptions that say the code, the message and the cure.

One class a cause, so that a caller catches what it can handle: ``except UnavailableError``.
The codes are gRPC's names; a REST status is translated to the same ones.
"""

from __future__ import annotations


class ServingError(Exception):
    """Base of all errors of this package.

    Attributes:
        code: name of the gRPC status, such as ``"NOT_FOUND"``.
        message: what happened, in the server's words where it answered.
        cure: what to do about it.
    """

    code = "UNKNOWN"
    cure = "Look into the server's log."

    def __init__(self, message: str, *, code: str | None = None, cure: str | None = None) -> None:
        self.message = message if message.endswith((".", "!", "?")) else f"{message}."
        self.code = code or type(self).code
        self.cure = cure or type(self).cure
        super().__init__(f"{self.code}: {self.message} {self.cure}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.code, self.cure)


def _rebuild(kind: type[ServingError], message: str, code: str, cure: str) -> ServingError:
    return kind(message, code=code, cure=cure)


class BadInputError(ServingError, ValueError):
    """The call's own arguments are wrong; nothing was sent."""

    code = "INVALID_ARGUMENT"
    cure = "Mend the arguments of the call."


class InvalidRequestError(ServingError):
    """The server refused the request: INVALID_ARGUMENT, FAILED_PRECONDITION or OUT_OF_RANGE."""

    code = "INVALID_ARGUMENT"
    cure = "Compare the request with `client.metadata()`: names, dtypes and shapes of its inputs."


class NotFoundError(ServingError):
    """The server has no such model or version."""

    code = "NOT_FOUND"
    cure = "Check the model's name and version with `client.status()`; it may still be loading."


class UnavailableError(ServingError):
    """The server is away, or sheds load. Tried again until the deadline before it is raised."""

    code = "UNAVAILABLE"
    cure = "Check the address and that the server runs; pass `fallback` to answer without it."


class DeadlineExceededError(ServingError):
    """No answer in time."""

    code = "DEADLINE_EXCEEDED"
    cure = "Give more `timeout`, ask for less per call, or look at the server's latency."


class OverloadedError(ServingError):
    """A limit was hit: a quota, or a message larger than one side accepts."""

    code = "RESOURCE_EXHAUSTED"
    cure = "Send less per call, or raise `max_message_bytes` here and the limit of the server."


class AccessDeniedError(ServingError):
    """The server wants other credentials."""

    code = "PERMISSION_DENIED"
    cure = "Pass the right `tls` certificates or metadata."


class UnimplementedError(ServingError):
    """The server does not know this call."""

    code = "UNIMPLEMENTED"
    cure = "Check that the address is the server's gRPC (or REST) port."


class ServerFaultError(ServingError):
    """The server failed while it worked on the request."""

    code = "INTERNAL"


class BadAnswerError(ServingError):
    """The answer came but cannot be read, or lacks what the call promises."""

    code = "DATA_LOSS"
    cure = "Check that the model's signature is the one the call needs (`client.metadata()`)."


_BY_CODE: dict[str, type[ServingError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "FAILED_PRECONDITION": InvalidRequestError,
    "OUT_OF_RANGE": InvalidRequestError,
    "NOT_FOUND": NotFoundError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "RESOURCE_EXHAUSTED": OverloadedError,
    "UNAUTHENTICATED": AccessDeniedError,
    "PERMISSION_DENIED": AccessDeniedError,
    "UNIMPLEMENTED": UnimplementedError,
}

# Statuses of the REST interface. Both of its 400s, INVALID_ARGUMENT and FAILED_PRECONDITION, are
# the same class here, so nothing is lost that a caller could act upon.
_CODE_OF_HTTP = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def from_code(code: str, message: str) -> ServingError:
    """The exception for a gRPC status name; ``ServerFaultError`` for the codes without a class."""
    return _BY_CODE.get(code, ServerFaultError)(message, code=code)


def from_http(status: int, message: str) -> ServingError:
    """The exception for an HTTP status."""
    return from_code(_CODE_OF_HTTP.get(status, "UNKNOWN"), message)
