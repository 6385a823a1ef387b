"""Every error a caller can get: its canonical code and the text TF Serving's clients know.

Codes are numbers of ``google.rpc.Code``; a transport maps them to its own (gRPC uses the same
numbers, REST a HTTP status).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

MAX_MESSAGE = 1024
"""Characters of an error text that reach the caller; the rest becomes ``...TRUNCATED``."""


class Code(IntEnum):
    """Canonical status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS: dict[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


class ServingError(Exception):
    """An answer that is not OK.

    Args:
        code: canonical code.
        message: text for the caller, uncut.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message

    @property
    def details(self) -> str:
        """The text as it goes on the wire: valid UTF-8, at most 1024 characters and a mark."""
        text = self.message.encode("utf-8", "replace").decode("utf-8")
        return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "...TRUNCATED"


def invalid(message: str) -> ServingError:
    """INVALID_ARGUMENT with this text."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def failed_precondition(message: str) -> ServingError:
    """FAILED_PRECONDITION with this text."""
    return ServingError(Code.FAILED_PRECONDITION, message)


def unparsable(full_name: str) -> ServingError:
    """Bytes that are no message of this type; gRPC's own code for it is INTERNAL."""
    return ServingError(Code.INTERNAL, f"Error parsing request proto: not a {full_name}")


def missing_model_spec() -> ServingError:
    return invalid("Missing ModelSpec")


def missing_name() -> ServingError:
    return invalid("ModelSpec has no name specified.")


def servable_not_found(name: str, version: int | None) -> ServingError:
    request = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return ServingError(Code.NOT_FOUND, f"Servable not found for request: {request}")


def unknown_label(label: str) -> ServingError:
    return invalid(f"Unrecognized servable version label: {label}")


def unknown_signature_predict(name: str) -> ServingError:
    return failed_precondition(f'Serving signature key "{name}" not found.')


def unknown_signature_rest(name: str) -> ServingError:
    return invalid(f'Serving signature name: "{name}" not found in signature def')


def unknown_signature_inference(name: str) -> ServingError:
    return invalid(f"No signature was found with the name: {name}")


def no_versions(name: str, version: int | None) -> ServingError:
    what = "any versions" if version is None else f"version {version}"
    return ServingError(Code.NOT_FOUND, f"Could not find {what} of model {name}")


def input_size(sent: Iterable[str], wanted: Iterable[str]) -> ServingError:
    """The wrong number of inputs, with what is too many and what is missing."""
    have, want = set(sent), set(wanted)

    def names(aliases: Iterable[str]) -> str:
        return "{" + ",".join(sorted(aliases)) + "}"

    return invalid(
        f"input size does not match signature: {len(have)}!={len(want)} "
        f"len({names(have)}) != len({names(want)}). "
        f"Sent extra: {names(have - want)}. Missing but required: {names(want - have)}."
    )


def unknown_inputs(sent: Iterable[str], wanted: Iterable[str]) -> ServingError:
    """The right number of inputs under wrong names."""
    have, want = set(sent), set(wanted)
    return invalid(
        f"Signature input alias: {','.join(sorted(want - have))} not found in the request; "
        f"inputs expected to be in the set {{{','.join(sorted(want))}}}, "
        f"sent extra: {{{','.join(sorted(have - want))}}}."
    )


def unknown_output(alias: str, outputs: Iterable[str]) -> ServingError:
    return invalid(
        f"output tensor alias not found in signature: {alias} "
        f"Outputs expected to be in the set {{{','.join(sorted(outputs))}}}."
    )


def duplicate_output(alias: str) -> ServingError:
    return invalid(f"duplicate output tensor alias: {alias}")


def empty_input() -> ServingError:
    return invalid("Input is empty.")


def deadline_exceeded(where: str) -> ServingError:
    return ServingError(Code.DEADLINE_EXCEEDED, f"Deadline exceeded {where}")
