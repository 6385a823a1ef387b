"""A GMF that is solved: the vectors of ALS under output weights that make log odds of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.optimize import minimize
from scipy.special import expit

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.models.als import ALS
from tfrec.models.ncf_parts import GMFPart
from tfrec.models.pairs import NEGATIVES, pair_batches
from tfrec.schema import ITEM_ID, USER_ID

PAIRS = 8192  # observed pairs scored at a time
MOST_BATCHES = 64  # two numbers are fitted: half a million pairs are plenty
RIDGE = 1e-3


def log_odds_scale(observed: np.ndarray, drawn: np.ndarray) -> tuple[float, float]:
    """The logistic regression ``logit = scale * score + bias`` of what was observed (Platt 1999).

    Args:
        observed, drawn: float [n], [m], scores of observed pairs and of drawn ones.

    Returns:
        ``scale``, which is not negative, and ``bias``.
    """
    score = np.concatenate([observed, drawn]).astype(np.float64)
    label = np.arange(len(score)) < len(observed)
    spread = max(float(score.std()), 1e-9)
    score /= spread

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        logit = at[0] * score + at[1]
        error = expit(logit) - label
        # The ridge ends the growth where scores part the two entirely.
        value = np.mean(np.logaddexp(0, logit) - label * logit) + 0.5 * RIDGE * at[0] ** 2
        return value, np.array([np.mean(error * score) + RIDGE * at[0], np.mean(error)])

    found = minimize(
        loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]
    )
    return float(found.x[0]) / spread, float(found.x[1])


class SolvedGMF:
    """Trains a ``GMFPart`` by alternating least squares, in one pass whatever the epochs.

    ALS leaves scores between 0 and 1; ``h`` is the same in all factors and, with the bias, turns
    them into log odds of an observed pair against ``negatives`` drawn ones, as the MLP's are.
    Users without events get a vector of 0.

    Args:
        data: sizes.
        part: whose tables, output weights are set.
        params: of ``ALS`` but for ``dim``, which is the part's.
        negatives: drawn for each observed pair.
    """

    def __init__(
        self, data: RetrievalData, part: GMFPart, params: Mapping[str, Any], negatives: int
    ) -> None:
        try:
            self._als = ALS(data, dim=part.dim, **params)
        except TypeError as error:
            raise ValueError(
                f"gmf_als holds parameters of 'als' but for dim, which is factors; got "
                f"{dict(params)}: {error}"
            ) from error
        self._part, self._negatives = part, negatives
        self._pairs: tf.data.Dataset | None = None
        self.bias = tf.constant(0.0)

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        """The events, and aside a sample of pairs with drawn items."""
        self._pairs = pair_batches(data, PAIRS, self._negatives, train.seed).take(MOST_BATCHES)
        return self._als.training_data(data, train)

    def compile_for(self, train: TrainConfig) -> None:
        self._als.compile_for(train)

    def fit(self, x: tf.data.Dataset, **kwargs: Any) -> None:
        """Solves and sets the part; Keras's arguments are not read."""
        if self._pairs is None:
            raise RuntimeError("call training_data(data, train) first; it brings pairs to scale by")
        self._als.fit(x)
        unknown = [[1, 0], [0, 0]]  # row 0
        self._part.users.assign(tf.pad(self._als.users, unknown))
        self._part.items.assign(tf.pad(self._als.items, unknown))
        scores = np.concatenate([self._scores(batch).numpy() for batch in self._pairs])
        scale, bias = log_odds_scale(scores[:, 0], scores[:, 1:].ravel())
        self._part.head.assign(scale * tf.ones_like(self._part.head))
        self.bias = tf.constant(bias, tf.float32)

    @tf.function(reduce_retracing=True, autograph=False)
    def _scores(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """ALS's of the observed item and the drawn ones, float32 [pair, 1 + negatives]."""
        items = tf.concat([batch[ITEM_ID][:, tf.newaxis], batch[NEGATIVES]], axis=1)
        users = tf.gather(self._part.users, batch[USER_ID])
        return tf.einsum("bd,bnd->bn", users, tf.gather(self._part.items, items))
