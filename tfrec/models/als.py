"""Implicit-feedback ALS (Hu, Koren & Volinsky 2008) as revisited by Rendle et al. (RecSys 2022)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.models.base import Users, item_rows_of
from tfrec.models.closed_form import ClosedForm, whole_history_length
from tfrec.models.history_set import once
from tfrec.schema import HISTORY

CHUNK = 128  # history items gathered at a time
BLOCK_BYTES = 128 << 20


class ALS(ClosedForm):
    """Vectors of users ``w`` and items ``h`` that minimise

    ``sum_observed (1 - w.h)^2 + a sum_all (w.h)^2 + l2 (sum_u (|I_u| + a |I|)^nu ||w_u||^2 +
    sum_i (|U_i| + a |U|)^nu ||h_i||^2)``

    by solving all users, then all items, in turn: batched normal equations and Cholesky solves.
    A user's vector is always solved from the history given, so new users, and known users with
    new events, are answered like all others.

    Args:
        data: sizes.
        dim: length of the vectors.
        sweeps: passes over users and items.
        unobserved_weight: ``a``, weight of each pair, observed or not.
        l2: regularisation.
        nu: exponent of the frequency scaling; 1 scales with the number of terms, 0 not at all.
        init: standard deviation of the first vectors' norm (each entry gets ``init / sqrt(dim)``).
        history_length: most recent items read; None reads all.

    Raises:
        ValueError: a size below 1 or a weight that is not positive.
    """

    def __init__(
        self,
        data: RetrievalData,
        dim: int = 64,
        sweeps: int = 12,
        unobserved_weight: float = 1.0,
        l2: float = 0.003,
        nu: float = 1.0,
        init: float = 0.1,
        history_length: int | None = None,
    ) -> None:
        super().__init__(data)
        if dim < 1 or sweeps < 1:
            raise ValueError(f"dim and sweeps are whole numbers from 1; got {dim} and {sweeps}")
        if min(unobserved_weight, l2, init) <= 0:
            raise ValueError(
                f"unobserved_weight, l2 and init are positive, else the equations are singular; "
                f"got {unobserved_weight}, {l2} and {init}"
            )
        self.dim, self.sweeps, self.nu, self.init_scale = dim, sweeps, nu, init
        self.alpha, self.l2 = unobserved_weight, l2
        self.history_length = whole_history_length(data, history_length)
        self.bytes_per_user = 4 * (3 * dim * dim + 2 * CHUNK * dim)
        self.users = self._variable("users", (self.n_users, dim))
        self.items = self._variable("items", (self.n_items, dim))
        self._seed = 0
        signature = [
            tf.TensorSpec([None, dim], tf.float32),
            tf.TensorSpec([dim, dim], tf.float32),
            tf.TensorSpec([None, None], tf.int64),
        ]
        self._solve_rows = tf.function(self._rows, input_signature=signature, autograph=False)

    def compile_for(self, train: TrainConfig) -> None:
        super().compile_for(train)
        self._seed = train.seed

    # -- the normal equations -----------------------------------------------------------------

    def _rows(self, table: tf.Tensor, gram: tf.Tensor, observed: tf.Tensor) -> tf.Tensor:
        """Solves rows of one side, the other held fixed.

        Args:
            table: float32 [m, dim], vectors of the other side.
            gram: float32 [dim, dim], ``table' table``.
            observed: int64 [batch, L], indices 1..m of the observed partners, each once; 0 pads.

        Returns:
            float32 [batch, dim]; zeros for a row without partners.
        """
        count = tf.reduce_sum(tf.cast(observed > 0, tf.float32), axis=1)
        length = tf.reduce_max(tf.reduce_sum(tf.cast(observed > 0, tf.int32), axis=1))
        # Padding goes behind, so that short histories cost no more than they hold.
        observed = tf.sort(observed, axis=1, direction="DESCENDING")
        padded = tf.concat([tf.zeros([1, self.dim]), table], axis=0)
        batch = tf.shape(observed)[0]
        left = tf.zeros([batch, self.dim, self.dim])
        right = tf.zeros([batch, self.dim])

        def chunk(start: tf.Tensor, left: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, ...]:
            vectors = tf.gather(padded, observed[:, start : start + CHUNK])
            left += tf.matmul(vectors, vectors, transpose_a=True)
            return start + CHUNK, left, right + tf.reduce_sum(vectors, axis=1)

        _, left, right = tf.while_loop(
            lambda start, *_: start < length,
            chunk,
            (tf.constant(0), left, right),
            parallel_iterations=1,
        )
        terms = tf.pow(count + self.alpha * tf.cast(tf.shape(table)[0], tf.float32), self.nu)
        ridge = (self.l2 * terms)[:, tf.newaxis, tf.newaxis] * tf.eye(self.dim)
        factor = tf.linalg.cholesky(left + self.alpha * gram + ridge)
        return tf.linalg.cholesky_solve(factor, right[:, :, tf.newaxis])[:, :, 0]

    def _half_sweep(self, target: tf.Variable, fixed: tf.Variable, matrix: sp.csr_matrix) -> None:
        """Solves every row of ``target``; rows of ``matrix`` [rows of target, rows of fixed]."""
        counts = np.diff(matrix.indptr)
        order = np.argsort(counts, kind="stable")  # rows of like length share a block
        table = tf.identity(fixed)
        gram = tf.matmul(table, table, transpose_a=True)
        row_bytes = 4 * (3 * self.dim**2 + 2 * CHUNK * self.dim)
        block = max(1, BLOCK_BYTES // row_bytes)
        solved = np.zeros((len(counts), self.dim), np.float32)
        for start in range(0, len(order), block):
            rows = order[start : start + block]
            longest = max(int(counts[rows[-1]]), 1)
            at = matrix.indptr[rows][:, None] + np.arange(longest)[None, :]
            inside = np.arange(longest)[None, :] < counts[rows][:, None]
            observed = np.zeros(at.shape, np.int64)
            observed[inside] = matrix.indices[at[inside]] + 1
            solved[rows] = self._solve_rows(table, gram, observed).numpy()
        target.assign(solved)

    def solve(self, matrix: sp.csr_matrix) -> Mapping[str, float]:
        random = np.random.default_rng(self._seed)
        scale = self.init_scale / np.sqrt(self.dim)
        self.items.assign(random.normal(0, scale, self.items.shape).astype(np.float32))
        transposed = matrix.T.tocsr()
        for _ in range(self.sweeps):
            self._half_sweep(self.users, self.items, matrix)
            self._half_sweep(self.items, self.users, transposed)
        self._half_sweep(self.users, self.items, matrix)
        return {"mean_item_norm": float(np.linalg.norm(self.items.numpy(), axis=1).mean())}

    # -- answers ------------------------------------------------------------------------------

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        table = tf.convert_to_tensor(self.items)
        gram = tf.matmul(table, table, transpose_a=True)
        return self._solve_rows(table, gram, once(history, self.n_items))

    def user_embedding(self, users: Users) -> tf.Tensor:
        return self.fold_in(users[HISTORY])

    def item_embedding(self, items: tf.Tensor | None = None) -> tf.Tensor:
        if items is None:
            return tf.convert_to_tensor(self.items)
        return item_rows_of(self.items, items)

    def score_catalogue(self, users: Users) -> tf.Tensor:
        return tf.matmul(self.user_embedding(users), self.items, transpose_b=True)

    def score(self, users: Users, items: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(self.user_embedding(users) * self.item_embedding(items), axis=1)
