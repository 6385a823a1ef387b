"""Rows that stand twice, and the raw text of lines of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from tfrec.data.files import whole_lines


def first_rows(table: pa.Table) -> np.ndarray:
    """Positions of the rows that equal no earlier row, ascending, int64 [distinct].

    Columns that are lists do not take part.
    """
    keys = [f.name for f in table.schema if not pa.types.is_nested(f.type)]
    position = "__position"
    numbered = table.select(keys).append_column(position, pa.array(np.arange(table.num_rows)))
    groups = numbered.group_by(keys).aggregate([(position, "min")])
    return np.sort(groups.column(f"{position}_min").to_numpy())


def raw_lines(path: Path, lines: np.ndarray, encoding: str) -> list[str]:
    """The text of some lines.

    Args:
        path: plain or gzipped text, or Parquet (whose rows are given as ``row N``).
        lines: int64 [n], 1-based, ascending.
    """
    if path.suffix == ".parquet":
        return [f"row {line}" for line in lines.tolist()]
    out: list[str] = []
    before = 0
    for block, _ in whole_lines(path):
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
        inside = lines[(lines > before) & (lines <= before + len(ends))] - before - 1
        starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        for a, b in zip(starts[inside].tolist(), ends[inside].tolist(), strict=True):
            out.append(block[a:b].rstrip(b"\r").decode(encoding, "replace"))
        before += len(ends)
    return out
