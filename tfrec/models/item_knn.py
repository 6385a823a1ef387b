"""Item-based nearest neighbours (Sarwar et al., WWW 2001; shrinkage: Bell & Koren, ICDM 2007)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.models.base import Users
from tfrec.models.closed_form import ClosedForm, whole_history_length
from tfrec.models.history_set import history_marks
from tfrec.schema import HISTORY

BLOCK_BYTES = 64 << 20


class ItemKNN(ClosedForm):
    """Scores an item by its similarity to those of its nearest neighbours that the user has.

    ``similarity(i, j) = c_ij / (sqrt(c_i c_j) + shrinkage)``, where ``c_ij`` users have both items;
    the score of ``i`` is the sum over its ``neighbours`` most similar items ``j`` in the history.

    Args:
        data: sizes.
        neighbours: kept for each item; cut to n_items - 1.
        shrinkage: in users; damps similarities that rest on few users.
        history_length: most recent items read; None reads all.

    Raises:
        ValueError: ``neighbours`` below 1 or a negative shrinkage.
    """

    def __init__(
        self,
        data: RetrievalData,
        neighbours: int = 100,
        shrinkage: float = 10.0,
        history_length: int | None = None,
    ) -> None:
        super().__init__(data)
        if neighbours < 1 or shrinkage < 0:
            raise ValueError(
                f"neighbours is from 1 and shrinkage from 0; got {neighbours} and {shrinkage}"
            )
        self.kept = max(1, min(neighbours, self.n_items - 1))
        self.shrinkage = shrinkage
        self.history_length = whole_history_length(data, history_length)
        self.bytes_per_user = 8 * self.n_items  # the marks and their transpose
        self.similarity = self._variable("similarity", (self.n_items, self.kept))
        self.neighbour = self.add_weight(
            name="neighbour",
            shape=(self.n_items, self.kept),
            dtype=tf.int32,
            initializer="zeros",
            trainable=False,
        )

    def solve(self, matrix: sp.csr_matrix) -> Mapping[str, float]:
        transposed = matrix.T.tocsr()
        norm = np.sqrt(np.asarray(matrix.sum(axis=0)).ravel())
        similarity = np.zeros((self.n_items, self.kept), np.float32)
        neighbour = np.zeros((self.n_items, self.kept), np.int32)
        block = max(1, BLOCK_BYTES // (8 * self.n_items))
        for start in range(0, self.n_items, block):
            stop = min(start + block, self.n_items)
            rows = np.arange(stop - start)
            together = (transposed[start:stop] @ matrix).toarray()
            together /= norm[start:stop, None] * norm[None, :] + self.shrinkage + 1e-12
            together[rows, rows + start] = 0.0
            best = np.argsort(-together, axis=1, kind="stable")[:, : self.kept]
            neighbour[start:stop] = best
            similarity[start:stop] = np.take_along_axis(together, best, axis=1)
        self.similarity.assign(similarity)
        self.neighbour.assign(neighbour)
        return {"mean_similarity": float(similarity.mean())}

    def score_catalogue(self, users: Users) -> tf.Tensor:
        marks = tf.sparse.to_dense(history_marks(users[HISTORY], self.n_items))
        rows = tf.repeat(tf.range(self.n_items, dtype=tf.int64), self.kept)
        columns = tf.cast(tf.reshape(self.neighbour, [-1]), tf.int64)
        near = tf.SparseTensor(
            tf.stack([rows, columns], axis=1),
            tf.reshape(self.similarity, [-1]),
            [self.n_items, self.n_items],
        )
        return tf.transpose(tf.sparse.sparse_dense_matmul(near, marks, adjoint_b=True))
