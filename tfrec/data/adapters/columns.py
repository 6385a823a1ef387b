"""Any CSV, TSV or Parquet by a column map: the adapter on which the others build."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec.config import TableMap
from tfrec.data.convert import as_text, fails_rule, to_attribute, to_id, to_number, to_seconds
from tfrec.data.duplicates import first_rows, raw_lines
from tfrec.data.quarantine import Quarantine
from tfrec.data.raw import Block, Layout, read_text
from tfrec.data.tables import DataError
from tfrec.schema import EVENT, ITEM_ID, TIMESTAMP, USER_ID, WEIGHT, Feature, FeatureTable

NOT_A_NUMBER = "not_a_number"
BAD_TIME = "bad_time"
DUPLICATE = "duplicate"
DEFAULT_EVENT = "purchase"


@dataclass(frozen=True)
class ParquetBlock(Block):
    """Rows of a Parquet file; a row's raw text is its values as text."""

    def raw(self, at: np.ndarray) -> list[str]:
        return [str(row) for row in self.table.take(pa.array(at)).to_pylist()]


class Marks:
    """The first reason found against each row of a block."""

    def __init__(self, n: int) -> None:
        self.reasons: list[tuple[str, bool]] = []
        self.code = np.zeros(n, np.int16)

    def add(self, bad: np.ndarray, reason: str, rule: bool = False) -> None:
        self.reasons.append((reason, rule))
        self.code[bad & (self.code == 0)] = len(self.reasons)

    def report(self, block: Block, file: str, quarantine: Quarantine) -> np.ndarray:
        """Quarantines the marked rows; returns the positions of the others."""
        for rule in (True, False):
            codes = [i + 1 for i, (_, r) in enumerate(self.reasons) if r == rule]
            at = np.flatnonzero(np.isin(self.code, codes))
            names = [self.reasons[c - 1][0] for c in self.code[at].tolist()]
            quarantine.add(file, block.lines[at].tolist(), names, block.raw(at), rule)
        return np.flatnonzero(self.code == 0)


def read_blocks(
    path: Path,
    table: TableMap,
    columns: tuple[str, ...],
    quarantine: Quarantine,
    names: tuple[str, ...] | None = None,
) -> Iterator[Block]:
    """Blocks of a raw file of any kind, only the wanted columns.

    Raises:
        DataError: no such file, or a wanted column is not in it.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; data.path and the map's 'file' name it together")
    if path.suffix != ".parquet":
        layout = Layout(table.separator, table.encoding, table.header, table.quoting, names)
        yield from read_text(path, layout, columns, quarantine)
        return
    file = pq.ParquetFile(path)
    missing = [c for c in columns if c not in file.schema_arrow.names]
    if missing:
        raise DataError(
            f"{path}: the columns {missing} are missing; the file has {file.schema_arrow.names}; "
            f"check the column map"
        )
    if file.metadata.num_rows == 0:
        raise DataError(f"{path}: at least one row is needed; the file holds none")
    at = 1
    for batch in file.iter_batches(columns=list(columns)):
        yield ParquetBlock(pa.Table.from_batches([batch]), at + np.arange(batch.num_rows))
        at += batch.num_rows
    quarantine.finish_file(path.name, file.metadata.num_rows)


def _wanted(table: TableMap, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*table.columns.values(), *(r.column for r in table.rules), *more]))


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
    for block in read_blocks(path, table, _wanted(table, keep_raw), quarantine, names):
        marks = Marks(block.table.num_rows)
        _mark_rules(block, table, marks)
        part = _events(block, table, features, marks, event)
        kept = pa.array(marks.report(block, path.name, quarantine))
        parts.append(part.take(kept))
        raws.append(
            pa.table(
                [as_text(block.table.column(n)).take(kept).dictionary_encode() for n in keep_raw],
                names=list(keep_raw),
            )
        )
        lines.append(block.lines[kept.to_numpy()])
    _some(path, parts)
    events, raw = pa.concat_tables(parts), pa.concat_tables(raws)
    numbers = np.concatenate(lines)
    if TIMESTAMP not in table.columns:
        return events, raw
    first = first_rows(events)
    if len(first) < events.num_rows:
        again = np.setdiff1d(np.arange(events.num_rows), first)
        at = numbers[again]
        texts = raw_lines(path, at, table.encoding)
        quarantine.add(path.name, at.tolist(), [DUPLICATE] * len(at), texts)
        quarantine.finish_file(path.name, quarantine.rows[path.name])
        events = events.take(pa.array(first))
        raw = raw.take(pa.array(first)) if keep_raw else raw
    return events, raw


def _some(path: Path, parts: list[pa.Table]) -> None:
    if not parts:
        raise DataError(f"{path}: at least one well-formed row is needed; got none; check the map")


def feature_named(features: FeatureTable, name: str) -> Feature | None:
    """The feature of that name, or None."""
    return next((f for f in features if f.name == name), None)


def _mark_rules(block: Block, table: TableMap, marks: Marks) -> None:
    for rule in table.rules:
        marks.add(fails_rule(block.table.column(rule.column), rule), rule.reason, rule=True)


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
        out[name], bad = to_attribute(column, feature_named(features, name))
        marks.add(bad, NOT_A_NUMBER)
    return pa.table(out)


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
    for block in read_blocks(path, table, _wanted(table), quarantine, names):
        marks = Marks(block.table.num_rows)
        _mark_rules(block, table, marks)
        out: dict[str, pa.Array] = {}
        out[key], missing = to_id(block.table.column(table.columns[key]))
        marks.add(missing, f"missing_{key}")
        for name, column in table.columns.items():
            if name != key:
                feature = feature_named(features, name)
                out[name], bad = to_attribute(block.table.column(column), feature)
                marks.add(bad, NOT_A_NUMBER)
        again = np.ones(block.table.num_rows, bool)
        candidates = np.flatnonzero(marks.code == 0)
        fresh = first_rows(pa.table({key: out[key].take(pa.array(candidates))}))
        again[candidates[fresh]] = False
        again |= pc.is_in(out[key], seen).to_numpy(zero_copy_only=False)
        marks.add(again, DUPLICATE)
        kept = pa.array(marks.report(block, path.name, quarantine))
        parts.append(pa.table(out).take(kept))
        seen = pa.concat_arrays([seen, parts[-1].column(key).combine_chunks()])
    if path.name in quarantine.rows:
        quarantine.finish_file(path.name, quarantine.rows[path.name])
    _some(path, parts)
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
        pairs = pa.table({"id": ids, "value": raw.column(column).cast(pa.string())})
        counts = pairs.filter(pc.is_valid(pairs.column("value"))).group_by(["id", "value"])
        ranked = counts.aggregate([([], "count_all")]).sort_by(
            [("count_all", "descending"), ("value", "ascending")]
        )
        best = ranked.take(pa.array(first_rows(ranked.select(["id"]))))
        at = pc.index_in(unique, best.column("id").combine_chunks())
        values = best.column("value").combine_chunks().take(at)
        out[name], bad = to_attribute(values, feature_named(features, name))
        if bad.any():
            out[name] = pc.if_else(pa.array(bad), pa.scalar(None, out[name].type), out[name])
    return pa.table(out)
