"""Columns to rows of bytes, all rows at once; the layout is told in ``layout``."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.store.errors import StoreError
from tfrec.store.layout import FORMAT, Column, RowSchema
from tfrec.store.ragged import Bytes, Ints, offsets, positions

_Part = tuple[Ints, Bytes]  # bytes each row has of a variable part, and all of them in order
MAX_PART = 2**32 - 1


def encode(table: pa.Table, schema: RowSchema, expires: int = 0) -> pa.LargeBinaryArray:
    """Writes rows.

    Args:
        table: [row] with some of the schema's columns; the others are missing in every row. A
            missing value inside a list becomes '' or NaN, in a list of whole numbers it is refused.
        schema: the columns.
        expires: seconds since 1970 after which the rows are gone; 0 is never.

    Returns:
        large_binary [row].

    Raises:
        StoreError: a column that the schema lacks, or values of another type.
    """
    extra = sorted(set(table.column_names) - set(schema.names))
    if extra:
        raise StoreError(
            f"rows have the columns {list(schema.names)}; got also {extra}; leave them out, or "
            f"load a new version that declares them"
        )
    n = table.num_rows
    fixed = np.zeros(n, schema.fixed)
    fixed["format"], fixed["schema"], fixed["expires"] = FORMAT, schema.fingerprint, expires
    parts: list[_Part] = []
    for i, column in enumerate(schema):
        if column.name not in table.column_names:
            fixed["nulls"][:, i // 8] |= np.uint8(1 << i % 8)
            continue
        values = _cast(table.column(column.name), column)
        nulls = values.is_null().to_numpy(zero_copy_only=False)
        fixed["nulls"][:, i // 8] |= nulls.astype(np.uint8) << np.uint8(i % 8)
        parts += _fill(fixed[f"c{i}"], values, column)
    return _lay_out(fixed, parts)


def _lay_out(fixed: np.ndarray, parts: list[_Part]) -> pa.LargeBinaryArray:
    """Each row's fixed part and then its piece of every variable part."""
    n, width = len(fixed), fixed.dtype.itemsize
    size = np.full(n, width, np.int64)
    for sizes, _ in parts:
        size += sizes
    ends = offsets(size)
    out = np.empty(ends[-1], np.uint8)
    at = ends[:-1].copy()
    out[at[:, None] + np.arange(width)] = fixed.view(np.uint8).reshape(n, width)
    at += width
    for sizes, content in parts:
        if len(content):
            out[positions(at, sizes)] = content
        at += sizes
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), n, [None, pa.py_buffer(ends), pa.py_buffer(out)]
    )


def _cast(values: pa.ChunkedArray, column: Column) -> pa.Array:
    """One array of the column's type."""
    array = values.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunks at all
        array = pa.array([], array.type)
    if array.type == column.arrow:
        return array
    try:
        if pa.types.is_list(array.type) and column.dim:
            return _as_vectors(array, column)
        return array.cast(column.arrow, safe=column.kind not in ("float", "floats"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StoreError(
            f"column {column.name!r} holds {column.kind}; got {array.type}: {error}"
        ) from None


def _as_vectors(array: pa.ListArray, column: Column) -> pa.FixedSizeListArray:
    """Lists that all have the vector's length; a missing list stays missing."""
    sizes = pc.list_value_length(array)
    if pc.any(pc.not_equal(sizes, column.dim)).as_py():
        wrong = sorted({s for s in sizes.unique().to_pylist() if s not in (None, column.dim)})
        raise StoreError(f"column {column.name!r} holds {column.dim} numbers a row; got {wrong}")
    flat = array.flatten().cast(pa.float32(), safe=False)
    n = len(array)
    rows = np.full((n, column.dim), np.nan, np.float32)
    there = array.is_valid().to_numpy(zero_copy_only=False)
    rows[there] = flat.fill_null(np.nan).to_numpy(zero_copy_only=False).reshape(-1, column.dim)
    return pa.FixedSizeListArray.from_arrays(rows.ravel(), column.dim, mask=pa.array(~there))


def _fill(target: np.ndarray, values: pa.Array, column: Column) -> list[_Part]:
    """Writes a column's fixed part and returns its variable ones."""
    kind = column.kind
    if kind in ("float", "int"):
        target["value"] = values.fill_null(0).to_numpy(zero_copy_only=False)
        return []
    if column.dim:
        there = values.is_valid().to_numpy(zero_copy_only=False)
        flat = values.flatten().fill_null(np.nan).to_numpy(zero_copy_only=False)
        target[there] = flat.reshape(-1, column.dim)
        return []
    if kind in ("string", "bytes"):
        sizes, content = _texts(values.fill_null("" if kind == "string" else b""))
        target["size"] = _bounded(sizes, column)
        return [(sizes, content)]
    lengths = pc.list_value_length(values).fill_null(0)
    count = lengths.to_numpy(zero_copy_only=False).astype(np.int64)
    target["count"] = count
    inner = values.flatten()
    if kind == "strings":
        each, content = _texts(inner.fill_null(""))
        ends = offsets(each)
        rows = offsets(count)
        sizes = ends[rows[1:]] - ends[rows[:-1]]
        target["size"] = _bounded(sizes, column)
        return [(4 * count, _raw(each.astype("<u4"))), (sizes, content)]
    if kind == "ints":
        if inner.null_count:
            raise StoreError(
                f"a list of whole numbers has no missing one; got {inner.null_count} in "
                f"{column.name!r}; fill them first"
            )
        return [(8 * count, _raw(inner.to_numpy().astype("<i8")))]
    numbers = inner.fill_null(np.nan).to_numpy(zero_copy_only=False)
    return [(4 * count, _raw(numbers.astype("<f4")))]


def _raw(values: np.ndarray) -> Bytes:
    return np.ascontiguousarray(values).view(np.uint8)


def _texts(values: pa.Array) -> _Part:
    """Length of each text in bytes, and all bytes."""
    wide = values.cast(pa.large_binary())
    _, ends, data = wide.buffers()
    at = np.frombuffer(ends, np.int64)[wide.offset : wide.offset + len(wide) + 1]
    if not len(wide):
        return np.zeros(0, np.int64), np.zeros(0, np.uint8)
    content = np.frombuffer(data or b"", np.uint8)[at[0] : at[-1]]
    return np.diff(at), content


def _bounded(sizes: Ints, column: Column) -> Ints:
    if len(sizes) and sizes.max() > MAX_PART:
        raise StoreError(f"a value has at most {MAX_PART} bytes; got {sizes.max()} in {column}")
    return sizes
