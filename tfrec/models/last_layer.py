"""A posterior over the last layer's weights: how sure a ranker is, and draws for exploration.

Laplace's approximation (MacKay 1992; for the last layer alone: Riquelme, Tucker & Snoek 2018, ICLR,
"Deep Bayesian Bandits Showdown"): with ``h`` what the last layer reads (and a 1 for its bias),

    precision = prior I + sum over rows of  c h h',     covariance = precision^-1

where ``c`` is the Fisher information of the row's logit: ``s (1 - s)`` for a probability
``s = sigmoid(logit)``; ``g s (1 - s)^2 / (1 - g s)`` where the score is ``g s`` with ``g`` given;
``1 / variance of the residuals`` for ratings (Bayesian linear regression). The mean is the trained
layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.rerank.random import normal


class LastLayer(tf.Module):
    """The posterior, ready for a graph.

    Args:
        factor: float32 [units + 1, units + 1], lower triangular; covariance = factor factor'.
        task: ``binary`` or ``rating``.
    """

    def __init__(self, factor: np.ndarray, task: str) -> None:
        super().__init__(name="last_layer")
        self.factor = tf.Variable(np.asarray(factor, np.float32), trainable=False, name="factor")
        self.task = task

    def deviation(self, hidden: tf.Tensor) -> tf.Tensor:
        """Standard deviation of the logit, float32 [batch]; ``hidden`` [batch, units]."""
        return tf.norm(tf.matmul(with_one(hidden), self.factor), axis=1)

    def draws(
        self, logit: tf.Tensor, hidden: tf.Tensor, given: tf.Tensor, seed: tf.Tensor, n: tf.Tensor
    ) -> tf.Tensor:
        """Scores under weights drawn from the posterior.

        Args:
            logit, hidden, given: see ``LastLayerInputs``.
            seed: int64 [batch]; rows of one seed (the candidates of one request) have the same
                weights, whatever stands beside them.
            n: draws, int scalar.

        Returns:
            float32 [batch, n].
        """
        units = tf.shape(self.factor)[0]
        n = tf.cast(n, tf.int32)
        # Rows of a request share a seed: its numbers are drawn once.
        seeds, row = tf.unique(seed)
        noise = tf.reshape(normal(seeds, n * units), [-1, n, units])
        weights = tf.einsum("snu,iu->sni", noise, self.factor)
        moved = tf.einsum("bi,bni->bn", with_one(hidden), tf.gather(weights, row))
        logits = logit[:, None] + moved
        return logits if self.task == "rating" else given[:, None] * tf.sigmoid(logits)


def with_one(hidden: tf.Tensor) -> tf.Tensor:
    """Appends a column of ones, float32 [batch, units + 1]."""
    return tf.concat([hidden, tf.ones_like(hidden[:, :1])], axis=1)


def information(logit: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Fisher information of a logit whose probability is ``given * sigmoid(logit)``, [row]."""
    s = 1.0 / (1.0 + np.exp(-np.asarray(logit, np.float64)))
    g = np.asarray(given, np.float64)
    return g * s * (1 - s) ** 2 / np.maximum(1 - g * s, 1e-9)


def fit_last_layer(model: Any, batches: tf.data.Dataset, prior: float) -> LastLayer:
    """The posterior of a trained ranker.

    Args:
        model: a ``JointRanker`` with a hidden layer.
        batches: one pass of ``(inputs, labels)``, as it was trained on.
        prior: precision of the prior of every weight; the larger, the surer from the start.

    Raises:
        TypeError: the model has no hidden layer.
        ValueError: a prior that is not above 0, or no labelled row.
    """
    if not prior > 0:
        raise ValueError(f"the prior's precision is above 0; got {prior}")

    def parts(inputs: Mapping[str, tf.Tensor]) -> Any:
        return model.last_layer_inputs(inputs)

    read = tf.function(parts).get_concrete_function(batches.element_spec[0])
    total, errors, rows = np.zeros(()), 0.0, 0
    for inputs, labels in batches:
        label = labels.numpy()
        if label.ndim == 2:
            label = label[:, model.objective_names.index(model.primary)]
        known = np.isfinite(label)
        logit, hidden, given = (t.numpy()[known] for t in read(inputs))
        h = np.concatenate([hidden, np.ones((len(hidden), 1))], axis=1).astype(np.float64)
        weight = np.ones(len(h)) if model.task == "rating" else information(logit, given)
        total = total + (h * weight[:, None]).T @ h
        errors += float(np.sum((label[known] - logit) ** 2))
        rows += len(h)
    if not rows:
        raise ValueError("a posterior is fitted on labelled rows; there are none")
    if model.task == "rating":
        total = total / max(errors / rows, 1e-9)
    precision = total + prior * np.eye(len(total))
    # covariance = P^-1 = L^-T L^-1 with P = L L'; its lower factor is that of the inverse.
    inverse = np.linalg.inv(np.linalg.cholesky(precision))
    return LastLayer(np.linalg.cholesky(inverse.T @ inverse), model.task)
