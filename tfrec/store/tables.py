"""A canonical folder into a store: users, items and histories become one version, all or nothing.

The folder is read a block at a time; how far each file is stands in the store beside its rows, so a
load that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tfrec.schema import ITEM_ID, TIMESTAMP, USER_ID
from tfrec.schema import WEIGHT as EVENT_WEIGHT
from tfrec.store.errors import StoreError
from tfrec.store.interface import FeatureStore, Load
from tfrec.store.keys import HISTORIES, ITEM_VECTORS, ITEMS, USER_VECTORS, USERS
from tfrec.store.layout import RowSchema
from tfrec.store.ragged import offsets, positions
from tfrec.store.recent import HISTORY_SCHEMA, ITEM, TIME, WEIGHT

BLOCK = 20_000  # rows written at a time
Say = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """One file that becomes one namespace."""

    namespace: str
    path: Path
    key: str


def sources(
    folder: str | Path,
    user_vectors: str | Path | None = None,
    item_vectors: str | Path | None = None,
) -> list[Source]:
    """What a canonical folder and files of vectors bring.

    Args:
        folder: canonical tables.
        user_vectors, item_vectors: Parquet with ``user_id`` or ``item_id`` and columns of floats.

    Raises:
        StoreError: a file is missing.
    """
    base = Path(folder)
    found = [
        Source(USERS, base / "users.parquet", USER_ID),
        Source(ITEMS, base / "items.parquet", ITEM_ID),
    ]
    if user_vectors is not None:
        found.append(Source(USER_VECTORS, Path(user_vectors), USER_ID))
    if item_vectors is not None:
        found.append(Source(ITEM_VECTORS, Path(item_vectors), ITEM_ID))
    for source in found:
        if not source.path.is_file():
            raise StoreError(f"{source.path}: a Parquet file is needed; got none there")
    return found


def load_tables(
    store: FeatureStore,
    folder: str | Path,
    version: str,
    *,
    user_vectors: str | Path | None = None,
    item_vectors: str | Path | None = None,
    history_length: int = 200,
    mode: str = "new",
    say: Say = lambda line: None,
) -> dict[str, int]:
    """Loads a canonical folder and makes it live.

    Args:
        store: where to.
        folder: canonical tables.
        version: its name, never used before.
        user_vectors, item_vectors: see :func:`sources`.
        history_length: newest events kept a user.
        mode: ``new``, ``resume`` or ``restart``; ``resume`` begins where nothing was begun.
        say: told of progress.

    Returns:
        Rows by namespace.

    Raises:
        StoreError: a file is missing or has columns that cannot be stored.
        StoreUnavailable: the store went away; the load can be resumed.
    """
    files = sources(folder, user_vectors, item_vectors)
    schemas = {s.namespace: _schema(s) for s in files if _columns(s)}
    schemas[HISTORIES] = HISTORY_SCHEMA
    counts = {}
    with store.begin(version, schemas, mode) as load:
        for source in files:
            if source.namespace in schemas:
                counts[source.namespace] = _load_file(load, source, schemas[source.namespace])
                say(f"{source.namespace}: {counts[source.namespace]:,} rows")
        counts[HISTORIES] = _load_histories(load, Path(folder), history_length)
        say(f"{HISTORIES}: {counts[HISTORIES]:,} rows")
        load.commit()
    return counts


def _columns(source: Source) -> list[pa.Field]:
    """Columns of a file that are stored: all but the id and images."""
    schema = pq.read_schema(source.path)
    if source.key not in schema.names:
        raise StoreError(
            f"{source.path}: the column {source.key!r} holds the keys; got {schema.names}"
        )
    return [f for f in schema if f.name != source.key and not pa.types.is_binary(f.type)]


def _schema(source: Source) -> RowSchema:
    fields = _columns(source)
    if source.namespace in (USER_VECTORS, ITEM_VECTORS):
        first = next(pq.ParquetFile(source.path).iter_batches(batch_size=1), None)
        fields = [pa.field(f.name, _as_vector(f, first)) for f in fields]
    return RowSchema.of(pa.schema(fields))


def _as_vector(field: pa.Field, first: pa.RecordBatch | None) -> pa.DataType:
    """Lists whose length the first row tells."""
    if not pa.types.is_list(field.type) or first is None or not first.num_rows:
        return field.type
    row = first.column(field.name)[0].as_py()
    return pa.list_(pa.float32(), len(row)) if row else field.type


def _load_file(load: Load, source: Source, schema: RowSchema) -> int:
    """Writes what is not written yet; returns the rows of the file."""
    name, begun = source.path.name, load.done(source.path.name)
    at = 0
    for batch in pq.ParquetFile(source.path).iter_batches(
        batch_size=BLOCK, columns=[source.key, *schema.names]
    ):
        end = at + batch.num_rows
        if end > begun:
            part = pa.Table.from_batches([batch]).slice(max(begun - at, 0))
            keys = part.column(source.key)
            load.put_many(source.namespace, keys, part.drop([source.key]), source=name, done=end)
        at = end
    return at


def _load_histories(load: Load, folder: Path, length: int) -> int:
    begun = load.done(HISTORIES)
    at = 0
    for users, columns in histories(folder, length):
        end = at + len(users)
        if end > begun:
            load.put_many(HISTORIES, users, columns, source=HISTORIES, done=end)
        at = end
    return at


def histories(folder: Path, length: int) -> Iterator[tuple[pa.Array, Mapping[str, pa.Array]]]:
    """The newest events of every user, oldest first, in blocks of users.

    Equal times keep the log's order. The codes of the whole log are in memory: 24 bytes an event.

    Yields:
        Users [block], and ``item`` list<string>, ``time`` list<int64> and, where the events'
        weights differ (ratings), ``weight`` list<float> [block].
    """
    files = sorted((folder / "interactions").glob("part-*.parquet"))
    if not files:
        raise StoreError(f"{folder / 'interactions'}: part-*.parquet is needed; got none")
    log = ds.dataset([str(f) for f in files], format="parquet")
    weighed = EVENT_WEIGHT in log.schema.names
    table = log.to_table([USER_ID, ITEM_ID, TIMESTAMP, *([EVENT_WEIGHT] if weighed else [])])
    weight = table.column(EVENT_WEIGHT).to_numpy().astype(np.float32) if weighed else None
    if weight is not None and len(weight) and (weight == weight[0]).all():
        weight = None  # all alike they tell nothing
    user = table.column(USER_ID).combine_chunks().dictionary_encode()
    item = table.column(ITEM_ID).combine_chunks().dictionary_encode()
    time = table.column(TIMESTAMP).to_numpy()
    codes = user.indices.to_numpy()
    order = np.lexsort((np.arange(len(codes)), time, codes))
    sizes = np.bincount(codes, minlength=len(user.dictionary)).astype(np.int64)
    ends = offsets(sizes)
    kept = np.minimum(sizes, length)
    item_codes = item.indices.to_numpy()
    for start in range(0, len(sizes), BLOCK):
        block = slice(start, min(start + BLOCK, len(sizes)))
        count = kept[block]
        rows = order[positions(ends[1:][block] - count, count)]
        lists = pa.array(offsets(count).astype(np.int32))
        columns = {
            ITEM: pa.ListArray.from_arrays(lists, item.dictionary.take(item_codes[rows])),
            TIME: pa.ListArray.from_arrays(lists, pa.array(time[rows])),
        }
        if weight is not None:
            columns[WEIGHT] = pa.ListArray.from_arrays(lists, pa.array(weight[rows]))
        yield user.dictionary[block], columns
