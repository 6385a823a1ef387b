"""A model whose scores are given: evaluation is tested on it, not on learning."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import RetrievalData


class Fixed:
    """Scores from a table; counts how often it is traced."""

    history_length = 3

    def __init__(self, table: np.ndarray) -> None:
        self.table = tf.constant(table, tf.float32)  # [n_users + 1, n_items]
        self.traces = 0

    @classmethod
    def random(cls, data: RetrievalData, seed: int = 0, levels: int | None = None) -> Fixed:
        """Random scores; few ``levels`` make many ties."""
        random = np.random.default_rng(seed)
        shape = (data.n_users + 1, data.n_items)
        return cls(random.integers(0, levels, shape) if levels else random.normal(size=shape))

    def score_catalogue(self, users: dict[str, tf.Tensor]) -> tf.Tensor:
        self.traces += 1
        return tf.gather(self.table, users["user_id"])
