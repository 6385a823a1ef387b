"""Logistic loss of many logits at once."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


@tf.custom_gradient
def softplus(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """``log(1 + exp(x))`` and its slope out of one sigmoid.

    TensorFlow's own kernel takes several times as long on a CPU (see docs/item2vec.md), which tells
    where logits are many and vectors short. ``max(x, 0) - log s(|x|)`` is exact for large logits of
    both signs, as ``s(|x|)`` lies in 1/2..1.

    Args:
        x: float [...].

    Returns:
        float [...] of the same shape.
    """
    rising = tf.sigmoid(x)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        return upstream * rising

    return tf.nn.relu(x) - tf.math.log(tf.maximum(rising, 1.0 - rising)), gradient
