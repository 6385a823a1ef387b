"""Runs the doctor on a configuration and, where there is one, its exported model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from tfrec.config import Config
from tfrec.evaluation.doctor import (
    Finding,
    duplicate_candidates,
    examine,
    feature_values,
    leaks,
    out_of_vocabulary,
)
from tfrec.evaluation.protocol import held_out
from tfrec.export.batch import BatchRecommender
from tfrec.export.context import held_out_context
from tfrec.export.lists import saved_lists
from tfrec.training.workspace import open_workspace

USERS = 2000  # most users whose lists are looked at
K = 10


def checkup(config: Config, model: Path | None, work: Path | None = None) -> list[Finding]:
    """All findings.

    Args:
        config: names the data, the split and the features.
        model: a retrieval SavedModel; without one only the data is looked at.
        work: folder that keeps the canonical tables; by default ``pipeline.root``.
    """
    space = open_workspace(config, work or Path(config.pipeline.root) / "doctor")
    if model is None:
        return [
            *leaks(space.splits),
            *out_of_vocabulary(space.data, space.splits),
            *feature_values(space.data),
            duplicate_candidates(space.tables.items),
        ]
    users = np.unique(space.data.test.user)
    if len(users) > USERS:
        users = np.sort(np.random.default_rng(0).choice(users, USERS, replace=False))
    questions = held_out(space.data, "test", config.gate.exclude_seen, users)
    known = pa.concat_tables([space.splits["train"], space.splits["eval"]])
    recommender = BatchRecommender(model, known, space.tables.users)
    context = held_out_context(space.splits["test"], space.data, questions)
    lists = saved_lists(recommender, space.data, questions, K, context)
    return examine(space.data, space.splits, space.tables.items, questions, lists)
