"""Point-in-time joins: what was known of a key when an event happened, and never what came later.

A training row must hold the features as they were served. Joining the newest values instead leaks
the future: the model learns from prices that had not changed yet and looks better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tfrec.store.errors import StoreError


def point_in_time_join(
    events: pa.Table,
    values: pa.Table,
    key: str,
    time: str = "timestamp",
    *,
    tolerance: int | None = None,
    at_event: bool = False,
    names: Sequence[str] | None = None,
) -> pa.Table:
    """Joins to each event the last values of its key before it.

    Both tables are sorted together once and the last value is carried forward: O(n log n), no
    Python per row.

    Args:
        events: [event] with ``key`` and ``time`` (int64).
        values: [value] with ``key``, ``time`` and the columns to join; in any order. Of several
            rows of one key and time the last in the table counts.
        key: column of the ids, in both tables.
        time: column of the times, in both tables and in one unit.
        tolerance: values older than this, in the unit of ``time``, are not joined; None is any age.
        at_event: whether a value of the very time of the event counts as known. False is safe
            where the event itself may have caused the value.
        names: columns joined; all but key and time if None.

    Returns:
        ``events`` in their order with the columns joined, null where nothing was known, and
        ``<time>_of_values`` int64, null there too.

    Raises:
        StoreError: a column is missing, stands in both tables, or has nulls where ids and times
            are needed.
    """
    joined = [n for n in values.column_names if n not in (key, time)] if names is None else names
    for table, what in ((events, "events"), (values, "values")):
        _check(table, what, key, time)
    for name in joined:
        if name not in values.column_names:
            raise StoreError(f"values have no column {name!r}; there are {values.column_names}")
    stamp = f"{time}_of_values"
    twice = sorted({*joined, stamp} & set(events.column_names))
    if twice:
        raise StoreError(f"a joined column is new to the events; got {twice} twice; rename them")
    n, m = events.num_rows, values.num_rows
    codes = _codes(events.column(key), values.column(key))
    when = np.concatenate([_times(events, time), _times(values, time)])
    is_value = np.arange(n + m) >= n
    # of equal times, what is known comes first
    rank = ~is_value if at_event else is_value
    order = np.lexsort((rank, when, codes))
    carried = np.maximum.accumulate(np.where(is_value[order], np.arange(n + m), -1))
    source = np.where(carried >= 0, order[np.maximum(carried, 0)], -1)
    known = (source >= 0) & (codes[source] == codes[order])
    if tolerance is not None:
        known &= when[order] - when[source] <= tolerance
    place = np.full(n + m, -1, np.int64)
    place[order] = np.where(known, source - n, -1)
    place = place[:n]
    take = pa.array(np.maximum(place, 0), mask=place < 0)
    out = events
    for name in joined:
        out = out.append_column(name, values.column(name).combine_chunks().take(take))
    return out.append_column(stamp, pa.array(_times(values, time)).take(take))


def _check(table: pa.Table, what: str, *columns: str) -> None:
    for name in columns:
        if name not in table.column_names:
            raise StoreError(f"{what} have no column {name!r}; there are {table.column_names}")
        nulls = table.column(name).null_count
        if nulls:
            raise StoreError(f"{what}: {name!r} is never null; got {nulls} nulls; drop those rows")


def _times(table: pa.Table, time: str) -> np.ndarray:
    return table.column(time).cast(pa.int64()).to_numpy()


def _codes(one: pa.ChunkedArray, other: pa.ChunkedArray) -> np.ndarray:
    """The keys of both as codes of one dictionary."""
    both = [*one.chunks, *other.cast(one.type).chunks]
    return pa.chunked_array(both, one.type).combine_chunks().dictionary_encode().indices.to_numpy()
