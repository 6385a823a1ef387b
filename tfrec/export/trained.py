"""What an exported retrieval model gets of the data: an index measured on its users.

It needs the trained model and the encoded data; what it writes needs neither.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrec.config.index import IndexConfig
from tfrec.data.encoded import RetrievalData
from tfrec.export.index import index_model
from tfrec.models.base import Recommender
from tfrec.models.dot_product import dot_product
from tfrec.retrieval.build import IndexReport

BLOCK = 256  # users whose queries are made at a time


def sample_queries(
    model: Recommender, data: RetrievalData, count: int, seed: int = 0
) -> np.ndarray:
    """Queries of users as they stand at the end of training, float32 [<= count, dim].

    Args:
        model: one whose score is an inner product.
        data: its data.
        count: users drawn.
        seed: of the draw.

    Raises:
        ValueError: the model's score is no inner product.
    """
    sides = dot_product(model)
    if sides is None:
        raise ValueError(
            f"retrieval.index.kind 'ivf' needs a model whose score is an inner product, which "
            f"{type(model).__name__} is not; take two_tower, als, mf_*, sasrec, gru4rec or "
            f"item2vec, or kind 'brute_force'"
        )
    users = np.flatnonzero(data.train.user_counts())
    if len(users) > count:
        users = np.sort(np.random.default_rng(seed).choice(users, count, replace=False))
    parts = []
    for at in range(0, len(users), BLOCK):
        told = data.user_inputs(users[at : at + BLOCK], data.train, max(model.history_length, 1))
        parts.append(sides.query({k: tf.constant(v) for k, v in told.items()}).numpy())
    return np.concatenate(parts)


def index_trained(
    model: Recommender, data: RetrievalData, folder: str | Path, config: IndexConfig
) -> IndexReport | None:
    """Puts the configured index into an exported model, in place.

    Args:
        model: trained.
        data: what it was trained on.
        folder: of its SavedModel.
        config: None is returned, and nothing is done, for ``brute_force``.
    """
    if config.kind == "brute_force":
        return None
    samples = sample_queries(model, data, config.sample, config.seed)
    return index_model(folder, folder, config, samples)
