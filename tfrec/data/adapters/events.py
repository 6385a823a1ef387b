"""Events of one raw file, by a column map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from tfrec.config import TableMap
from tfrec.data.adapters.blocks import (
    BAD_TIME,
    DUPLICATE,
    NOT_A_NUMBER,
    Marks,
    mark_rules,
    read_blocks,
    require_rows,
    type_of,
    wanted_columns,
    without_missing,
)
from tfrec.data.convert import as_text, to_attribute, to_id, to_number, to_seconds
from tfrec.data.duplicates import first_rows, raw_lines
from tfrec.data.quarantine import Quarantine
from tfrec.data.raw import Block
from tfrec.data.tables import DataError
from tfrec.schema import EVENT, ITEM_ID, TIMESTAMP, USER_ID, WEIGHT, FeatureTable

DEFAULT_EVENT = "purchase"


def read_interactions(
    path: Path,
    table: TableMap,
    features: FeatureTable,
    quarantine: Quarantine,
    keep_raw: tuple[str, ...] = (),
    names: tuple[str, ...] | None = None,
    event: str = DEFAULT_EVENT,
) -> tuple[pa.Table, pa.Table]:
    """Reads the events of one file.

    Args:
        path: the raw file.
        table: its column map; must name ``user_id`` and ``item_id``.
        features: say which type context columns have.
        quarantine: keeps the rows that cannot be used.
        keep_raw: raw columns handed back beside the events.
        names: names of the columns where the file has no header.
        event: kind of event where the map names no ``event`` column.

    Returns:
        Canonical interactions in the file's order, and the raw columns of the same rows.

    Raises:
        DataError: the map lacks an id, the file a column, or too many rows are malformed.
    """
    lacking = [n for n in (USER_ID, ITEM_ID) if n not in table.columns]
    if lacking:
        raise DataError(
            f"{path}: a column map of interactions names user_id and item_id; got "
            f"{sorted(table.columns)}; add {lacking}"
        )
    parts, raws, lines = [], [], []
    label = quarantine.label(path)
    for block in read_blocks(path, table, wanted_columns(table, keep_raw), quarantine, names):
        marks = Marks(block.table.num_rows)
        mark_rules(block, table, marks)
        part = _events(block, table, features, marks, event)
        kept = pa.array(marks.report(block, label, quarantine))
        parts.append(part.take(kept))
        raws.append(
            pa.table(
                [as_text(block.table.column(n)).take(kept).dictionary_encode() for n in keep_raw],
                names=list(keep_raw),
            )
        )
        lines.append(block.lines[kept.to_numpy()])
    require_rows(path, parts)
    events, raw = pa.concat_tables(parts), pa.concat_tables(raws)
    numbers = np.concatenate(lines)
    if TIMESTAMP not in table.columns:
        return events, raw
    first = first_rows(events)
    if len(first) < events.num_rows:
        repeated = np.ones(events.num_rows, bool)
        repeated[first] = False
        again = np.flatnonzero(repeated)
        at = numbers[again]
        texts = raw_lines(path, at, table.encoding)
        quarantine.add(label, at.tolist(), [DUPLICATE] * len(at), texts)
        quarantine.finish_file(label, quarantine.rows[label])
        events = events.take(pa.array(first))
        raw = raw.take(pa.array(first)) if keep_raw else raw
    return events, raw


def _events(
    block: Block, table: TableMap, features: FeatureTable, marks: Marks, event: str
) -> pa.Table:
    """A block's rows as canonical events; those that are none are marked."""
    n = block.table.num_rows
    raw = {name: block.table.column(column) for name, column in table.columns.items()}
    out: dict[str, pa.Array] = {}
    for name in (USER_ID, ITEM_ID):
        out[name], missing = to_id(raw.pop(name))
        marks.add(missing, f"missing_{name}")
    if EVENT in raw:
        out[EVENT] = as_text(raw.pop(EVENT))
        marks.add(out[EVENT].is_null().to_numpy(zero_copy_only=False), "missing_event")
    else:
        out[EVENT] = pa.repeat(event, n)
    if WEIGHT in raw:
        numbers, bad = to_number(raw.pop(WEIGHT))
        marks.add(bad | np.isnan(numbers), NOT_A_NUMBER)
        out[WEIGHT] = pa.array(np.nan_to_num(numbers).astype(np.float32))
    else:
        out[WEIGHT] = pa.array(np.ones(n, np.float32))
    if TIMESTAMP in raw:
        seconds, bad = to_seconds(raw.pop(TIMESTAMP), table.timestamp_format)
        marks.add(bad, BAD_TIME)
        out[TIMESTAMP] = pa.array(seconds)
    else:
        out[TIMESTAMP] = pa.array(block.lines.astype(np.int64))
    for name, column in raw.items():
        values = without_missing(column, table)
        out[name], bad = to_attribute(values, type_of(name, table, features))
        marks.add(bad, NOT_A_NUMBER)
    return pa.table(out)
