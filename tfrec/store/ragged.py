"""Pieces of one long byte buffer, moved all at once instead of row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


def offsets(sizes: Ints) -> Ints:
    """Running ends of pieces that lie one behind the other: int64 [n + 1], the first is 0."""
    out = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=out[1:])
    return out


def positions(starts: Ints, sizes: Ints) -> Ints:
    """Every position of every piece, piece after piece.

    Args:
        starts: int64 [n], where each piece begins.
        sizes: int64 [n], its length.

    Returns:
        int64 [sum of sizes]; pieces 3..5 and 9..10 give ``[3, 4, 9]``.
    """
    ends = offsets(sizes)
    shift = np.repeat(starts - ends[:-1], sizes)
    return shift + np.arange(ends[-1], dtype=np.int64)


def gather(buffer: Bytes, starts: Ints, sizes: Ints) -> Bytes:
    """The pieces one behind the other, uint8 [sum of sizes]."""
    return buffer[positions(starts, sizes)]


def matrix(buffer: Bytes, starts: Ints, width: int) -> NDArray[Any]:
    """Pieces of one width as rows, uint8 [n, width], in memory of their own."""
    return buffer[starts[:, None] + np.arange(width, dtype=np.int64)]
