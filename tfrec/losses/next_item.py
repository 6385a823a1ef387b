"""Losses of the next item of a history, for models whose score is a plain dot product.

All take one row a position that has a target; see ``next_item_loss`` for the four of them.
"""

from __future__ import annotations

import tensorflow as tf

LOSSES = ("softmax", "sampled_softmax", "gbce", "bce")


def gbce_beta(negatives: int, n_items: int, calibration: float) -> float:
    """The power of the positive's probability in gBCE (Petrov & Macdonald 2023, equation 16).

    With sampling rate ``alpha = negatives / (n_items - 1)``:
    ``beta = alpha (t (1 - 1 / alpha) + 1 / alpha)``; ``t = 0`` gives 1, which is plain BCE, and
    ``t = 1`` gives alpha, under which the predicted probabilities are calibrated.

    Raises:
        ValueError: a calibration outside 0..1.
    """
    if not 0 <= calibration <= 1:
        raise ValueError(f"calibration is in 0..1; got {calibration}; mend 'params'")
    alpha = min(1.0, negatives / max(n_items - 1, 1))
    return alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)


def binary_losses(
    positive: tf.Tensor,
    negative: tf.Tensor,
    items: tf.Tensor,
    drawn: tf.Tensor,
    beta: float,
) -> tf.Tensor:
    """``-log sigmoid(s+) ** beta - sum log(1 - sigmoid(s-))`` over drawn items other than the own.

    Args:
        positive: float32 [batch, position], score of the target.
        negative: float32 [batch, position, n], scores of the drawn items.
        items: int64 [batch, position], targets.
        drawn: int64 [batch, n] item indices, shared by a row's positions.
        beta: see ``gbce_beta``.

    Returns:
        float32 [batch, position].
    """
    other = tf.cast(items[:, :, tf.newaxis] != drawn[:, tf.newaxis, :], tf.float32)
    pushed = tf.reduce_sum(tf.nn.softplus(negative) * other, axis=-1)
    return beta * tf.nn.softplus(-positive) + pushed
