"""Raw context columns of held-out events, for measuring a SavedModel as it is asked."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.protocol import HeldOut
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
    events = getattr(data, questions.split)
    user = _codes(table.column(USER_ID), data.user_ids)
    item = _codes(table.column(ITEM_ID), data.item_ids)
    key = user * (data.n_items + 1) + item
    # Of equal pairs the earliest comes first, as in the encoded data.
    order = np.lexsort((np.arange(len(key)), table.column(TIMESTAMP).to_numpy(), key))
    at = questions.event
    wanted = events.user[at].astype(np.int64) * (data.n_items + 1) + events.item[at]
    place = np.minimum(np.searchsorted(key[order], wanted), max(len(key) - 1, 0))
    if not len(key) or (key[order][place] != wanted).any():
        raise ValueError(
            f"the table holds the held-out events of the {questions.split} split; some are missing "
            f"in its {len(key)} rows; pass the interactions that the data was encoded from"
        )
    kept = [name for name in table.column_names if name not in OUTCOME]
    return table.select(kept).take(pa.array(order[place]))


def _codes(ids: pa.ChunkedArray, known: np.ndarray) -> np.ndarray:
    """Indices of raw ids, int64 [row]; 0 for unknown ones."""
    values = pa.array([str(i) for i in known], pa.string())
    found = pc.fill_null(pc.index_in(ids.cast(pa.string()), values), 0)
    return found.to_numpy().astype(np.int64)
