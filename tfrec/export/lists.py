"""Lists of a SavedModel as item indices: how a model is measured as it will be asked."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.encoded import RetrievalData
from tfrec.data.progress import progress
from tfrec.evaluation.protocol import HeldOut
from tfrec.export.batch import BatchRecommender
from tfrec.schema import ITEM_ID


def saved_lists(
    recommender: BatchRecommender,
    data: RetrievalData,
    questions: HeldOut,
    k: int,
    context: pa.Table | None = None,
    batch_size: int = 1024,
) -> np.ndarray:
    """Asks for every tested user; what was known before is their history.

    Args:
        recommender: of a SavedModel, which may have been trained on other data, and of the events
            known before the questions: ``Log.from_encoded(data, questions.known)``.
        data: gives the ids of users and items.
        questions: who is asked, and whether what they had is left out.
        k: list length.
        context: what each question tells, one row a question; see ``held_out_context``.
        batch_size: most users a call.

    Returns:
        int32 [question, k] item indices of ``data``, best first, 0 behind a short list; items that
        ``data`` does not know are left out.
    """
    catalogue = pa.array([str(i) for i in data.item_ids], pa.string()).cast(pa.binary())
    users = data.user_ids[questions.users]
    out = np.zeros((len(users), k), np.int32)
    with progress("recommending", total=len(users)) as advance:
        for start, stop, answer in recommender.batches(
            users, k, batch_size, questions.exclude_seen, context
        ):
            named = answer[ITEM_ID]
            place = pc.fill_null(pc.index_in(pa.array(named.ravel(), pa.binary()), catalogue), 0)
            found = place.to_numpy(zero_copy_only=False).reshape(named.shape)
            out[start:stop] = packed(found, k)
            advance(stop - start)
    return out


def packed(indices: np.ndarray, k: int) -> np.ndarray:
    """Moves zeros behind, keeping the order of the rest; int [row, any] to [row, k]."""
    order = np.argsort(indices == 0, axis=1, kind="stable")
    kept = np.take_along_axis(indices, order, axis=1)[:, :k]
    return np.pad(kept, ((0, 0), (0, k - kept.shape[1])))
