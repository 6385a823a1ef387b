"""Attributes of users and items: from a file of their own, or from the events' file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import TableMap
from tfrec.data.adapters.blocks import (
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
from tfrec.data.convert import to_attribute, to_id
from tfrec.data.duplicates import first_rows
from tfrec.data.quarantine import Quarantine
from tfrec.data.tables import DataError
from tfrec.schema import FeatureTable


def read_attributes(
    path: Path,
    table: TableMap,
    key: str,
    features: FeatureTable,
    quarantine: Quarantine,
    names: tuple[str, ...] | None = None,
) -> pa.Table:
    """Reads a file with one row a user (or item); of repeated ids the first row counts.

    Args:
        key: ``user_id`` or ``item_id``; the map must name it.

    Returns:
        ``key`` string, unique, and the mapped attributes.
    """
    if key not in table.columns:
        raise DataError(f"{path}: the column map names {key}; got {sorted(table.columns)}; add it")
    parts = []
    seen = pa.array([], pa.string())
    label = quarantine.label(path)
    for block in read_blocks(path, table, wanted_columns(table), quarantine, names):
        marks = Marks(block.table.num_rows)
        mark_rules(block, table, marks)
        out: dict[str, pa.Array] = {}
        out[key], missing = to_id(block.table.column(table.columns[key]))
        marks.add(missing, f"missing_{key}")
        for name, column in table.columns.items():
            if name != key:
                feature = type_of(name, table, features)
                values = without_missing(block.table.column(column), table)
                out[name], bad = to_attribute(values, feature)
                marks.add(bad, NOT_A_NUMBER)
        again = np.ones(block.table.num_rows, bool)
        candidates = np.flatnonzero(marks.code == 0)
        fresh = first_rows(pa.table({key: out[key].take(pa.array(candidates))}))
        again[candidates[fresh]] = False
        again |= pc.is_in(out[key], seen).to_numpy(zero_copy_only=False)
        marks.add(again, DUPLICATE)
        kept = pa.array(marks.report(block, label, quarantine))
        parts.append(pa.table(out).take(kept))
        seen = pa.concat_arrays([seen, parts[-1].column(key).combine_chunks()])
    require_rows(path, parts)
    return pa.concat_tables(parts)


def most_frequent(
    ids: pa.ChunkedArray, raw: pa.Table, table: TableMap, key: str, features: FeatureTable
) -> pa.Table:
    """Attributes from the events' own file: each id's most frequent value, column by column.

    Nulls do not count; of equally frequent values the first in alphabetical order is taken.

    Args:
        ids: string [event], the canonical id of each event.
        raw: raw columns of the same events.
        table: the column map of the attributes.
        key: ``user_id`` or ``item_id``.
    """
    unique = pc.unique(ids)
    out: dict[str, pa.Array] = {key: unique}
    for name, column in table.columns.items():
        if name == key:
            continue
        texts = without_missing(raw.column(column).cast(pa.string()), table)
        pairs = pa.table({"id": ids, "value": texts})
        counts = pairs.filter(pc.is_valid(pairs.column("value"))).group_by(["id", "value"])
        ranked = counts.aggregate([([], "count_all")]).sort_by(
            [("count_all", "descending"), ("value", "ascending")]
        )
        best = ranked.take(pa.array(first_rows(ranked.select(["id"]))))
        at = pc.index_in(unique, best.column("id").combine_chunks())
        values = best.column("value").combine_chunks().take(at)
        out[name], bad = to_attribute(values, type_of(name, table, features))
        if bad.any():
            out[name] = pc.if_else(pa.array(bad), pa.scalar(None, out[name].type), out[name])
    return pa.table(out)
