"""Histories of raw ids, from canonical interactions or from encoded events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.schema import ITEM_ID, TIMESTAMP, USER_ID, WEIGHT


@dataclass(frozen=True)
class Log:
    """Events grouped by user, in time order, as codes into two dictionaries.

    Attributes:
        users, items: object arrays of raw ids.
        item: int32 [event], codes of ``items``.
        weight: float32 [event], e.g. the rating; NaN where the table has none.
        indptr: int64 [user + 1].
    """

    users: np.ndarray
    items: np.ndarray
    item: np.ndarray
    weight: np.ndarray
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
        weight = np.full(len(codes), np.nan, np.float32)
        if WEIGHT in interactions.column_names:
            given = pc.cast(interactions.column(WEIGHT), pa.float32())
            weight = given.to_numpy(zero_copy_only=False)[order].astype(np.float32)
        return cls(
            np.asarray(user.dictionary.to_pylist(), object),
            np.asarray(item.dictionary.to_pylist(), object),
            item.indices.to_numpy()[order],
            weight,
            np.concatenate([[0], np.cumsum(counts)]),
        )

    @classmethod
    def from_encoded(cls, data: RetrievalData, events: Interactions) -> Log:
        """Names encoded events by the ids of ``data``; a user's code is their index."""
        return cls(
            data.user_ids.astype(object),
            data.item_ids.astype(object),
            events.item,
            events.weight,
            events.indptr,
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
        inside, event = self._last_events(codes, width)
        out = np.full(inside.shape, "", object)
        out[inside] = self.items[self.item[event]]
        return out

    def last_weights(self, codes: np.ndarray, width: int) -> np.ndarray:
        """Weights of the same events, float32 [batch, width], NaN behind."""
        inside, event = self._last_events(codes, width)
        out = np.full(inside.shape, np.nan, np.float32)
        out[inside] = self.weight[event]
        return out

    def _last_events(self, codes: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Which places of [batch, width] hold an event, and the events there, row by row."""
        counts = np.minimum(self.counts(codes), width)
        at = np.arange(width)[None, :]
        inside = at < counts[:, None]
        start = np.where(codes >= 0, self.indptr[codes + 1], 0) - counts
        return inside, (start[:, None] + at)[inside]
