"""What both stores share: schemas, versions, encoding, histories. The bytes are the backends'."""

from __future__ import annotations

import functools
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from tfrec.config.store import StoreConfig
from tfrec.store.decode import decode
from tfrec.store.encode import encode
from tfrec.store.errors import StoreError
from tfrec.store.interface import Columns, Request, Rows, Status
from tfrec.store.keys import HISTORIES, check_namespace, check_version, raw, texts
from tfrec.store.layout import RowSchema
from tfrec.store.recent import HISTORY_SCHEMA, ITEM, TIME, WEIGHT, entry, merged


@dataclass(frozen=True)
class Fetched:
    """Bytes of one namespace, all of one moment.

    Attributes:
        version: the live one.
        columns: its columns as text, ``RowSchema.json``.
        rows: [key] bytes, None where there are none.
        recent: [key] online parts, for histories.
    """

    version: str | None
    columns: str
    rows: Sequence[bytes | None]
    recent: Sequence[bytes | None] = ()


class BaseStore(ABC):
    """A feature store over a place for bytes.

    Fields of the place's small table (``meta``): ``live:<namespace>`` holds the version and its
    columns, ``<version> <JSON>``, so that a reader never knows the one without the other;
    ``schema:<namespace>:<version>`` holds the columns of every version that has rows,
    ``load:<version>`` the namespaces of a load, ``done:<version>:<source>`` how far it is.
    """

    def __init__(self, config: StoreConfig, clock: Any = time.time) -> None:
        self.config = config
        self._clock = clock
        self._schemas: dict[tuple[str, str], RowSchema] = {}

    # -- what a backend brings ---------------------------------------------------------------------

    @abstractmethod
    def _fetch(self, keys: Mapping[str, Sequence[str]]) -> dict[str, Fetched]:
        """Rows of several namespaces, each namespace's all of one live version."""

    @abstractmethod
    def _write(
        self,
        namespace: str,
        version: str,
        keys: Sequence[str],
        rows: pa.LargeBinaryArray,
        expires: int,
        meta: Mapping[str, str],
    ) -> None:
        """Writes rows, and then (or together with them) fields of the small table."""

    @abstractmethod
    def _append(self, events: Mapping[str, list[bytes]], expires: int) -> None:
        """Adds entries to online parts, by user."""

    @abstractmethod
    def _meta(self) -> dict[str, str]:
        """The small table."""

    @abstractmethod
    def _change(self, expect: Mapping[str, str], put: Mapping[str, str], drop: list[str]) -> bool:
        """Changes the small table at once, if the expected fields are as expected."""

    @abstractmethod
    def _delete(self, namespace: str, version: str) -> None:
        """Removes the rows of a version."""

    @abstractmethod
    def _count(self, namespace: str, version: str) -> int | None:
        """Rows of a version, or None where counting is dear."""

    @abstractmethod
    def ping(self) -> None:
        """Raises StoreUnavailable where the store does not answer."""

    @abstractmethod
    def close(self) -> None:
        """Frees connections and files."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Path or URL."""

    # -- reading -----------------------------------------------------------------------------------

    def get_many(
        self, namespace: str, keys: Sequence[str], names: Sequence[str] | None = None
    ) -> Rows:
        return self.get_groups({namespace: (keys, names)})[namespace]

    def get_groups(self, requests: Mapping[str, Request]) -> dict[str, Rows]:
        wanted = {check_namespace(n): texts(keys) for n, (keys, _) in requests.items()}
        fetched = self._fetch(wanted)
        return {n: self._rows(n, requests[n][1], found) for n, found in fetched.items()}

    def _rows(self, namespace: str, names: Sequence[str] | None, fetched: Fetched) -> Rows:
        if namespace == HISTORIES:
            return self._histories(names, fetched)
        if fetched.version is None:
            columns = {name: pa.nulls(len(fetched.rows)) for name in names or ()}
            return Rows(columns, np.zeros(len(fetched.rows), bool), None)
        schema = _parsed(fetched.columns)
        columns, found = decode(fetched.rows, schema, names, self._clock())
        return Rows(columns, found, fetched.version)

    def _histories(self, names: Sequence[str] | None, fetched: Fetched) -> Rows:
        # A version from before histories had weights has none.
        schema = HISTORY_SCHEMA if fetched.version is None else _parsed(fetched.columns)
        rated = WEIGHT in schema.names and (names is None or WEIGHT in names)
        wanted = [ITEM, TIME, WEIGHT] if rated else [ITEM, TIME]
        loaded, _ = decode(fetched.rows, schema, wanted, self._clock())
        unknown = pa.nulls(len(fetched.rows), HISTORY_SCHEMA.arrow.field(WEIGHT).type)
        items, times, weights = merged(
            loaded[ITEM],
            loaded[TIME],
            loaded.get(WEIGHT, unknown),
            fetched.recent,
            self.config.history_length,
        )
        columns = {ITEM: items, TIME: times, WEIGHT: weights}
        found = items.is_valid().to_numpy(zero_copy_only=False)
        for name in names or ():
            HISTORY_SCHEMA.arrow.field(name)
        return Rows({n: columns[n] for n in names or columns}, found, fetched.version)

    def _schema_of(self, namespace: str, version: str) -> RowSchema:
        """Columns to write a version with; they never change, so they are asked for once."""
        key = (namespace, version)
        if key not in self._schemas:
            text = self._meta().get(f"schema:{namespace}:{version}")
            if text is None:
                raise StoreError(f"version {version!r} of {namespace!r} has no columns; load again")
            self._schemas[key] = RowSchema.parse(text)
        return self._schemas[key]

    def schema(self, namespace: str) -> RowSchema | None:
        if namespace == HISTORIES:
            return HISTORY_SCHEMA
        fetched = self._fetch({check_namespace(namespace): []})[namespace]
        return None if fetched.version is None else _parsed(fetched.columns)

    def status(self) -> Status:
        meta = self._meta()
        live = {f[5:]: split_live(v) for f, v in sorted(meta.items()) if f.startswith("live:")}
        loads = {f[5:]: json.loads(v) for f, v in sorted(meta.items()) if f.startswith("load:")}
        counts = {n: self._count(n, str(v)) for n, (v, _) in live.items()}
        return Status(
            self.place,
            {n: str(v) for n, (v, _) in live.items()},
            {n: _parsed(columns) for n, (_, columns) in live.items()},
            loads,
            {n: c for n, c in counts.items() if c is not None} or None,
        )

    # -- writing -----------------------------------------------------------------------------------

    def put_many(
        self, namespace: str, keys: Sequence[str], columns: Columns, ttl: float | None = None
    ) -> int:
        version = self._fetch({check_namespace(namespace): []})[namespace].version
        if version is None:
            raise StoreError(
                f"rows are put into a live version; {namespace!r} has none; load one first: "
                f"begin(version, {{{namespace!r}: columns}}) ... commit()"
            )
        return self._put(namespace, version, keys, columns, ttl, {})

    def _put(
        self,
        namespace: str,
        version: str,
        keys: Sequence[str],
        columns: Columns,
        ttl: float | None,
        meta: Mapping[str, str],
    ) -> int:
        ids = texts(keys)
        table = columns if isinstance(columns, pa.Table) else _table(columns)
        if table.num_columns and table.num_rows != len(ids):
            raise StoreError(f"one row a key: got {len(ids)} keys and {table.num_rows} rows")
        ttl = self.config.ttl if ttl is None else ttl
        expires = int(self._clock() + ttl) if ttl else 0
        if not table.num_columns:  # Arrow gives a table without columns no rows
            raise StoreError("a row has at least one column; got none")
        rows = encode(table, self._schema_of(namespace, version), expires)
        self._write(namespace, version, ids, rows, expires, meta)
        return len(ids)

    def append_history(
        self, users: Sequence[str], items: Sequence[str], times: Any, weights: Any = None
    ) -> None:
        ids, things = texts(users), texts(items)
        seconds = np.asarray(times, np.int64).reshape(-1).tolist()
        rated = np.full(len(ids), np.nan) if weights is None else np.asarray(weights, np.float32)
        worth = rated.reshape(-1).tolist()
        if not len(ids) == len(things) == len(seconds) == len(worth):
            raise StoreError(
                f"one user, item, time and, if any, weight an event; got {len(ids)}, "
                f"{len(things)}, {len(seconds)}, {len(worth)}"
            )
        events: dict[str, list[bytes]] = {}
        for user, item, second, weight in zip(ids, things, seconds, worth, strict=True):
            events.setdefault(user, []).append(entry(raw(item), second, weight))
        if events:
            ttl = self.config.history_ttl
            self._append(events, int(self._clock() + ttl) if ttl else 0)

    # -- versions ----------------------------------------------------------------------------------

    def begin(
        self, version: str, namespaces: Mapping[str, Any] | None = None, mode: str = "new"
    ) -> VersionLoad:
        check_version(version)
        if mode not in ("new", "resume", "restart"):
            raise StoreError(f"mode is new, resume or restart; got {mode!r}")
        schemas = {check_namespace(n): _row_schema(n, s) for n, s in (namespaces or {}).items()}
        meta = self._meta()
        begun = meta.get(f"load:{version}")
        taken = [n for n in _live(meta) if _live(meta)[n] == version]
        if taken and begun is None:
            raise StoreError(f"a version is new; {version!r} is live in {taken}; choose another")
        if begun is not None and mode == "new":
            raise StoreError(
                f"version {version!r} is being loaded, or its loader was killed; "
                f"mode='resume' goes on with it, mode='restart' starts it over"
            )
        if begun is not None and mode == "resume":
            known = {n: RowSchema.parse(meta[f"schema:{n}:{version}"]) for n in json.loads(begun)}
            if schemas and known != schemas:
                raise StoreError(
                    f"version {version!r} was begun with other columns; use mode='restart'"
                )
            return VersionLoad(self, version, known)
        if begun is not None:
            VersionLoad(self, version, {}).abort()
        if not schemas:
            raise StoreError("a load names its namespaces and their columns; got none")
        self.prune()
        put = {f"schema:{n}:{version}": s.json for n, s in schemas.items()}
        put[f"load:{version}"] = json.dumps(sorted(schemas))
        self._change({}, put, [])
        for namespace, schema in schemas.items():
            self._schemas[namespace, version] = schema
        return VersionLoad(self, version, schemas)

    def prune(self) -> list[str]:
        """Removes versions that are neither live nor being loaded; ``begin`` does it by itself.

        The version before the live one stays until then, so a reader that was slow to notice the
        switch never finds half of it gone.

        Returns:
            ``namespace:version`` of what was removed.
        """
        meta = self._meta()
        live = _live(meta)
        loading = {f[5:] for f in meta if f.startswith("load:")}
        removed = []
        for field in meta:
            _, _, rest = field.partition("schema:")
            namespace, _, version = rest.partition(":")
            if not rest or version in loading or live.get(namespace) == version:
                continue
            self._delete(namespace, version)
            self._change({}, {}, [field])
            removed.append(rest)
        return removed


