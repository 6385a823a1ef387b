"""Writes a feature store from a Beam job: any runner, retried bundles harmless, one switch at last.

    begin_version(config, "2026-11-24", {"users": {"age": "string"}})      # before the job
    with beam.Pipeline() as p:
        counts = users | WriteRows(config, "2026-11-24", "users", key="user_id")
        (counts,) | CommitVersion(config, "2026-11-24")

Rows are dictionaries. A bundle that is tried again writes the same rows to the same keys. The
version becomes live when every row of every collection is written; a job that fails leaves the old
one live.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa

from tfrec.config import StoreConfig
from tfrec.store import FeatureStore, StoreError, open_store
from tfrec.store.keys import texts

BATCH = 2000  # most rows of a write


def begin_version(
    config: StoreConfig, version: str, namespaces: Mapping[str, Any], mode: str = "new"
) -> None:
    """Begins the version that a job will write; see ``FeatureStore.begin``."""
    store = open_store(config)
    try:
        store.begin(version, namespaces, mode)
    finally:
        store.close()


class _Write(beam.DoFn):
    """Lists of rows into the store; gives the number of rows written."""

    def __init__(self, config: StoreConfig, version: str, namespace: str, key: str) -> None:
        super().__init__()
        # plain types: workers may have been started from another copy of the classes
        self._config, self._version = config.model_dump(), version
        self._namespace, self._key = namespace, key
        self._store: FeatureStore | None = None

    def setup(self) -> None:
        self._store = open_store(StoreConfig.model_validate(self._config))
        self._load = self._store.begin(self._version, mode="resume")

    def process(self, rows: list[dict[str, Any]]) -> Iterator[int]:
        schema = self._load.schemas[self._namespace]  # type: ignore[attr-defined]
        unknown = sorted({n for row in rows for n in row} - {*schema.names, self._key})
        if unknown:
            raise StoreError(
                f"rows of {self._namespace!r} have {self._key!r} and {list(schema.names)}; got "
                f"also {unknown}; leave them out, or begin the version with them"
            )
        keys = texts(row.get(self._key) for row in rows)
        table = pa.Table.from_pylist(rows, schema=schema.arrow)
        yield self._load.put_many(self._namespace, keys, table)

    def teardown(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


class WriteRows(beam.PTransform):
    """Dictionaries into one namespace of a version that was begun.

    Args:
        config: the store.
        version: what ``begin_version`` was given.
        namespace: one of its namespaces.
        key: entry of a row that is its key.

    Returns:
        Numbers of rows written, to be handed to :class:`CommitVersion`.
    """

    def __init__(self, config: StoreConfig, version: str, namespace: str, key: str) -> None:
        super().__init__()
        self._write = _Write(config, version, namespace, key)

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return (
            rows
            | "Batch" >> beam.BatchElements(min_batch_size=100, max_batch_size=BATCH)
            | "Write" >> beam.ParDo(self._write)
        )


class _Commit(beam.DoFn):
    """Makes the version live; again where it is already is no error."""

    def __init__(self, config: StoreConfig, version: str) -> None:
        super().__init__()
        self._config, self._version = config.model_dump(), version

    def process(self, count: int) -> Iterator[int]:
        store = open_store(StoreConfig.model_validate(self._config))
        try:
            status = store.status()
            if self._version in status.loading:
                store.begin(self._version, mode="resume").commit()
            elif self._version not in status.live.values():
                raise StoreError(
                    f"version {self._version!r} was begun and is being loaded; it is not: it was "
                    f"aborted meanwhile; begin it and run the job again"
                )
        finally:
            store.close()
        yield count


class CommitVersion(beam.PTransform):
    """Waits for every row of all the collections it is given, then switches.

    Returns:
        One number: rows written by bundles that succeeded.
    """

    def __init__(self, config: StoreConfig, version: str) -> None:
        super().__init__()
        self._commit = _Commit(config, version)

    def expand(self, counts: Any) -> beam.PCollection:
        return (
            tuple(counts)
            | beam.Flatten()
            | beam.CombineGlobally(sum)
            | "Commit" >> beam.ParDo(self._commit)
        )
