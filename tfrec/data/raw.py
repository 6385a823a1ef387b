"""Reads delimited text, plain or gzipped, block by block; broken lines go to the quarantine.

The fast path is pyarrow's CSV reader on lines already known to have the right number of fields.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from tfrec.data.files import whole_lines
from tfrec.data.quarantine import Quarantine
from tfrec.data.records import WRONG_ARITY, Records, split_records
from tfrec.data.tables import DataError

BAD_ENCODING = "bad_encoding"
# Stands for a separator of several bytes, which pyarrow does not know.
_STAND_IN = b"\x1f"


@dataclass(frozen=True)
class Layout:
    """How a text file is laid out.

    Attributes:
        separator: one or more characters; several switch quoting off.
        encoding: any that keeps ASCII (``utf-8``, ``latin-1``, ``cp1252`` ...).
        header: the first line names the columns.
        quoting: fields may stand in double quotes.
        names: names of the columns where there is no header (default c0, c1 ...).
    """

    separator: str = ","
    encoding: str = "utf-8"
    header: bool = True
    quoting: bool = True
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Block:
    """Some rows of a raw file.

    Attributes:
        table: the raw columns; empty fields are null.
        lines: int64 [row], 1-based line (for Parquet: row) in the file.
        raw: the rows' own text at given positions of the block.
    """

    table: pa.Table
    lines: np.ndarray

    def raw(self, at: np.ndarray) -> list[str]:
        raise NotImplementedError


@dataclass(frozen=True)
class TextBlock(Block):
    """A block of a text file; keeps its bytes and the span of each record."""

    data: bytes
    starts: np.ndarray
    ends: np.ndarray
    separator: str

    def raw(self, at: np.ndarray) -> list[str]:
        spans = zip(self.starts[at].tolist(), self.ends[at].tolist(), strict=True)
        return [_shown(self.data[a:b], self.separator) for a, b in spans]


def read_text(
    path: Path, layout: Layout, columns: tuple[str, ...] | None, quarantine: Quarantine
) -> Iterator[Block]:
    """Reads a text file in blocks; all columns come as strings, empty fields as null.

    Lines with bad encoding, the wrong number of fields or an open quote are quarantined. At the
    end the file's rows are reported to ``quarantine.finish_file``.

    Args:
        path: plain or gzipped.
        layout: see ``Layout``.
        columns: those that are wanted; None takes all.
        quarantine: keeps the broken lines.

    Raises:
        DataError: the file is empty, lacks a wanted column, is damaged, or too many rows are bad.
    """
    if "\n".encode(layout.encoding) != b"\n":
        raise DataError(
            f"{path}: an encoding that keeps ASCII is needed; got {layout.encoding!r}; convert the "
            f"file to UTF-8"
        )
    name = quarantine.label(path)
    separator = layout.separator.encode() if len(layout.separator) == 1 else _STAND_IN
    quoting = layout.quoting and len(layout.separator) == 1
    names = layout.names
    header_due = layout.header
    rows, next_line = 0, 1
    carry, carried = b"", np.empty(0, np.int64)
    for chunk, final in whole_lines(path):
        data, kept, bad = _decode(chunk, layout.encoding)
        if bad:
            at = [next_line + index for index, _ in bad]
            quarantine.add(name, at, [BAD_ENCODING] * len(bad), [raw for _, raw in bad])
            rows += len(bad)
        if next_line == 1 and data.startswith(codecs.BOM_UTF8):
            data = data[len(codecs.BOM_UTF8) :]
        if len(layout.separator) > 1:
            data = data.replace(layout.separator.encode(), _STAND_IN)
        data = carry + data
        numbers = np.concatenate([carried, next_line + kept])
        next_line += chunk.count(b"\n")
        if not data:
            continue
        if header_due or names is None:
            first = _shown(data[: data.index(b"\n")], layout.separator).strip("\r")
            fields = _fields(first, layout.separator, quoting)
            names = names or (
                tuple(fields) if header_due else tuple(f"c{i}" for i in range(len(fields)))
            )
            if header_due:
                data, numbers = data[data.index(b"\n") + 1 :], numbers[1:]
                header_due = False
        _check_names(path, names, columns)
        records = split_records(data, separator[0], len(names), quoting, final)
        carry, carried = data[records.consumed :], numbers[records.consumed_lines :]
        block, broken = _parse(data, records, names, columns, separator.decode(), quoting, layout)
        for index, start, stop, reason in records.bad:
            broken.append((index, _shown(data[start:stop], layout.separator), reason))
        if broken:
            broken.sort()
            at = [int(numbers[index]) for index, _, _ in broken]
            quarantine.add(name, at, [r for _, _, r in broken], [raw for _, raw, _ in broken])
        rows += block.table.num_rows + len(broken)
        if block.table.num_rows:
            yield TextBlock(
                block.table,
                numbers[block.lines],
                block.data,
                block.starts,
                block.ends,
                layout.separator,
            )
    if rows == 0:
        raise DataError(f"{path}: at least one row is needed; the file holds none")
    quarantine.finish_file(name, rows)


def _decode(data: bytes, encoding: str) -> tuple[bytes, np.ndarray, list[tuple[int, str]]]:
    """UTF-8 bytes of the lines that decode, their indices, and the others (index, raw text)."""
    try:
        text = data.decode(encoding)
        if codecs.lookup(encoding).name != "utf-8":
            data = text.encode()
        return data, np.arange(data.count(b"\n")), []
    except UnicodeDecodeError:
        pass
    good: list[bytes] = []
    kept: list[int] = []
    bad: list[tuple[int, str]] = []
    for index, line in enumerate(data.split(b"\n")[:-1]):
        try:
            good.append(line.decode(encoding).encode() + b"\n")
            kept.append(index)
        except UnicodeDecodeError:
            bad.append((index, line.decode(encoding, "backslashreplace").rstrip("\r")))
    return b"".join(good), np.array(kept, np.int64), bad


def _shown(record: bytes, separator: str) -> str:
    return record.replace(_STAND_IN, separator.encode()).decode()


def _fields(text: str, separator: str, quoting: bool) -> list[str]:
    if not quoting:
        return text.split(separator)
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])


def _check_names(path: Path, names: tuple[str, ...], columns: tuple[str, ...] | None) -> None:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DataError(f"{path}: each column has its own name; got twice: {twice}; rename one")
    missing = [c for c in columns or () if c not in names]
    if missing:
        raise DataError(
            f"{path}: the columns {missing} are missing; the file has {list(names)}; check the "
            f"column map, the separator and the header"
        )


def _parse(
    data: bytes,
    records: Records,
    names: tuple[str, ...],
    columns: tuple[str, ...] | None,
    separator: str,
    quoting: bool,
    layout: Layout,
) -> tuple[TextBlock, list[tuple[int, str, str]]]:
    """The good records as a table; those that do not parse after all come back as broken."""
    starts, ends, lines = records.starts, records.ends, records.lines
    broken: list[tuple[int, str, str]] = []
    wanted = list(columns or names)
    whole = len(records.bad) == 0 and records.consumed == len(data)
    body = data if whole else b"\n".join(data[a:b] for a, b in zip(starts, ends, strict=True))
    table: pa.Table | None = None
    if len(starts) == 0:
        table = pa.table({n: pa.array([], pa.string()) for n in wanted})
    else:
        try:
            table = _arrow(body, names, wanted, separator, quoting)
        except pa.ArrowInvalid:
            table = None
    if table is None or table.num_rows != len(starts):
        rows, kept = [], []
        for at, (a, b) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            text = data[a:b].decode()
            try:
                fields = _fields(text, separator, quoting)
            except csv.Error:
                fields = []
            if len(fields) == len(names):
                rows.append(fields)
                kept.append(at)
            else:
                broken.append((int(lines[at]), _shown(data[a:b], layout.separator), WRONG_ARITY))
        starts, ends, lines = starts[kept], ends[kept], lines[kept]
        by_name = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
        table = pa.table(
            {n: pa.array([v or None for v in by_name.get(n, ())], pa.string()) for n in wanted}
        )
    return TextBlock(table, lines, data, starts, ends, layout.separator), broken


def _arrow(
    body: bytes, names: tuple[str, ...], wanted: list[str], separator: str, quoting: bool
) -> pa.Table:
    return pacsv.read_csv(
        pa.BufferReader(body),
        pacsv.ReadOptions(column_names=list(names), block_size=len(body) + 1),
        pacsv.ParseOptions(
            delimiter=separator,
            quote_char='"' if quoting else False,
            newlines_in_values=quoting,
        ),
        pacsv.ConvertOptions(
            column_types={n: pa.string() for n in wanted},
            include_columns=wanted,
            null_values=[""],
            strings_can_be_null=True,
            check_utf8=False,
        ),
    )
