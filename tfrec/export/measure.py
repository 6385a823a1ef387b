"""Whole-catalogue evaluation of an exported model, asked as it is served: by raw ids."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config.run import RATING_METRICS
from tfrec.data.encoded import RetrievalData
from tfrec.data.tables import Tables
from tfrec.evaluation.beyond import Beyond
from tfrec.evaluation.full_catalogue import evaluate_lists
from tfrec.evaluation.protocol import held_out
from tfrec.evaluation.rated import has_ratings
from tfrec.evaluation.result import Evaluation
from tfrec.export.batch import BatchRecommender
from tfrec.export.context import event_context, held_out_context
from tfrec.export.lists import saved_lists
from tfrec.export.rated import saved_errors
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.schema import FeatureTable, Role

GROUPS = ("categorical", "multi")  # kinds whose values are groups of items or users


@dataclass(frozen=True)
class Described:
    """Data to measure on, and what its groups are called.

    Attributes:
        data: encoded; it knows all ids, and the features that say who and what is alike.
        words: of each feature that makes groups, its values by index.
    """

    data: RetrievalData
    words: dict[str, np.ndarray]

    def groups(self, role: Role) -> list[str]:
        """Features that part users (one value each) or items (several may be)."""
        kinds = GROUPS if role == "item" else GROUPS[:1]
        return [f.name for f in self.data.features.of(role, ids=False) if f.kind in kinds]


def described(tables: Tables, splits: Mapping[str, pa.Table], features: FeatureTable) -> Described:
    """Encoded data for evaluation, whatever features a model reads.

    Of ``features`` those of users and items are kept by which lists are told apart: groups and
    vectors, where the tables have them. Ids are never limited: who is left out of a model's
    vocabulary is measured all the same.
    """
    columns = {"user": tables.users.column_names, "item": tables.items.column_names}
    kept = [
        f
        for f in features
        if f.name in columns.get(f.role, ()) and f.kind in (*GROUPS, "embedding")
    ]
    table = FeatureTable(features=tuple(kept))
    with tempfile.TemporaryDirectory() as folder:
        encoder = fit_encoder(splits["train"], tables.users, tables.items, table, folder, 0)
        data = retrieval_data(splits, tables.users, tables.items, encoder)
        words = {f.name: encoder.vocabulary(f.name) for f in kept if f.kind in GROUPS}
    return Described(data, words)


def data_of_ids(tables: Tables, splits: Mapping[str, pa.Table]) -> RetrievalData:
    """Encoded data that knows ids alone: enough to count hits."""
    return described(tables, splits, FeatureTable()).data


def indices_of(raw: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Item indices of raw ids, int32 of the same shape; unknown ones and '' are 0."""
    flat = pc.index_in(pa.array(raw.ravel().tolist(), pa.string()), pa.array(ids, pa.string()))
    return pc.fill_null(flat, 0).to_numpy(zero_copy_only=False).astype(np.int32).reshape(raw.shape)


def evaluate_saved(
    model: str | Path,
    tables: Tables,
    splits: Mapping[str, pa.Table],
    ks: Sequence[int] = (10, 20, 100),
    *,
    data: RetrievalData | None = None,
    batch_size: int = 1024,
    exclude_seen: bool = True,
    name: str = "",
) -> Evaluation:
    """Measures a retrieval SavedModel on the test split.

    A model that takes context (a query) is given that of the held-out event. Of one that predicts
    ratings ``rmse`` and ``mae`` of the held-out ratings go with the figures of ``beyond``, where
    the events are rated.

    Args:
        model: its folder, or that of its versions.
        tables: canonical tables.
        splits: interactions of ``train``, ``eval`` and ``test``.
        ks: cut-offs.
        data: of ``described`` or ``data_of_ids``, where several models are measured.
        batch_size: most users asked at once.
        exclude_seen: see ``tfrec.evaluation.held_out``.
        name: of the model in tables; by default its folder.

    Raises:
        ModelFolderError: no retrieval SavedModel there.
        ValueError: nothing is held out.
    """
    data = data or data_of_ids(tables, splits)
    questions = held_out(data, "test", exclude_seen)
    known = pa.concat_tables([splits["train"], splits["eval"]])
    recommender = BatchRecommender(model, known, tables.users)
    context = held_out_context(splits["test"], data, questions)
    found = evaluate_lists(
        saved_lists(recommender, data, questions, max(ks), context, batch_size),
        questions.users,
        data,
        "test",
        ks,
        exclude_seen=exclude_seen,
        name=name or str(model),
        beyond=Beyond(data, k=min(10, max(ks))),
    )
    beyond = dict(found.beyond)
    if recommender.predicts_ratings and has_ratings(data, "test"):
        told = event_context(splits["test"], data, "test")
        errors = saved_errors(recommender, data, "test", told, batch_size)
        beyond |= {metric: errors[metric] for metric in RATING_METRICS}
    return replace(found, beyond=beyond)
