"""One call as a series of steps, so that the logic is written once for every transport.

A call is a generator. It yields what it wants done (`Predict`, `GetMetadata`, `GetStatus`,
`Pause`) and is sent the answer, or is thrown the error. `drive` runs one over functions,
`drive_async` over coroutines; retries and deadlines are generators too and never touch a socket.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

from serving.client.errors import (
    BadInputError,
    DeadlineExceededError,
    ServingError,
    UnavailableError,
)
from serving.client.results import Signature

T = TypeVar("T")


@dataclass(frozen=True)
class ModelRef:
    """Which model to ask: a name, and a version or a label where not the newest."""

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise BadInputError("A model's name must not be empty.")
        if self.version is not None and self.label is not None:
            raise BadInputError(
                f"A model is asked by version or by label; got {self.version} and {self.label!r}."
            )


@dataclass(frozen=True)
class Predict:
    """Run a signature; answered by a `Prediction`. ``spec`` is the signature, where it is known."""

    model: ModelRef
    signature: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: tuple[str, ...] = ()
    spec: Signature | None = None


@dataclass(frozen=True)
class GetMetadata:
    """Ask for the signatures; answered by a `Metadata`."""

    model: ModelRef


@dataclass(frozen=True)
class GetStatus:
    """Ask for the states of the versions; answered by a `ModelStatus`."""

    model: ModelRef


@dataclass(frozen=True)
class Timed:
    """A request with the seconds it may take."""

    request: Predict | GetMetadata | GetStatus
    timeout: float


@dataclass(frozen=True)
class Pause:
    """Wait some seconds; answered by None."""

    seconds: float


Step = Timed | Pause
Call = Generator[Step, Any, T]


@dataclass(frozen=True)
class Retry:
    """How often and how soon to try again when the server is UNAVAILABLE.

    The pause before try ``n`` is drawn evenly from 0 to ``min(maximum, initial * multiplier**n)``
    seconds ("full jitter": callers that failed together do not come back together). No pause ends
    after the deadline.

    Attributes:
        attempts: tries in all, at least 1.
        initial: longest first pause, seconds.
        multiplier: growth of the longest pause from one try to the next, at least 1.
        maximum: longest pause of all, seconds.
    """

    attempts: int = 3
    initial: float = 0.05
    multiplier: float = 2.0
    maximum: float = 1.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.initial < 0 or self.multiplier < 1 or self.maximum < 0:
            raise BadInputError(
                "A Retry needs attempts >= 1, initial >= 0, multiplier >= 1 and maximum >= 0; "
                f"got {self}."
            )

    def pause(self, attempt: int) -> float:
        """Seconds to wait after failed try ``attempt`` (from 0)."""
        longest = min(self.maximum, self.initial * self.multiplier**attempt)
        return random.uniform(0.0, longest)


class Deadline:
    """A point in time that all steps of one call share."""

    def __init__(self, timeout: float) -> None:
        if not timeout > 0:
            raise BadInputError(f"A timeout must be more than 0 seconds; got {timeout}.")
        self.timeout = timeout
        self._end = time.monotonic() + timeout

    def left(self) -> float:
        """Seconds left.

        Raises:
            DeadlineExceededError: if none is.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineExceededError(f"No answer within {self.timeout:g} s.")
        return left


def attempt(
    request: Predict | GetMetadata | GetStatus, deadline: Deadline, retry: Retry
) -> Call[Any]:
    """Sends a request, again after a pause while the server is UNAVAILABLE and time is left."""
    for number in range(retry.attempts):
        try:
            return (yield Timed(request, deadline.left()))
        except UnavailableError:
            pause = retry.pause(number)
            try:
                too_late = number + 1 == retry.attempts or deadline.left() <= pause
            except DeadlineExceededError:
                too_late = True
            if too_late:
                raise
            yield Pause(pause)
    raise AssertionError("unreachable: the last try returns or raises")


def drive(call: Call[T], execute: Callable[[Timed], Any]) -> T:
    """Runs a call; ``execute`` does one request and blocks."""
    try:
        step = next(call)
        while True:
            try:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    answer = None
                else:
                    answer = execute(step)
            except ServingError as error:
                step = call.throw(error)
            else:
                step = call.send(answer)
    except StopIteration as done:
        return done.value
    finally:
        call.close()


async def drive_async(call: Call[T], execute: Callable[[Timed], Awaitable[Any]]) -> T:
    """Runs a call; ``execute`` is a coroutine that does one request."""
    import asyncio

    try:
        step = next(call)
        while True:
            try:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    answer = None
                else:
                    answer = await execute(step)
            except ServingError as error:
                step = call.throw(error)
            else:
                step = call.send(answer)
    except StopIteration as done:
        return done.value
    finally:
        call.close()