def split_live(value: str | None) -> tuple[str | None, str]:
    """Version and columns out of a field ``live:<namespace>``; None and '' where there is none."""
    version, _, columns = (value or "").partition(" ")
    return version or None, columns


def _live(meta: Mapping[str, str]) -> dict[str, str]:
    """Live version by namespace, in order."""
    fields = sorted(f for f in meta if f.startswith("live:"))
    return {f[5:]: str(split_live(meta[f])[0]) for f in fields}


@functools.lru_cache(maxsize=256)
def _parsed(columns: str) -> RowSchema:
    return RowSchema.parse(columns)


def _table(columns: Mapping[str, Any]) -> pa.Table:
    """A table from lists and arrays; rows of a matrix become vectors."""
    arrays = {}
    for name, values in columns.items():
        if isinstance(values, np.ndarray) and values.ndim == 2:
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            arrays[name] = values
    return pa.table(arrays)


def _row_schema(namespace: str, given: Any) -> RowSchema:
    schema = given if isinstance(given, RowSchema) else RowSchema.of(given)
    if namespace == HISTORIES and schema != HISTORY_SCHEMA:
        raise StoreError(
            f"{HISTORIES!r} has the columns {list(HISTORY_SCHEMA.columns)}; got "
            f"{list(schema.columns)}; use tfrec.store.HISTORY_SCHEMA"
        )
    return schema


