"""Who is tested on what: held-out pairs, what was seen before, blocks of users."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tfrec.data.encoded import Interactions, RetrievalData

Split = Literal["validation", "test"]
TABLE_BYTES = 64 << 20  # of a bool table of users by items


@dataclass(frozen=True)
class HeldOut:
    """The questions of one evaluation and what may be known when answering them.

    Attributes:
        split: the split that is held out.
        known: events before the split: the training events, with those of validation for ``test``.
        users: int32 [n], users with held-out items, ascending.
        item: int32 [pair], held-out items sorted by user, each once a user.
        indptr: int64 [n + 1]; items of ``users[i]`` are ``item[indptr[i]:indptr[i + 1]]``.
        candidates: int64 [n], items that may be recommended to each.
        exclude_seen: whether items in ``known`` are never recommended.
        dropped: held-out events left out, as repeated or (with ``exclude_seen``) seen before.
        event: int64 [n], the held-out event (of ``data.<split>``) that each question is about: the
            first that counts, where a user has several.
        context: encoded context features of that event by name, each [n, ...]. What was known
            before the event, as the query that led to it, may be told to a model; what only the
            event shows (the price paid, the quantity) must not be made a context feature.
    """

    split: Split
    known: Interactions
    users: np.ndarray
    item: np.ndarray
    indptr: np.ndarray
    candidates: np.ndarray
    exclude_seen: bool
    dropped: int
    event: np.ndarray
    context: dict[str, np.ndarray] = field(default_factory=dict)

    def inputs(
        self, data: RetrievalData, rows: np.ndarray, history_length: int, size: int | None = None
    ) -> dict[str, np.ndarray]:
        """What a model is told when it answers some questions.

        Args:
            data: the encoded data.
            rows: int [m], positions in ``users``.
            history_length: H.
            size: rows of the result; those behind ``m`` are of the padding user, with no context.

        Returns:
            ``RetrievalData.user_inputs`` and the context of each question, each [size, ...].
        """
        size = len(rows) if size is None else size
        users = np.zeros(size, np.int32)
        users[: len(rows)] = self.users[rows]
        told = data.user_inputs(users, self.known, history_length)
        for name, values in self.context.items():
            told[name] = np.zeros((size, *values.shape[1:]), values.dtype)
            told[name][: len(rows)] = values[rows]
        return told

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
        return events_of(self.known, self.users[start:stop])


def events_of(events: Interactions, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row within ``users`` and item of each of their events, both [event]."""
    first, last = events.indptr[users], events.indptr[users + 1]
    count = last - first
    rows = np.repeat(np.arange(len(users)), count)
    at = np.arange(len(rows)) + np.repeat(first - (np.cumsum(count) - count), count)
    return rows, events.item[at]


def table_rows(n_items: int, most: int) -> int:
    """Users of a bool table [users, n_items + 1] that keeps to ``TABLE_BYTES``, at least one."""
    return max(1, min(most, TABLE_BYTES // (n_items + 1)))


def _seen(known: Interactions, user: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each pair (sorted by user) is in ``known``, and distinct known items of each user.

    Goes by blocks of a bool table, several times faster than sorting all events.

    Returns:
        bool [pair] and int64 [n_users + 1] (filled for the users named).
    """
    users = np.unique(user)
    had = np.zeros(len(user), bool)
    distinct = np.zeros(known.n_users + 1, np.int64)
    block = table_rows(known.n_items, min(2048, max(len(users), 1)))
    table = np.zeros((block, known.n_items + 1), bool)
    for start, stop in blocks(len(users), len(table)):
        mine = users[start:stop]
        rows, items = events_of(known, mine)
        table[rows, items] = True
        distinct[mine] = table[: stop - start].sum(axis=1)
        first, last = np.searchsorted(user, [mine[0], mine[-1] + 1])
        had[first:last] = table[np.searchsorted(mine, user[first:last]), item[first:last]]
        table[rows, items] = False
    return had, distinct


def held_out(
    data: RetrievalData,
    split: Split = "test",
    exclude_seen: bool = True,
    users: np.ndarray | None = None,
    by: Literal["user", "event"] = "user",
) -> HeldOut:
    """Prepares one evaluation.

    The context features of the held-out event itself go along: a personalised search is asked with
    the query that was typed.

    With ``exclude_seen`` a held-out item that the user had before can never be recommended, so it
    is left out of the questions (counted in ``dropped``), and a user left with none is not tested.

    Args:
        data: the encoded data.
        split: which events are held out.
        exclude_seen: True for sets where an item is taken once (films); False where buying again
            is what one predicts.
        users: int [m], where given only these users are tested.
        by: ``user`` asks one question a user, about all their held-out items; ``event`` one a
            held-out event, each with its own context (``users`` then repeat). Where each user has
            one held-out event both are the same.

    Raises:
        ValueError: no such split, or nothing is held out.
    """
    if split not in ("validation", "test"):
        raise ValueError(f"the split is 'validation' or 'test'; got {split!r}")
    known = data.train
    if split == "test" and len(data.validation):
        known = data.train.join(data.validation)
    events: Interactions = getattr(data, split)
    width = data.n_items + 1
    code = events.user.astype(np.int64) * width + events.item
    if users is not None:
        code = code[np.isin(events.user, users)]
    asked = len(code)
    code = np.unique(code)
    had, n_seen = _seen(known, code // width, code % width)
    if exclude_seen:
        code = code[~had]
    if not len(code):
        raise ValueError(
            f"the {split} split holds no events to predict (of {asked} none is a new item of its "
            f"user); check the split's shares, or pass exclude_seen=False for repeat purchases "
            f"(in a configuration gate.exclude_seen: false)"
        )
    event = _first_events(events, width, code)
    if by == "event":
        code = events.user[event].astype(np.int64) * width + events.item[event]
        kept, counts = code // width, np.ones(len(code), np.int64)
    else:
        kept, counts = np.unique(code // width, return_counts=True)
        _, first = np.unique(events.user[event], return_index=True)
        event = event[first]
    full = np.full(len(kept), data.n_items, np.int64)
    return HeldOut(
        split=split,
        known=known,
        users=kept.astype(np.int32),
        item=(code % width).astype(np.int32),
        indptr=np.concatenate([[0], np.cumsum(counts)]),
        candidates=full - n_seen[kept] if exclude_seen else full,
        exclude_seen=exclude_seen,
        dropped=asked - len(code),
        event=event,
        context={name: values[event] for name, values in events.context.items()},
    )


def _first_events(events: Interactions, width: int, code: np.ndarray) -> np.ndarray:
    """Position of the first event of each user-item pair ``user * width + item``, ascending."""
    every = events.user.astype(np.int64) * width + events.item
    found, first = np.unique(every, return_index=True)
    return np.sort(first[np.isin(found, code, assume_unique=True)])


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
