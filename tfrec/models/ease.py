"""EASE: an item-item linear model in closed form (Steck, WWW 2019, equations 5 to 8)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.models.base import Users
from tfrec.models.closed_form import ClosedForm, whole_history_length
from tfrec.models.history_set import history_times
from tfrec.schema import HISTORY

LARGEST = 30_000


class EASE(ClosedForm):
    """Scores = x B, where x marks the items of the user's history.

    B minimises ``||X - X B||^2 + l2 ||B||^2`` with a zero diagonal: with ``P = (X'X + l2 I)^-1``,
    ``B[i, j] = -P[i, j] / P[j, j]``. The inverse is taken in float64; at its peak fitting holds
    about 16 bytes, the model 4 bytes, for each pair of items (10,000 items: 1.6 GB and 0.4 GB).

    Args:
        data: sizes.
        l2: ridge, in events; 100 to 1000 suits most sets.
        history_length: most recent items read; None reads all.

    Raises:
        ValueError: ``l2`` is not positive, or there are more items than fit (30,000).
    """

    def __init__(
        self, data: RetrievalData, l2: float = 500.0, history_length: int | None = None
    ) -> None:
        super().__init__(data)
        if l2 <= 0:
            raise ValueError(f"l2 is a positive ridge, else X'X has no inverse; got {l2}; try 500")
        if self.n_items > LARGEST:
            raise ValueError(
                f"EASE keeps n_items x n_items weights, at most {LARGEST} items; got "
                f"{self.n_items} ({4e-9 * self.n_items**2:.0f} GB); raise data.min_item_events or "
                f"take 'als'"
            )
        self.l2 = l2
        self.history_length = whole_history_length(data, history_length)
        self.bytes_per_user = 4 * self.n_items
        self.item_item = self._variable("item_item", (self.n_items, self.n_items))

    def solve(self, matrix: sp.csr_matrix) -> Mapping[str, float]:
        gram = np.asarray((matrix.T @ matrix).todense(), np.float64)
        gram[np.diag_indices_from(gram)] += self.l2
        largest = float(gram.diagonal().max())
        factor, failed = scipy.linalg.lapack.dpotrf(gram, lower=0, clean=0, overwrite_a=1)
        pivot = float(factor.diagonal().min()) ** 2
        inverse, info = scipy.linalg.lapack.dpotri(factor, lower=0, overwrite_c=1)
        # A pivot at the rounding of the largest entry is a zero: items that always go together.
        if failed or info or not pivot > self.n_items * np.finfo(np.float64).eps * largest:
            raise ValueError(f"X'X + l2 I is not invertible with l2 = {self.l2}; raise l2")
        inverse = np.triu(inverse) + np.triu(inverse, 1).T  # only the upper half was filled
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        self.item_item.assign(weights.astype(np.float32))
        return {"mean_abs_weight": float(np.abs(weights).mean())}

    def score_catalogue(self, users: Users) -> tf.Tensor:
        return history_times(users[HISTORY], self.item_item)
