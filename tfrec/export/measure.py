"""Whole-catalogue evaluation of an exported model, asked as it is served: by raw ids."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.encoded import RetrievalData
from tfrec.data.tables import Tables
from tfrec.evaluation.beyond import Beyond
from tfrec.evaluation.full_catalogue import evaluate_lists
from tfrec.evaluation.protocol import held_out
from tfrec.evaluation.result import Evaluation
from tfrec.export.batch import BatchRecommender
from tfrec.export.context import held_out_context
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.schema import FeatureTable


def data_of_ids(tables: Tables, splits: Mapping[str, pa.Table]) -> RetrievalData:
    """Encoded data that knows ids alone: enough to count hits, whatever features a model reads."""
    features = FeatureTable()
    with tempfile.TemporaryDirectory() as folder:
        encoder = fit_encoder(splits["train"], tables.users, tables.items, features, folder, 0)
        return retrieval_data(splits, tables.users, tables.items, encoder)


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
    name: str = "",
) -> Evaluation:
    """Measures a retrieval SavedModel on the test split; seen items are excluded.

    A model that takes context (a query) is given that of the held-out event.

    Args:
        model: its folder, or that of its versions.
        tables: canonical tables.
        splits: interactions of ``train``, ``eval`` and ``test``.
        ks: cut-offs.
        data: of ``data_of_ids``, where several models are measured.
        batch_size: most users asked at once.
        name: of the model in tables; by default its folder.

    Raises:
        ModelFolderError: no retrieval SavedModel there.
        ValueError: nothing is held out.
    """
    data = data or data_of_ids(tables, splits)
    questions = held_out(data, "test")
    known = pa.concat_tables([splits["train"], splits["eval"]])
    recommender = BatchRecommender(model, known, tables.users)
    context = held_out_context(splits["test"], data, questions)
    users = data.user_ids[questions.users]
    raw = recommender.lists(users, max(ks), batch_size, context)
    lists = indices_of(raw, data.item_ids)
    # A model trained on another catalogue may name items that this data lacks: close the gaps.
    order = np.argsort(lists == 0, axis=1, kind="stable")
    lists = np.take_along_axis(lists, order, axis=1)
    name = name or str(model)
    return evaluate_lists(
        lists, questions.users, data, "test", ks, name=name, beyond=Beyond(data, k=min(10, max(ks)))
    )
