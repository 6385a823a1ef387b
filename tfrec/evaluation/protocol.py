"""Who is tested on what: held-out pairs, what was seen before, blocks of users."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tfrec.data.encoded import Interactions, RetrievalData

Split = Literal["validation", "test"]


@dataclass(frozen=True)
class HeldOut:
    """The questions of one evaluation and what may be known when answering them.

    Attributes:
        known: events before the split: the training events, with those of validation for ``test``.
        users: int32 [n], users with held-out items, ascending.
        item: int32 [pair], held-out items sorted by user, each once a user.
        indptr: int64 [n + 1]; items of ``users[i]`` are ``item[indptr[i]:indptr[i + 1]]``.
        candidates: int64 [n], items that may be recommended to each.
        exclude_seen: whether items in ``known`` are never recommended.
        dropped: held-out events left out, as repeated or (with ``exclude_seen``) seen before.
    """

    known: Interactions
    users: np.ndarray
    item: np.ndarray
    indptr: np.ndarray
    candidates: np.ndarray
    exclude_seen: bool
    dropped: int

    @property
    def relevant(self) -> np.ndarray:
        """Held-out items of each user, int64 [n]."""
        return np.diff(self.indptr)

    @property
    def user(self) -> np.ndarray:
        """The user of each pair, int32 [pair]."""
        return np.repeat(self.users, self.relevant)

    def pairs(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Row within the block and item of each held-out pair of users ``start:stop``."""
        rows = np.repeat(np.arange(stop - start), self.relevant[start:stop])
        return rows, self.item[self.indptr[start] : self.indptr[stop]]

    def seen(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Row within the block and item of each known event of users ``start:stop``."""
        users = self.users[start:stop]
        first, last = self.known.indptr[users], self.known.indptr[users + 1]
        count = last - first
        rows = np.repeat(np.arange(len(users)), count)
        at = np.arange(len(rows)) + np.repeat(first - (np.cumsum(count) - count), count)
        return rows, self.known.item[at]


def held_out(
    data: RetrievalData,
    split: Split = "test",
    exclude_seen: bool = True,
    users: np.ndarray | None = None,
) -> HeldOut:
    """Prepares one evaluation.

    With ``exclude_seen`` a held-out item that the user had before can never be recommended, so it
    is left out of the questions (counted in ``dropped``), and a user left with none is not tested.

    Args:
        data: the encoded data.
        split: which events are held out.
        exclude_seen: True for sets where an item is taken once (films); False where buying again
            is what one predicts.
        users: int [m], where given only these users are tested.

    Raises:
        ValueError: no such split, or nothing is held out.
    """
    if split not in ("validation", "test"):
        raise ValueError(f"the split is 'validation' or 'test'; got {split!r}")
    known = data.train.join(data.validation) if split == "test" else data.train
    events: Interactions = getattr(data, split)
    width = data.n_items + 1
    code = events.user.astype(np.int64) * width + events.item
    if users is not None:
        code = code[np.isin(events.user, users)]
    asked = len(code)
    code = np.unique(code)
    seen = np.unique(known.user.astype(np.int64) * width + known.item)
    if exclude_seen and len(seen):
        at = np.minimum(np.searchsorted(seen, code), len(seen) - 1)
        code = code[seen[at] != code]
    if not len(code):
        raise ValueError(
            f"the {split} split holds no events to predict (of {asked} none is a new item of its "
            f"user); check the split's shares, or pass exclude_seen=False for repeat purchases"
        )
    kept, counts = np.unique(code // width, return_counts=True)
    n_seen = np.bincount(seen // width, minlength=data.n_users + 1)[kept]
    return HeldOut(
        known=known,
        users=kept.astype(np.int32),
        item=(code % width).astype(np.int32),
        indptr=np.concatenate([[0], np.cumsum(counts)]),
        candidates=data.n_items - n_seen if exclude_seen else np.full(len(kept), data.n_items),
        exclude_seen=exclude_seen,
        dropped=asked - len(code),
    )


def blocks(n: int, size: int) -> Iterator[tuple[int, int]]:
    """``(start, stop)`` of consecutive blocks of at most ``size`` rows."""
    for start in range(0, n, size):
        yield start, min(start + size, n)


def block_size(bytes_a_row: int, max_memory_mb: float, rows: int, largest: int = 4096) -> int:
    """How many users go through at once under a memory bound.

    Raises:
        ValueError: not even one row fits.
    """
    fits = int(max_memory_mb * 2**20 // max(bytes_a_row, 1))
    if fits < 1:
        raise ValueError(
            f"one user takes {bytes_a_row / 2**20:.1f} MiB but max_memory_mb is {max_memory_mb}; "
            f"raise it"
        )
    return max(1, min(fits, rows, largest))
