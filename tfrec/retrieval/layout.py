"""How an inverted file lies in memory: the vectors of a cell one after the other, in blocks.

A cell's vectors fill whole blocks of ``BLOCK`` rows, the last one padded, so that a probe copies a
few long runs of memory in place of many short ones; the padding is ``BLOCK / 2`` rows a cell on
average. A *slot* is a row among all blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 16  # rows


@dataclass(frozen=True)
class Layout:
    """Where each item lies.

    Attributes:
        first: int32 [cells], first block of each cell.
        blocks: int32 [cells], blocks of each cell; 0 for an empty one.
        items: int32 [all blocks, BLOCK], item index of each slot, ascending in a cell, 0 behind.
        slot: int32 [n_items + 1], slot of each item index; 0 for index 0.
        cell: int32 [n_items + 1], cell of each item index; 0 for index 0.
    """

    first: np.ndarray
    blocks: np.ndarray
    items: np.ndarray
    slot: np.ndarray
    cell: np.ndarray

    def scatter(self, values: np.ndarray) -> np.ndarray:
        """Values by item, [n_items, ...], to [all blocks, BLOCK, ...]; padding is 0."""
        flat = np.zeros((self.items.size, *values.shape[1:]), values.dtype)
        flat[self.slot[1:]] = values
        return flat.reshape(*self.items.shape, *values.shape[1:])


def lay_out(own: np.ndarray, cells: int) -> Layout:
    """The layout of items whose cells are known.

    Args:
        own: int [n_items], cell of item index ``i`` at ``i - 1``.
        cells: number of cells.
    """
    sizes = np.bincount(own, minlength=cells)
    blocks = -(-sizes // BLOCK)
    first = np.concatenate([[0], np.cumsum(blocks)[:-1]])
    order = np.argsort(own, kind="stable")
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    within = np.arange(len(own)) - begins[own[order]]
    slots = first[own[order]] * BLOCK + within
    items = np.zeros(max(int(blocks.sum()), 1) * BLOCK, np.int32)
    items[slots] = order + 1
    slot = np.zeros(len(own) + 1, np.int32)
    slot[order + 1] = slots
    cell = np.zeros(len(own) + 1, np.int32)
    cell[1:] = own
    return Layout(
        first.astype(np.int32), blocks.astype(np.int32), items.reshape(-1, BLOCK), slot, cell
    )
