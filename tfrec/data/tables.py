"""Canonical tables: the one shape in which every log enters the house.

A folder holds ``interactions/part-*.parquet``, ``users.parquet``, ``items.parquet``,
``quarantine.jsonl`` and ``summary.json``. Attribute columns are strings, floats, lists of either,
or bytes (an encoded image).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tfrec.schema import EVENT, ITEM_ID, TIMESTAMP, USER_ID, WEIGHT

INTERACTIONS = "interactions"
USERS = "users.parquet"
ITEMS = "items.parquet"
TITLE = "title"
IMAGE_GROUP = 512  # rows of a group of ``items.parquet`` where it holds images

INTERACTION_SCHEMA = pa.schema(
    [
        (USER_ID, pa.string()),
        (ITEM_ID, pa.string()),
        (EVENT, pa.string()),
        (WEIGHT, pa.float32()),
        (TIMESTAMP, pa.int64()),
    ]
)
USER_SCHEMA = pa.schema([(USER_ID, pa.string())])
ITEM_SCHEMA = pa.schema([(ITEM_ID, pa.string())])

_ATTRIBUTES = (
    pa.string(),
    pa.float32(),
    pa.list_(pa.string()),
    pa.list_(pa.float32()),
    pa.binary(),
)
_RULE = "string, float32, list<string>, list<float32> or binary"


class DataError(ValueError):
    """Data that breaks a rule; the message names the rule, what arrived and how to mend it."""


@dataclass(frozen=True)
class Tables:
    """One log as Arrow tables.

    Attributes:
        interactions: ``user_id``, ``item_id``, ``event`` string; ``weight`` float32;
            ``timestamp`` int64 (seconds since 1970); context columns. In the log's order.
        users: ``user_id`` string, unique; attributes.
        items: ``item_id`` string, unique; attributes.
    """

    interactions: pa.Table
    users: pa.Table
    items: pa.Table


def check_table(table: pa.Table | pa.Schema, required: pa.Schema, origin: str) -> None:
    """Checks columns and types.

    Args:
        table: the table, or only its schema.
        required: columns that must be there, with their types.
        origin: named in the error.

    Raises:
        DataError: a column is missing or has a type that the canonical tables do not know.
    """
    schema = table if isinstance(table, pa.Schema) else table.schema
    for column in required:
        if column.name not in schema.names:
            raise DataError(
                f"{origin}: the column {column.name!r} ({column.type}) is missing; there are "
                f"{schema.names}; map a column of the raw file to it"
            )
        if schema.field(column.name).type != column.type:
            raise DataError(
                f"{origin}: the column {column.name!r} is {column.type}; got "
                f"{schema.field(column.name).type}; write the folder with tfrec.data.write_tables"
            )
    for column in schema:
        if column.name not in required.names and column.type not in _ATTRIBUTES:
            raise DataError(
                f"{origin}: an attribute column is {_RULE}; got {column.name!r} as {column.type}; "
                f"cast it with tfrec.data.canonical first"
            )


def canonical(table: pa.Table, required: pa.Schema) -> pa.Table:
    """Casts a table to canonical types; required columns come first.

    Whole numbers in an attribute become floats, dictionaries and large strings plain strings.

    Raises:
        DataError: a required column is missing, or a type has no canonical counterpart.
    """
    names = [n for n in required.names if n in table.column_names]
    names += [n for n in table.column_names if n not in required.names]
    columns = []
    for name in names:
        column = table.column(name)
        wanted = required.field(name).type if name in required.names else _nearest(column.type)
        if wanted is not None and column.type != wanted:
            # Large whole numbers may lose digits as floats; ids and times stay strict.
            column = column.cast(wanted, safe=name in required.names)
        columns.append(column)
    result = pa.table(columns, names=names)
    check_table(result, required, "table")
    return result


def _nearest(given: pa.DataType) -> pa.DataType | None:
    """The canonical attribute type nearest to ``given``; None where there is none."""
    if pa.types.is_dictionary(given):
        return _nearest(given.value_type)
    if (
        pa.types.is_list(given)
        or pa.types.is_large_list(given)
        or pa.types.is_fixed_size_list(given)
    ):
        inner = _nearest(given.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_boolean(given) or pa.types.is_null(given):
        return pa.string()
    if pa.types.is_integer(given) or pa.types.is_floating(given):
        return pa.float32()
    if pa.types.is_string(given) or pa.types.is_large_string(given):
        return pa.string()
    if pa.types.is_binary(given) or pa.types.is_large_binary(given):
        return pa.binary()
    return None


def write_interactions(
    parts: Iterable[pa.Table], directory: Path, rows_per_part: int = 1_000_000
) -> Iterator[pa.Table]:
    """Writes parts as they come and hands each on once it is written.

    Args:
        parts: canonical interactions.
        directory: the canonical folder; must not hold interactions yet.
        rows_per_part: a new file begins once one holds that many rows.

    Yields:
        Each table, after it was written.
    """
    folder = directory / INTERACTIONS
    folder.mkdir(parents=True)
    writer: pq.ParquetWriter | None = None
    number = written = 0
    try:
        for part in parts:
            if writer is None:
                path = folder / f"part-{number:05d}.parquet"
                writer = pq.ParquetWriter(path, part.schema, compression="zstd")
                number, written = number + 1, 0
            writer.write_table(part)
            written += part.num_rows
            if written >= rows_per_part:
                writer.close()
                writer = None
            yield part
    finally:
        if writer is not None:
            writer.close()


def write_tables(tables: Tables, directory: str | Path) -> None:
    """Writes a canonical folder; the tables are cast to canonical types and checked first.

    Raises:
        DataError: the tables break a rule.
        FileExistsError: the folder already holds interactions.
    """
    directory = Path(directory)
    interactions = canonical(tables.interactions, INTERACTION_SCHEMA)
    users, items = canonical(tables.users, USER_SCHEMA), canonical(tables.items, ITEM_SCHEMA)
    check_rows(interactions, users, items)
    step = 1_000_000
    slices = (interactions.slice(at, step) for at in range(0, interactions.num_rows, step))
    for _ in write_interactions(slices, directory, step):
        pass
    write_attributes(users, items, directory)


def write_attributes(users: pa.Table, items: pa.Table, directory: Path) -> None:
    """Writes ``users.parquet`` and ``items.parquet`` of a canonical folder."""
    pq.write_table(users, directory / USERS, compression="zstd")
    # Images make rows large: small groups let a reader take a range without the rest.
    heavy = any(pa.types.is_binary(column.type) for column in items.schema)
    size = IMAGE_GROUP if heavy else None
    pq.write_table(items, directory / ITEMS, compression="zstd", row_group_size=size)


def check_rows(interactions: pa.Table, users: pa.Table, items: pa.Table) -> None:
    """Checks what a schema cannot say: some rows, no null ids, each attribute row once.

    Raises:
        DataError: see above.
    """
    for table, name in ((interactions, INTERACTIONS), (users, USERS), (items, ITEMS)):
        if table.num_rows == 0:
            raise DataError(
                f"{name}: at least one row is needed; got none; see the counts by reason in "
                f"summary.json, or loosen the filters"
            )
    required = [(interactions, n) for n in INTERACTION_SCHEMA.names]
    for table, name in [*required, (users, USER_ID), (items, ITEM_ID)]:
        nulls = table.column(name).null_count
        if nulls:
            raise DataError(f"{name!r} is never null; got {nulls} nulls; drop or fill those rows")
    for table, name in ((users, USER_ID), (items, ITEM_ID)):
        distinct = len(table.column(name).unique())
        if distinct != table.num_rows:
            raise DataError(
                f"{name!r} is unique in its attribute table; got {table.num_rows} rows for "
                f"{distinct} ids; keep one row an id"
            )


def open_interactions(directory: str | Path) -> ds.Dataset:
    """The interactions as a dataset, read batch by batch (``to_batches``) in bounded memory.

    Raises:
        DataError: no canonical folder, or wrong columns.
    """
    folder = Path(directory) / INTERACTIONS
    files = sorted(folder.glob("part-*.parquet"))
    if not files:
        raise DataError(
            f"{folder}: a canonical folder holds part-*.parquet files; got none; make it "
            f"with tfrec.data.prepare(config, folder)"
        )
    dataset = ds.dataset([str(f) for f in files], format="parquet")
    check_table(dataset.schema, INTERACTION_SCHEMA, str(folder))
    return dataset


def _read_attributes(path: Path, required: pa.Schema, without: Sequence[str] = ()) -> pa.Table:
    if not path.exists():
        raise DataError(f"{path}: no such file; a canonical folder holds it; prepare it again")
    kept = [name for name in pq.read_schema(path).names if name not in without]
    table = pq.read_table(path, columns=kept)
    check_table(table, required, str(path))
    return table


def read_users(directory: str | Path) -> pa.Table:
    """The users of a canonical folder, checked for columns and types."""
    return _read_attributes(Path(directory) / USERS, USER_SCHEMA)


def read_items(directory: str | Path, without: Sequence[str] = ()) -> pa.Table:
    """The items of a canonical folder, checked for columns and types.

    Args:
        directory: the folder.
        without: columns that are not read, as large images.
    """
    return _read_attributes(Path(directory) / ITEMS, ITEM_SCHEMA, without)


def read_item_range(directory: str | Path, start: int, rows: int) -> pa.Table:
    """Some rows of the items, in the table's order; reads no more row groups than it needs."""
    file = pq.ParquetFile(Path(directory) / ITEMS)
    ends = np.cumsum([file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)])
    first, last = np.searchsorted(ends, [start, start + rows - 1], side="right")
    groups = range(int(first), min(int(last), len(ends) - 1) + 1)
    if not groups:
        return file.schema_arrow.empty_table()
    before = int(ends[first - 1]) if first else 0
    return file.read_row_groups(list(groups)).slice(start - before, rows)


def read_tables(directory: str | Path) -> Tables:
    """Reads and checks a canonical folder wholly into memory.

    Raises:
        DataError: a file or column is missing, a type is wrong, a table is empty, an id is null or
            stands twice among the attributes.
    """
    tables = Tables(
        open_interactions(directory).to_table(), read_users(directory), read_items(directory)
    )
    check_rows(tables.interactions, tables.users, tables.items)
    return tables


def titles(items: pa.Table) -> list[str]:
    """What is shown to people: the ``title`` of each item, or its id where there is none."""
    ids = items.column(ITEM_ID).to_pylist()
    if TITLE not in items.column_names or items.schema.field(TITLE).type != pa.string():
        return ids
    shown = items.column(TITLE).to_pylist()
    return [title or item for title, item in zip(shown, ids, strict=True)]
