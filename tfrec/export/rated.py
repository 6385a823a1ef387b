"""Errors of a SavedModel's predicted ratings, asked as it is served."""

from __future__ import annotations

import pyarrow as pa

from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.pointwise import rating_metrics
from tfrec.evaluation.protocol import Split
from tfrec.evaluation.rated import held_out_ratings
from tfrec.export.batch import BatchRecommender


def saved_errors(
    recommender: BatchRecommender,
    data: RetrievalData,
    split: Split = "test",
    context: pa.Table | None = None,
    batch_size: int = 1024,
) -> dict[str, float]:
    """``rmse`` and ``mae`` of a split's ratings, and ``n``, their number; cf. ``evaluate_ratings``.

    Args:
        recommender: of a SavedModel with the signature ``predict``, which may have been trained on
            other data, and of the events known before the split: ``Log.from_encoded(data, known)``
            of ``held_out_ratings``.
        data: gives ids and ratings.
        split: which ratings are asked for.
        context: what is told with each event, in the order of the split; see ``event_context``.
        batch_size: most pairs a call.

    Raises:
        ModelFolderError: the model predicts no ratings.
        ValueError: the split holds none.
    """
    events, _ = held_out_ratings(data, split)
    users, items = data.user_ids[events.user], data.item_ids[events.item]
    predicted = recommender.ratings(users, items, batch_size, context)
    return {**rating_metrics(events.weight, predicted), "n": float(len(events))}
