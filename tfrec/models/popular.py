"""Most popular: the same list for everybody, the bar that every model has to clear."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.models.base import Users
from tfrec.models.closed_form import ClosedForm
from tfrec.schema import USER_ID


class Popular(ClosedForm):
    """Scores an item by the number of users who had it; equal counts go by lower index.

    Args:
        data: sizes.
    """

    def __init__(self, data: RetrievalData) -> None:
        super().__init__(data)
        self.counts = self._variable("counts", (self.n_items,))

    def solve(self, matrix: sp.csr_matrix) -> Mapping[str, float]:
        counts = np.asarray(matrix.sum(axis=0)).ravel()
        self.counts.assign(counts.astype(np.float32))
        return {"users_of_best": float(counts.max(initial=0))}

    def score_catalogue(self, users: Users) -> tf.Tensor:
        batch = tf.shape(users[USER_ID])[0]
        return tf.tile(self.counts[tf.newaxis, :], [batch, 1])
