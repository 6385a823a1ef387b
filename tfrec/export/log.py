"""Histories of raw ids, from canonical interactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.schema import ITEM_ID, TIMESTAMP, USER_ID


@dataclass(frozen=True)
class Log:
    """Events grouped by user, in time order, as codes into two dictionaries.

    Attributes:
        users, items: object arrays of raw ids.
        item: int32 [event], codes of ``items``.
        indptr: int64 [user + 1].
    """

    users: np.ndarray
    items: np.ndarray
    item: np.ndarray
    indptr: np.ndarray

    @classmethod
    def from_table(cls, interactions: pa.Table) -> Log:
        """Groups canonical interactions; equal times keep the table's order."""
        user = interactions.column(USER_ID).combine_chunks().dictionary_encode()
        item = interactions.column(ITEM_ID).combine_chunks().dictionary_encode()
        codes = user.indices.to_numpy()
        time = interactions.column(TIMESTAMP).to_numpy()
        order = np.lexsort((np.arange(len(codes)), time, codes))
        counts = np.bincount(codes, minlength=len(user.dictionary))
        return cls(
            np.asarray(user.dictionary.to_pylist(), object),
            np.asarray(item.dictionary.to_pylist(), object),
            item.indices.to_numpy()[order],
            np.concatenate([[0], np.cumsum(counts)]),
        )

    def codes(self, users: Sequence[str] | np.ndarray) -> np.ndarray:
        """Codes of raw user ids, int64; -1 for users without events."""
        found = pc.index_in(pa.array(users, pa.string()), pa.array(self.users, pa.string()))
        return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)

    def counts(self, codes: np.ndarray) -> np.ndarray:
        """Events of each user, int64; 0 for code -1."""
        return np.where(codes >= 0, self.indptr[codes + 1] - self.indptr[codes], 0)

    def last(self, codes: np.ndarray, width: int) -> np.ndarray:
        """Raw ids of the last ``width`` items, object [batch, width], oldest first, '' behind."""
        counts = np.minimum(self.counts(codes), width)
        at = np.arange(width)[None, :]
        inside = at < counts[:, None]
        start = np.where(codes >= 0, self.indptr[codes + 1], 0) - counts
        out = np.full((len(codes), width), "", object)
        out[inside] = self.items[self.item[(start[:, None] + at)[inside]]]
        return out