class VersionLoad:
    """See :class:`tfrec.store.interface.Load`."""

    def __init__(self, store: BaseStore, version: str, schemas: Mapping[str, RowSchema]) -> None:
        self.version = version
        self.schemas = dict(schemas)
        self._store = store

    def put_many(
        self,
        namespace: str,
        keys: Sequence[str],
        columns: Columns,
        ttl: float | None = None,
        source: str = "",
        done: int = 0,
    ) -> int:
        if namespace not in self.schemas:
            raise StoreError(
                f"load {self.version!r} was begun for {sorted(self.schemas)}; got {namespace!r}"
            )
        if f"load:{self.version}" not in self._store._meta():
            raise self._over()
        meta = {f"done:{self.version}:{source}": str(done)} if source else {}
        return self._store._put(namespace, self.version, keys, columns, ttl, meta)

    def done(self, source: str) -> int:
        return int(self._store._meta().get(f"done:{self.version}:{source}", 0))

    def commit(self) -> None:
        meta = self._store._meta()
        field = f"load:{self.version}"
        expected = {field: meta.get(field, "")}
        live = {f"live:{n}": f"{self.version} {s.json}" for n, s in self.schemas.items()}
        if not expected[field] or not self._store._change(expected, live, self._fields(meta)):
            raise self._over()

    def _over(self) -> StoreError:
        return StoreError(
            f"version {self.version!r} is not being loaded: it was committed or aborted; begin a "
            f"new one"
        )

    def abort(self) -> None:
        meta = self._store._meta()
        for namespace in json.loads(meta.get(f"load:{self.version}", "[]")):
            if _live(meta).get(namespace) != self.version:
                self._store._delete(namespace, self.version)
                self._store._change({}, {}, [f"schema:{namespace}:{self.version}"])
        self._store._change({}, {}, self._fields(meta))

    def _fields(self, meta: Mapping[str, str]) -> list[str]:
        """Fields of the small table that belong to the load alone."""
        done = [f for f in meta if f.startswith(f"done:{self.version}:")]
        return [f"load:{self.version}", *done]

    def __enter__(self) -> VersionLoad:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves an uncommitted load as it is, to be resumed or restarted."""
