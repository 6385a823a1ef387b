"""The embedded store: one memory-mapped file, one writer at a time, any number of readers.

A reader sees the file as it was when it began, so a switch of versions cannot fall between two of
its keys, and a writer that is killed leaves the last whole transaction.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from tfrec.config.store import StoreConfig
from tfrec.store.base import BaseStore, Fetched, split_live
from tfrec.store.errors import StoreError, StoreUnavailable
from tfrec.store.keys import HISTORIES, lmdb_keys, lmdb_prefix
from tfrec.store.recent import appended

DELETE_ROWS = 20_000  # a transaction; others may write between two
META = b"\0"  # no namespace begins with it
RECENT = b"\1"
_EXPIRES = 8  # bytes before an online part: seconds since 1970, 0 is never

# LMDB forbids a process to open a file twice, so all stores of a process share the environment.
_open: dict[str, list[Any]] = {}
_lock = threading.Lock()


def _environment(path: str, config: StoreConfig) -> Any:
    import lmdb

    with _lock:
        if path not in _open:
            if not os.path.exists(path) and not os.path.isdir(os.path.dirname(path)):
                raise StoreError(f"{path}: the store's folder is there; got none; make it first")
            readonly = os.path.exists(path) and not os.access(path, os.W_OK)
            try:
                made = lmdb.open(
                    path,
                    subdir=False,
                    map_size=int(config.map_size_gib * 2**30),
                    readonly=readonly,
                    lock=not readonly,
                    readahead=False,
                    max_readers=1024,
                )
            except lmdb.Error as error:
                raise StoreError(f"{path}: an LMDB file is needed; got {error}") from None
            _open[path] = [made, 0, os.getpid()]
        _open[path][1] += 1
        return _open[path][0]


def _release(path: str) -> None:
    with _lock:
        entry = _open.get(path)
        if entry is None:
            return
        entry[1] -= 1
        if entry[1] == 0:
            del _open[path]
            if entry[2] == os.getpid():  # a fork must not touch its parent's environment
                entry[0].close()


class LmdbStore(BaseStore):
    """See :class:`tfrec.store.interface.FeatureStore`.

    Args:
        config: ``path`` names the file; it is made if it is not there.
        clock: seconds since 1970.

    Raises:
        StoreError: no LMDB file, or no folder for it.
    """

    def __init__(self, config: StoreConfig, clock: Any = time.time) -> None:
        super().__init__(config, clock)
        self._path = os.path.realpath(config.path)
        self._env: Any = _environment(self._path, config)

    @property
    def place(self) -> str:
        return self._path

    @contextmanager
    def _transaction(self, write: bool = False) -> Iterator[Any]:
        import lmdb

        if self._env is None:
            raise StoreUnavailable(f"{self._path}: the store was closed; open it again")
        try:
            with self._env.begin(write=write) as txn:
                yield txn
        except lmdb.MapFullError:
            raise StoreError(
                f"{self._path}: the file holds at most {self.config.map_size_gib} GiB; it is full; "
                f"raise store.map_size_gib"
            ) from None
        except lmdb.ReadonlyError:
            raise StoreError(f"{self._path}: the file is read-only here; write elsewhere") from None
        except lmdb.Error as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error

    def _fetch(self, keys: Mapping[str, Sequence[str]]) -> dict[str, Fetched]:
        out = {}
        with self._transaction() as txn, txn.cursor() as cursor:
            for namespace, ids in keys.items():
                live = txn.get(META + f"live:{namespace}".encode())
                version, columns = split_live(None if live is None else live.decode())
                rows: Sequence[bytes | None] = [None] * len(ids)
                if version is not None:
                    rows = _get(cursor, lmdb_keys(lmdb_prefix(namespace, version), ids))
                recent: Sequence[bytes | None] = ()
                if namespace == HISTORIES:
                    now = self._clock()
                    values = _get(cursor, lmdb_keys(RECENT, ids))
                    recent = [_unexpired(v, now) for v in values]
                out[namespace] = Fetched(version, columns, rows, recent)
        return out

    def _write(
        self,
        namespace: str,
        version: str,
        keys: Sequence[str],
        rows: pa.LargeBinaryArray,
        expires: int,
        meta: Mapping[str, str],
    ) -> None:
        names = lmdb_keys(lmdb_prefix(namespace, version), keys)
        pairs = sorted(dict(zip(names, rows.to_pylist(), strict=True)).items())
        with self._transaction(write=True) as txn:
            with txn.cursor() as cursor:
                cursor.putmulti(pairs)
            for field, value in meta.items():
                txn.put(META + field.encode(), value.encode())

    def _append(self, events: Mapping[str, list[bytes]], expires: int) -> None:
        names = lmdb_keys(RECENT, list(events))
        head = expires.to_bytes(_EXPIRES, "little")
        with self._transaction(write=True) as txn:
            now = self._clock()
            for name, new in zip(names, events.values(), strict=True):
                old = _unexpired(txn.get(name), now)
                txn.put(name, head + appended(old, new, self.config.history_length))

    def _meta(self) -> dict[str, str]:
        with self._transaction() as txn, txn.cursor() as cursor:
            return {k[1:].decode(): v.decode() for k, v in _range(cursor, META)}

    def _change(self, expect: Mapping[str, str], put: Mapping[str, str], drop: list[str]) -> bool:
        with self._transaction(write=True) as txn:
            for field, value in expect.items():
                if txn.get(META + field.encode()) != value.encode():
                    return False
            for field in drop:
                txn.delete(META + field.encode())
            for field, value in put.items():
                txn.put(META + field.encode(), value.encode())
        return True

    def _delete(self, namespace: str, version: str) -> None:
        prefix = lmdb_prefix(namespace, version)
        more = True
        while more:
            with self._transaction(write=True) as txn, txn.cursor() as cursor:
                more = cursor.set_range(prefix)
                for _ in range(DELETE_ROWS):
                    if not more or not cursor.key().startswith(prefix):
                        more = False
                        break
                    more = cursor.delete()

    def _count(self, namespace: str, version: str) -> int | None:
        prefix = lmdb_prefix(namespace, version)
        with self._transaction() as txn, txn.cursor() as cursor:
            count = 0
            if cursor.set_range(prefix):
                for key in cursor.iternext(values=False):
                    if not key.startswith(prefix):
                        break
                    count += 1
            return count

    def sweep(self) -> int:
        """Removes online parts of histories that have expired; returns how many."""
        gone = 0
        with self._transaction(write=True) as txn, txn.cursor() as cursor:
            now = self._clock()
            names = [k for k, v in _range(cursor, RECENT) if _unexpired(v, now) is None]
            for name in names:
                gone += txn.delete(name)
        return gone

    def ping(self) -> None:
        if not Path(self._path).exists():
            raise StoreUnavailable(f"{self._path}: no such file")
        with self._transaction() as txn:
            txn.get(META)

    def close(self) -> None:
        if self._env is not None:
            self._env = None
            _release(self._path)


def _get(cursor: Any, keys: Sequence[bytes]) -> Sequence[bytes | None]:
    """Values by key; one call for all of them."""
    if not keys:
        return []
    found = cursor.getmulti(keys)
    if len(found) == len(keys):
        return [value for _, value in found]
    known = dict(found)
    return [known.get(key) for key in keys]


def _range(cursor: Any, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    if cursor.set_range(prefix):
        for key, value in cursor.iternext():
            if not key.startswith(prefix):
                return
            yield key, value


def _unexpired(value: bytes | None, now: float) -> bytes | None:
    if value is None:
        return None
    expires = int.from_bytes(value[:_EXPIRES], "little")
    return value[_EXPIRES:] if expires == 0 or expires > now else None
