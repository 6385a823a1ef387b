"""The one interface of both stores.

>>> store = open_store(StoreConfig(path="store.lmdb"))
>>> with store.begin("v1", {"users": {"age": "string"}}) as load:
...     load.put_many("users", ["u1", "u2"], {"age": ["18-24", None]})
...     load.commit()
>>> store.get_many("users", ["u2", "u1", "nobody"]).columns["age"].to_pylist()
[None, '18-24', None]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from tfrec.store.layout import RowSchema

Columns: TypeAlias = "pa.Table | Mapping[str, Any]"
"""Values by column: an Arrow table, or arrays and lists by name, all [row]."""
Request: TypeAlias = "tuple[Sequence[str], Sequence[str] | None]"
"""Keys, and the names of the columns wanted (None: all)."""


@dataclass(frozen=True)
class Rows:
    """What was read.

    Attributes:
        columns: Arrow arrays by name, [key]; null where the row or the value is missing.
        found: bool [key], whether there is a row.
        version: the version that all of it is of; None where none is live.
    """

    columns: dict[str, pa.Array]
    found: np.ndarray
    version: str | None


@dataclass(frozen=True)
class Status:
    """What a store holds.

    Attributes:
        place: path or URL.
        live: version by namespace.
        columns: columns of the live versions.
        loading: namespaces of the loads that were begun and neither committed nor aborted.
        rows: rows of the live versions, where the store can count them cheaply; else None.
    """

    place: str
    live: dict[str, str]
    columns: dict[str, RowSchema]
    loading: dict[str, list[str]]
    rows: dict[str, int] | None = None


class Load(Protocol):
    """A version that is being written; readers see nothing of it before :meth:`commit`."""

    version: str

    def put_many(
        self,
        namespace: str,
        keys: Sequence[str],
        columns: Columns,
        ttl: float | None = None,
        source: str = "",
        done: int = 0,
    ) -> int:
        """Writes rows; one that is there already is replaced, so a repeated call does no harm.

        Args:
            namespace: one that ``begin`` named.
            keys: [row] ids.
            columns: [row] values; a column left out is missing in all rows.
            ttl: seconds to live; the store's own where None.
            source, done: kept together with the rows, for a load that resumes.
        """

    def done(self, source: str) -> int:
        """The last ``done`` of a source; 0 at the start."""

    def commit(self) -> None:
        """Makes the version live in all its namespaces at once."""

    def abort(self) -> None:
        """Drops the version."""

    def __enter__(self) -> Load: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves an uncommitted load as it is, to be resumed or restarted."""


class FeatureStore(Protocol):
    """Rows by namespace and key. Safe to share between threads; a fork opens its own."""

    def get_many(
        self, namespace: str, keys: Sequence[str], names: Sequence[str] | None = None
    ) -> Rows:
        """Reads rows, all of one version.

        Raises:
            StoreUnavailable: the store is down or slow.
            StoreError: an unknown column.
        """

    def get_groups(self, requests: Mapping[str, Request]) -> dict[str, Rows]:
        """Reads from several namespaces in one round trip."""

    def put_many(
        self, namespace: str, keys: Sequence[str], columns: Columns, ttl: float | None = None
    ) -> int:
        """Replaces whole rows of the live version; the next version does not have them."""

    def append_history(
        self, users: Sequence[str], items: Sequence[str], times: Any, weights: Any = None
    ) -> None:
        """Adds events, seen by the next read; survives the switch of versions.

        Args:
            users, items: [event] ids.
            times: int64 [event], seconds since 1970.
            weights: float [event], ratings; NaN, or None for all, where there is none.
        """

    def begin(
        self, version: str, namespaces: Mapping[str, Any] | None = None, mode: str = "new"
    ) -> Load:
        """Starts a version, or goes on with one whose loader was killed.

        Args:
            version: a name never used before, e.g. a date.
            namespaces: columns of each: a ``RowSchema``, an Arrow schema or kinds by name. Those
                not named keep their live version. Not needed to resume.
            mode: ``new``, ``resume`` (goes on with what is there) or ``restart`` (drops it first).
        """

    def schema(self, namespace: str) -> RowSchema | None:
        """Columns of the live version; None where there is none."""

    def status(self) -> Status: ...

    def ping(self) -> None:
        """Raises StoreUnavailable where the store does not answer."""

    def close(self) -> None: ...
