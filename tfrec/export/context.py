"""Raw context columns of held-out events, for measuring a SavedModel as it is asked."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.protocol import HeldOut, Split
from tfrec.schema import EVENT, ITEM_ID, TIMESTAMP, USER_ID, WEIGHT

OUTCOME = frozenset({USER_ID, ITEM_ID, TIMESTAMP, WEIGHT, EVENT})


def held_out_context(table: pa.Table, data: RetrievalData, questions: HeldOut) -> pa.Table:
    """The context columns of the event that each question is about.

    Only what is known before the event may be told to a model; a model reads what its signature
    names, and that was decided by the feature table.

    Args:
        table: canonical interactions of the split that is held out.
        data: encoded from it.
        questions: see ``held_out``.

    Returns:
        Columns of ``table`` but those of the event itself, [question, ...], in the order of
        ``questions.users``.

    Raises:
        ValueError: the table lacks a held-out event.
    """
    return event_context(table, data, questions.split, questions.event)


def event_context(
    table: pa.Table, data: RetrievalData, split: Split, at: np.ndarray | None = None
) -> pa.Table:
    """The context columns of held-out events; see ``held_out_context``.

    Args:
        table: canonical interactions of the split.
        data: encoded from it.
        split: whose events.
        at: int [row], which of them; None takes all, in their order.

    Raises:
        ValueError: the table lacks an event.
    """
    events = getattr(data, split)
    user, item, time = events.user, events.item, events.timestamp
    if at is not None:
        user, item, time = user[at], item[at], time[at]
    there = table.column(TIMESTAMP).to_numpy()
    width = data.n_items + 1
    pair = _codes(table.column(USER_ID), data.user_ids) * width
    pair += _codes(table.column(ITEM_ID), data.item_ids)
    wanted = user.astype(np.int64) * width + item
    # Pair and time as one dense number each, so that both fit one key whatever their sizes.
    pairs = np.unique(np.concatenate([pair, wanted]), return_inverse=True)[1]
    moments, times = np.unique(np.concatenate([there, time]), return_inverse=True)
    key, asked = np.split(pairs * len(moments) + times, [len(pair)])
    order = np.argsort(key, kind="stable")
    place = np.minimum(np.searchsorted(key[order], asked), max(len(key) - 1, 0))
    if len(asked) and (not len(key) or (key[order][place] != asked).any()):
        raise ValueError(
            f"the table holds the held-out events of the {split} split; some are missing "
            f"in its {len(key)} rows; pass the interactions that the data was encoded from"
        )
    kept = [name for name in table.column_names if name not in OUTCOME]
    return table.select(kept).take(pa.array(order[place]))


def _codes(ids: pa.ChunkedArray, known: np.ndarray) -> np.ndarray:
    """Indices of raw ids, int64 [row]; 0 for unknown ones."""
    values = pa.array([str(i) for i in known], pa.string())
    found = pc.fill_null(pc.index_in(ids.cast(pa.string()), values), 0)
    return found.to_numpy().astype(np.int64)
