"""Columns of the store as inputs of a signature: NumPy arrays of its dtype and rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tfrec.store.ragged import offsets, positions


def as_input(
    column: pa.Array,
    rows: NDArray[np.int64],
    dtype: np.dtype[Any],
    shape: tuple[int | None, ...] | None,
) -> NDArray[Any] | None:
    """One input.

    Args:
        column: [key], of a kind that the store holds.
        rows: int64 [batch], each row's key; -1 for a row without.
        dtype: of the input; object is text.
        shape: of the input, None for any size; None for any shape.

    Returns:
        [batch], or [batch, width] for lists: '' and NaN stand for what is missing and behind short
        lists; 0 where the input holds whole numbers. A free width is the longest list's, rounded up
        to a power of two so that a server meets few shapes; of a list longer than a fixed width the
        end is kept. None where the column does not fit the input.
    """
    if shape is not None and not 1 <= len(shape) <= 2:
        return None
    lists = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
    matrix = lists if shape is None else len(shape) == 2
    if lists and not matrix:
        return None
    # an index beyond the end stands for nothing
    taken = column.take(pa.array(np.maximum(rows, 0), mask=rows < 0))
    if not lists:
        flat = _flat(taken, dtype)
        return flat if flat is None or not matrix else _one_wide(flat, shape)
    if pa.types.is_fixed_size_list(taken.type):
        taken = taken.cast(pa.list_(taken.type.value_type))
    counts = taken.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = _flat(taken.flatten(), dtype)
    return None if values is None else _padded(values, counts, shape)


def _missing(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "O":
        return b""
    return np.nan if dtype.kind == "f" else 0


def _flat(values: pa.Array, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Values in the input's dtype; None where they are of another nature."""
    text = pa.types.is_string(values.type) or pa.types.is_binary(values.type)
    if dtype.kind == "O":
        if not text:
            values = _as_text(values)
        out = values.cast(pa.binary()).fill_null(b"").to_numpy(zero_copy_only=False)
        return out.astype(object, copy=False)
    if text or dtype.kind not in "fiu":
        return None
    if dtype.kind in "iu":
        if pa.types.is_floating(values.type):
            return None
        return values.fill_null(0).to_numpy(zero_copy_only=False).astype(dtype)
    numbers = values.cast(pa.float64(), safe=False).fill_null(np.nan)
    return numbers.to_numpy(zero_copy_only=False).astype(dtype)


def _as_text(values: pa.Array) -> pa.Array:
    """Numbers as models read categories: whole ones as their decimal text."""
    if pa.types.is_floating(values.type):
        wide = values.cast(pa.float64())
        whole = pc.equal(pc.floor(wide), wide)
        digits = pc.if_else(whole, wide, None).cast(pa.int64(), safe=False).cast(pa.string())
        return pc.coalesce(digits, values.cast(pa.string()))
    return values.cast(pa.string())


def _one_wide(flat: NDArray[Any], shape: tuple[int | None, ...] | None) -> NDArray[Any] | None:
    """[batch] as [batch, 1], where the input may be so narrow."""
    return flat[:, None] if shape is not None and shape[1] in (None, 1) else None


def _padded(
    values: NDArray[Any], counts: NDArray[np.int64], shape: tuple[int | None, ...] | None
) -> NDArray[Any]:
    longest = int(counts.max(initial=0))
    fixed = None if shape is None else shape[1]
    width = fixed if fixed is not None else 1 << max(longest - 1, 0).bit_length()
    out = np.full((len(counts), width), _missing(values.dtype), values.dtype)
    kept = np.minimum(counts, width)
    source = positions(offsets(counts)[1:] - kept, kept)
    out[np.arange(width) < kept[:, None]] = values[source]
    return out
