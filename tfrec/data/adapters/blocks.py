"""What all files have in common: blocks of raw rows, marks against bad ones, the feature's type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec.config import TableMap
from tfrec.data.convert import Column, fails_rule
from tfrec.data.quarantine import Quarantine
from tfrec.data.raw import Block, Layout, read_text
from tfrec.data.tables import DataError
from tfrec.schema import Feature, FeatureTable

NOT_A_NUMBER = "not_a_number"
BAD_TIME = "bad_time"
DUPLICATE = "duplicate"


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
    label = quarantine.label(path)
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
    quarantine.finish_file(label, file.metadata.num_rows)


def wanted_columns(table: TableMap, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Raw columns that a map and its rules name, and more."""
    return tuple(dict.fromkeys([*table.columns.values(), *(r.column for r in table.rules), *more]))


def require_rows(path: Path, parts: list[pa.Table]) -> None:
    """Raises DataError where no block of a file had a well-formed row."""
    if not parts:
        raise DataError(f"{path}: at least one well-formed row is needed; got none; check the map")


def type_of(name: str, table: TableMap, features: FeatureTable) -> Feature | None:
    """The feature that gives a mapped column its type; None where it stays as it is."""
    feature = next((f for f in features if f.name == name), None)
    if feature is None and name in table.numeric:
        return Feature(name=name, role="context", kind="numeric")
    return feature


def without_missing(column: Column, table: TableMap) -> Column:
    """A raw column with null where a text stands for no value (``TableMap.missing``)."""
    if not table.missing or not pa.types.is_string(column.type):
        return column
    marked = pc.is_in(pc.utf8_trim_whitespace(column), pa.array(table.missing, pa.string()))
    return pc.if_else(marked, pa.scalar(None, pa.string()), column)


def mark_rules(block: Block, table: TableMap, marks: Marks) -> None:
    """Marks the rows that fail a configured rule; the first rule that fails counts."""
    for rule in table.rules:
        marks.add(fails_rule(block.table.column(rule.column), rule), rule.reason, rule=True)
