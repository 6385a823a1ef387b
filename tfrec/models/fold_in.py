"""A new user's vector by gradient steps on its history, everything else held fixed."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

SPREAD = 128  # items of the catalogue that stand for the unobserved ones
RATE = 0.1  # first step of Adam, in units of a vector's entries; falls to 0
BETA_1, BETA_2, EPSILON = 0.8, 0.95, 1e-7


def fold_in_by_steps(
    items: tf.Tensor,
    logits: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    start: tf.Tensor,
    n_items: int,
    *,
    negatives: float,
    l2: float,
    steps: int,
) -> tf.Tensor:
    """Minimises the logistic loss of a history by Adam (Kingma & Ba 2015), users side by side.

    The observed items are positives; in place of drawn negatives stand ``SPREAD`` items spread
    evenly over the catalogue (which is ordered by frequency), weighted to count ``negatives`` for
    each positive: the same history always gives the same vector.

    Args:
        items: int64 [batch, H] item indices, each once, 0 is padding.
        logits: of vectors [batch, dim] and items int64 [batch or 1, n], float32 [batch, n].
        start: float32 [dim] or [batch, dim], where the steps begin, e.g. the average user.
        n_items: size of the catalogue.
        negatives: of each positive, as in training.
        l2: regularisation of each example, as in training.
        steps: how many.

    Returns:
        float32 [batch, dim].
    """
    present = tf.cast(items > 0, tf.float32)
    count = tf.reduce_sum(present, axis=1)
    stride = max(1, n_items // SPREAD)
    spread = tf.range(1, n_items + 1, stride, dtype=tf.int64)[tf.newaxis]
    weight = negatives * count / tf.cast(tf.size(spread), tf.float32)
    ridge = 0.5 * l2 * (1.0 + negatives) * count
    # The mean over the examples: Adam's first steps do not depend on a history's length then.
    scale = 1.0 / tf.maximum((1.0 + negatives) * count, 1.0)

    def gradient(vectors: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            liked = tf.reduce_sum(tf.nn.softplus(-logits(vectors, items)) * present, axis=1)
            other = tf.reduce_sum(tf.nn.softplus(logits(vectors, spread)), axis=1)
            loss = liked + weight * other + ridge * tf.reduce_sum(vectors**2, axis=1)
            loss = tf.reduce_sum(loss * scale)
        return tape.gradient(loss, vectors)

    def step(
        t: tf.Tensor, vectors: tf.Tensor, m: tf.Tensor, v: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        slope = gradient(vectors)
        m = BETA_1 * m + (1 - BETA_1) * slope
        v = BETA_2 * v + (1 - BETA_2) * slope**2
        done = tf.cast(t, tf.float32)
        rate = RATE * (1.0 - done / steps)
        corrected = m / (1.0 - BETA_1 ** (done + 1.0))
        spreads = tf.sqrt(v / (1.0 - BETA_2 ** (done + 1.0)))
        return t + 1, vectors - rate * corrected / (spreads + EPSILON), m, v

    vectors = tf.broadcast_to(start, [tf.shape(items)[0], start.shape[-1]])
    zeros = tf.zeros_like(vectors)
    _, vectors, _, _ = tf.while_loop(
        lambda t, *_: t < steps,
        step,
        (tf.constant(0), vectors, zeros, zeros),
        parallel_iterations=1,
    )
    return vectors
