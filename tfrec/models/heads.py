"""What a head's columns mean: losses and predictions by kind of objective, pure functions.

binary     one column, a logit. Where it is given another: ``p = p_given sigmoid(logit)``, and the
           log loss is that of the product over all rows (ESMM, Ma et al. 2018, SIGIR).
rating     one column, the rating; squared error over the rows that have one.
spend      zero-inflated log-normal (Wang, Liu & Miao 2019, arXiv:1912.07753): columns mu and sigma
           of the logarithm of what is spent and, where it is given nothing, first the logit of
           spending at all. Expected spend: ``p exp(mu + sigma^2 / 2)``.
"""

from __future__ import annotations

import tensorflow as tf

LOWEST = -1e-6  # log p stays below: log(1 - p) is finite
SIGMA = (0.05, 3.0)  # bounds of the log-normal's sigma: no spike, no endless mean


def log_not(log_p: tf.Tensor) -> tf.Tensor:
    """``log(1 - exp(log_p))`` without cancellation, any shape; ``log_p`` is below 0."""
    log_p = tf.minimum(log_p, LOWEST)
    near = log_p > -0.693
    # Both branches must be finite everywhere, or their gradient is not.
    first = tf.math.log(-tf.math.expm1(tf.where(near, log_p, -0.5)))
    second = tf.math.log1p(-tf.exp(tf.where(near, -1.0, log_p)))
    return tf.where(near, first, second)


def log_probability(logits: list[tf.Tensor]) -> tf.Tensor:
    """Log of the product of the sigmoids: a chain of conditions, float32 [batch]."""
    return tf.add_n([tf.math.log_sigmoid(logit) for logit in logits])


def binary_loss(logits: list[tf.Tensor], label: tf.Tensor) -> tf.Tensor:
    """Log loss, float32 [batch], of the product of the sigmoids.

    Args:
        logits: of the objective and all that it is given, float32 [batch] each.
        label: 0 or 1, float32 [batch].
    """
    if len(logits) == 1:
        return tf.nn.sigmoid_cross_entropy_with_logits(label, logits[0])
    log_p = log_probability(logits)
    return -(label * log_p + (1.0 - label) * log_not(log_p))


def sigma_of(raw: tf.Tensor) -> tf.Tensor:
    """The log-normal's sigma from its column, within ``SIGMA``."""
    return tf.clip_by_value(tf.nn.softplus(raw), *SIGMA)


def lognormal_loss(mu: tf.Tensor, raw: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    """Negative log density of positive labels, 0 for the others, float32 [batch].

    The terms that hold the label alone (``log y + log sqrt(2 pi)``) are left out.
    """
    positive = label > 0
    sigma = sigma_of(raw)
    apart = (tf.math.log(tf.where(positive, label, 1.0)) - mu) / sigma
    return tf.where(positive, tf.square(apart) / 2 + tf.math.log(sigma), 0.0)


def expected_lognormal(mu: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    """Mean of the log-normal, float32 [batch], in units of the label."""
    return tf.exp(mu + tf.square(sigma_of(raw)) / 2)
