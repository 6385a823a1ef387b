"""Which event a shown item brought: rewards of a log of lists, from the events that followed.

An event belongs to the last time its user was shown its item, at most ``window`` seconds before.
An item that was shown twice is thus not rewarded twice for one purchase.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.schema import EVENT, ITEM_ID, TIMESTAMP, USER_ID

REWARD = "reward"


def attribute(
    log: pa.Table,
    events: pa.Table,
    *,
    window: int,
    kinds: Sequence[str] = (),
    value: str | None = None,
) -> pa.Table:
    """Adds the column ``reward`` to a log.

    Args:
        log: one row a request: ``user_id`` string, ``item_id`` list of string, ``timestamp`` int64
            (seconds since 1970, when it was shown).
        events: canonical interactions.
        window: seconds from being shown within which an event counts; the same second counts.
        kinds: of event that count; none named: all.
        value: the numeric column of the events that is earned, as ``weight``; None earns 1 each.

    Returns:
        The log with ``reward`` list of float64, like ``item_id``; it replaces one that was there.

    Raises:
        ValueError: a column is missing, or no event is of these kinds.
    """
    _needs(log, (USER_ID, ITEM_ID, TIMESTAMP), "a log of lists")
    wanted = [USER_ID, ITEM_ID, TIMESTAMP, *([EVENT] if kinds else []), *([value] if value else [])]
    _needs(events, wanted, "the events")
    if kinds:
        events = events.filter(pc.is_in(events.column(EVENT).cast(pa.string()), pa.array(kinds)))
        if not events.num_rows:
            raise ValueError(
                f"no event is of the kinds {list(kinds)}; name others, or none for all"
            )
    lists = log.column(ITEM_ID).combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(log.num_rows), lengths)
    shown_pair, event_pair = _pairs(
        log.column(USER_ID).combine_chunks().take(pa.array(row)), pc.list_flatten(lists), events
    )
    shown_time = log.column(TIMESTAMP).to_numpy().astype(np.int64)[row]
    event_time = events.column(TIMESTAMP).to_numpy().astype(np.int64)
    earned = np.zeros(len(shown_pair))
    if len(shown_pair) and len(event_pair):
        order = np.lexsort((np.arange(len(row)), shown_time, shown_pair))
        first = min(int(shown_time.min()), int(event_time.min()))
        span = max(int(shown_time.max()), int(event_time.max())) - first + 1
        key = shown_pair[order] * span + (shown_time[order] - first)
        at = np.searchsorted(key, event_pair * span + (event_time - first), side="right") - 1
        last = order[np.maximum(at, 0)]
        fits = (at >= 0) & (event_pair > 0) & (shown_pair[last] == event_pair)
        fits &= event_time - shown_time[last] <= window
        worth = np.ones(len(event_pair))
        if value is not None:
            worth = pc.fill_null(pc.cast(events.column(value), pa.float64()), 0.0).to_numpy()
        np.add.at(earned, last[fits], worth[fits])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rewards = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(earned))
    kept = log.drop_columns([REWARD]) if REWARD in log.column_names else log
    return kept.append_column(REWARD, rewards)


def _needs(table: pa.Table, columns: Sequence[str], what: str) -> None:
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{what} needs the columns {list(columns)}; {missing} is missing; there are "
            f"{table.column_names}"
        )


def _pairs(users: pa.Array, items: pa.Array, events: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """One number from 1 for each pair of user and item that was shown, and 0 for other events."""
    known_users, known_items = users.unique(), items.unique()

    def codes(values: pa.Array | pa.ChunkedArray, known: pa.Array) -> np.ndarray:
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        found = pc.fill_null(pc.index_in(values.cast(known.type), known), -1)
        return found.to_numpy(zero_copy_only=False).astype(np.int64)

    width = len(known_items) + 1

    def pair(user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return np.where((user >= 0) & (item >= 0), 1 + user * width + item, 0)

    return (
        pair(codes(users, known_users), codes(items, known_items)),
        pair(
            codes(events.column(USER_ID), known_users), codes(events.column(ITEM_ID), known_items)
        ),
    )
