"""Rows of bytes to columns, all rows at once; the layout is told in ``layout``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tfrec.store.errors import StoreError
from tfrec.store.layout import FORMAT, Column, RowSchema
from tfrec.store.ragged import Bytes, Ints, gather, matrix, offsets


def decode(
    rows: Sequence[bytes | None],
    schema: RowSchema,
    names: Sequence[str] | None = None,
    now: float = 0.0,
) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Reads rows.

    Args:
        rows: [key] values of the store; None where there is none.
        schema: the columns they were written with.
        names: columns wanted; None is all.
        now: seconds since 1970; rows that have expired by then count as absent.

    Returns:
        Columns by name, each [key] and null where the row or the value is missing; and the mask
        bool [key] of rows that are there.

    Raises:
        StoreError: an unknown column, or bytes that are no row of this schema.
    """
    wanted = schema.names if names is None else tuple(names)
    for name in wanted:
        if name not in schema.names:
            raise StoreError(f"there is no column {name!r}; there are {list(schema.names)}")
    found = np.fromiter((row is not None for row in rows), bool, len(rows))
    there = [row for row in rows if row is not None]
    buffer = np.frombuffer(b"".join(there), np.uint8)
    sizes = np.fromiter(map(len, there), np.int64, len(there))
    width = schema.fixed.itemsize
    if len(sizes) and sizes.min() < width:
        raise _no_row(f"{sizes.min()} bytes, fewer than the {width} of its fixed part")
    starts = offsets(sizes)[:-1]
    fixed = matrix(buffer, starts, width).view(schema.fixed).reshape(-1)
    wrong = (fixed["format"] != FORMAT) | (fixed["schema"] != schema.fingerprint)
    if wrong.any():
        raise _no_row(f"{wrong.sum()} rows of another format or other columns")
    columns = _columns(fixed, buffer, starts + width, starts + sizes, schema, wanted)
    expires = fixed["expires"]
    found[found] = (expires == 0) | (expires > now)
    if len(there) < len(rows) or not found.all():
        place = np.cumsum(np.fromiter((row is not None for row in rows), bool, len(rows))) - 1
        take = pa.array(place, mask=~found)
        columns = {name: values.take(take) for name, values in columns.items()}
    return columns, found


def _no_row(what: str) -> StoreError:
    return StoreError(f"a stored value is a row of its namespace's columns; got {what}; load again")


def _columns(
    fixed: np.ndarray,
    buffer: Bytes,
    at: Ints,
    ends: Ints,
    schema: RowSchema,
    wanted: Sequence[str],
) -> dict[str, pa.Array]:
    """The wanted columns, [row]; ``at`` is where each row's variable part begins."""
    sizes = [_part_sizes(fixed[f"c{i}"], column) for i, column in enumerate(schema)]
    if np.any(at + sum(s for part in sizes for s in part) != ends):
        raise _no_row("rows that are longer or shorter than they say")
    out: dict[str, pa.Array] = {}
    for i, column in enumerate(schema):
        if column.name in wanted:
            null = (fixed["nulls"][:, i // 8] >> np.uint8(i % 8) & np.uint8(1)).astype(bool)
            out[column.name] = _column(fixed[f"c{i}"], null, buffer, at, sizes[i], column)
        for size in sizes[i]:
            at = at + size
    return {name: out[name] for name in wanted}


def _part_sizes(fixed: np.ndarray, column: Column) -> list[Ints]:
    """Bytes of each variable part of a column, int64 [row] each."""
    if column.kind in ("string", "bytes"):
        return [fixed["size"].astype(np.int64)]
    if column.kind == "strings":
        return [4 * fixed["count"].astype(np.int64), fixed["size"].astype(np.int64)]
    if column.kind in ("floats", "ints"):
        return [(4 if column.kind == "floats" else 8) * fixed["count"].astype(np.int64)]
    return []


def _column(
    fixed: np.ndarray, null: np.ndarray, buffer: Bytes, at: Ints, sizes: list[Ints], column: Column
) -> pa.Array:
    kind, mask = column.kind, pa.array(null)
    if kind in ("float", "int"):
        return pa.array(np.ascontiguousarray(fixed["value"]), column.arrow, mask=null)
    if column.dim:
        flat = np.ascontiguousarray(fixed).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(flat, column.dim, mask=mask)
    if kind in ("string", "bytes"):
        texts = _texts(sizes[0], gather(buffer, at, sizes[0]), column.arrow)
        return texts if not null.any() else texts.take(pa.array(np.arange(len(null)), mask=null))
    rows = pa.array(offsets(fixed["count"].astype(np.int64)).astype(np.int32))
    content = gather(buffer, at, sizes[0])
    values: pa.Array
    if kind == "strings":
        each = content.view("<u4").astype(np.int64)
        if each.sum() != sizes[1].sum():
            raise _no_row("texts that are longer or shorter than they say")
        values = _texts(each, gather(buffer, at + sizes[0], sizes[1]), pa.string())
    else:
        values = pa.array(content.view("<f4" if kind == "floats" else "<i8"))
    return pa.ListArray.from_arrays(rows, values, type=column.arrow, mask=mask)


def _texts(sizes: Ints, content: Bytes, kind: pa.DataType) -> pa.Array:
    """Texts that lie one behind the other."""
    ends = offsets(sizes).astype(np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(content))]
    return pa.Array.from_buffers(kind, len(sizes), buffers)
