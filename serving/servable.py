"""What is served under one name and version, and what a request borrows while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from serving.bundle import Signature, TensorRef
from serving.errors import ServingError
from serving.versions import Fingerprint


class Runner(Protocol):
    """Runs a graph: a :class:`~serving.bundle.Bundle`, or batching around one."""

    @property
    def signatures(self) -> Mapping[str, Signature]: ...

    @property
    def signature_defs(self) -> Mapping[str, Any]: ...

    def run(
        self,
        feeds: Sequence[tuple[TensorRef, NDArray[Any]]],
        fetches: Sequence[TensorRef],
        timeout_s: float | None = None,
    ) -> list[NDArray[Any]]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Servable:
    """A loaded version, ready to answer."""

    name: str
    version: int
    runner: Runner


class State(IntEnum):
    """States of ``ModelVersionStatus``, with its numbers."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class Version:
    """The manager's record of one version, kept after END so that its error can be asked for."""

    name: str
    number: int
    path: Path
    state: State = State.START
    error: ServingError | None = None
    note: str = ""
    servable: Servable | None = None
    in_flight: int = 0
    attempts: int = 0
    next_attempt: float = 0.0
    tried: Fingerprint | None = None

    @property
    def pending(self) -> bool:
        """Not served yet, and not failed."""
        return self.state in (State.START, State.LOADING)

    @property
    def failed(self) -> bool:
        return self.state is State.END and self.error is not None
