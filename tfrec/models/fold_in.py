"""A new user's vector by gradient steps on its history, everything else held fixed.

The vector is the most likely one given the history and the users that training knew: its prior is
the normal distribution with their mean and covariance, as in empirical Bayes. Steps are taken in
the prior's own coordinates, where all directions are of one size: few steps then suffice.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfrec.losses.logistic import softplus
from tfrec.models.blocks import in_blocks
from tfrec.models.history_set import once

USERS = 64  # users folded in at a time
SPREAD = 8192  # most items of the catalogue that stand for the unobserved ones
RATE = 0.5  # first step of Adam, in standard deviations of the users; falls to 0
BETA_1, BETA_2, EPSILON = 0.8, 0.95, 1e-7
# Weight of the prior. Learned vectors are pulled to their mean already, so that they are less
# scattered than the users: at a third folded vectors come out as long as learned ones on
# MovieLens-1M, and rank best (docs/fold-in.md).
PRIOR = 1.0 / 3.0


def average_user(users: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Mean of the users, float32 [dim]; arguments as of ``covariance_factor``. Zeros of none."""
    share = weight / tf.maximum(tf.reduce_sum(weight), 1.0)
    return tf.linalg.matvec(users, share, transpose_a=True)


def covariance_factor(users: tf.Tensor, mean: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Lower Cholesky factor of the users' covariance about ``mean``.

    The covariance is shrunk towards equal variances, the more so the fewer users there are for its
    dimensions: it has a factor even for a single user.

    Args:
        users: float32 [user, dim].
        mean: float32 [dim].
        weight: float32 [user], 1 for whom training knew, 0 for others.

    Returns:
        float32 [dim, dim].
    """
    dim = users.shape[-1]
    count = tf.reduce_sum(weight)
    scatter = (users - mean) * weight[:, tf.newaxis]
    spread = tf.matmul(scatter, users - mean, transpose_a=True) / tf.maximum(count, 1.0)
    share = dim / (dim + count)
    level = tf.maximum(tf.linalg.trace(spread) / dim, 1e-8)
    eye = tf.eye(dim)
    return tf.linalg.cholesky((1.0 - share) * spread + (share + 1e-4) * level * eye)


def with_folded(
    vectors: tf.Tensor, strangers: tf.Tensor, fold: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Vectors with those of strangers folded in; where there are none, nothing is computed.

    Args:
        vectors: float32 [batch, dim].
        strangers: bool [batch].
        fold: gives float32 [row, dim] of row numbers int64 [row].

    Returns:
        float32 [batch, dim].
    """
    rows = tf.where(strangers)
    return tf.cond(
        tf.shape(rows)[0] > 0,
        lambda: tf.tensor_scatter_nd_update(vectors, rows, fold(rows[:, 0])),
        lambda: vectors,
    )


def fold_in_histories(
    history: tf.Tensor,
    last_item: int | tf.Tensor,
    logits: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    start: tf.Tensor,
    factor: tf.Tensor,
    n_items: int,
    *,
    negatives: float,
    l2: float | tf.Tensor,
    steps: int,
    spread: int = SPREAD,
) -> tf.Tensor:
    """``fold_in_by_steps`` of histories as they come, ``USERS`` at a time.

    Args:
        history: int64 [batch, H] item indices, repeats and unknown ones among them.
        last_item: largest known index.
        logits, start, factor, n_items, negatives, l2, steps, spread: see ``fold_in_by_steps``.

    Returns:
        float32 [batch, dim].
    """
    dim, batch = factor.shape[0], tf.shape(history)[0]
    begin = tf.broadcast_to(start, [batch, dim])

    def block(first: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
        return fold_in_by_steps(
            once(history[first:stop], last_item),
            logits,
            begin[first:stop],
            factor,
            n_items,
            negatives=negatives,
            l2=l2,
            steps=steps,
            spread=spread,
        )

    return tf.ensure_shape(in_blocks(batch, USERS, block), [None, dim])


def fold_in_by_steps(
    items: tf.Tensor,
    logits: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    start: tf.Tensor,
    factor: tf.Tensor,
    n_items: int,
    *,
    negatives: float,
    l2: float | tf.Tensor,
    steps: int,
    spread: int = SPREAD,
) -> tf.Tensor:
    """Minimises the logistic loss of a history by Adam (Kingma & Ba 2015), users side by side.

    Nothing is drawn: every item that is not in the history weighs what it would be drawn, in a
    large catalogue ``spread`` items in equal distances stand for all (it is ordered by frequency).
    The same history always gives the same vector.

    Args:
        items: int64 [batch, H] item indices, each once, 0 is padding.
        logits: of vectors [batch, dim] and items int64 [batch or 1, n], float32 [batch, n].
        start: float32 [dim] or [batch, dim], mean of the prior, where the steps begin.
        factor: float32 [dim, dim], see ``covariance_factor``.
        n_items: size of the catalogue.
        negatives: of each positive, as in training.
        l2: regularisation of each example, as in training; [dim] where factors differ.
        steps: how many.
        spread: most items that stand for the unobserved ones.

    Returns:
        float32 [batch, dim]; ``start`` where a history is empty.
    """
    present = tf.cast(items > 0, tf.float32)
    count = tf.reduce_sum(present, axis=1)
    others = evenly(n_items, spread)
    unseen = 1.0 - _marks(items, others)
    rest = tf.maximum(tf.reduce_sum(unseen, axis=1), 1.0)
    draws = unseen * (negatives * count / rest)[:, tf.newaxis]
    examples = (1.0 + negatives) * count
    start = tf.broadcast_to(start, [tf.shape(items)[0], start.shape[-1]])

    def placed(offset: tf.Tensor) -> tf.Tensor:
        return start + tf.matmul(offset, factor, transpose_b=True)

    def gradient(offset: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(offset)
            vectors = placed(offset)
            liked = tf.reduce_sum(softplus(-logits(vectors, items)) * present, axis=1)
            other = tf.reduce_sum(softplus(logits(vectors, others[tf.newaxis])) * draws, axis=1)
            ridge = examples * tf.reduce_sum(l2 * vectors**2, axis=1)
            loss = liked + other + 0.5 * (ridge + PRIOR * tf.reduce_sum(offset**2, axis=1))
            # The mean over the examples: steps do not depend on a history's length then.
            loss = tf.reduce_sum(loss / tf.maximum(examples, 1.0))
        return tape.gradient(loss, offset)

    def step(
        t: tf.Tensor, offset: tf.Tensor, m: tf.Tensor, v: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        slope = gradient(offset)
        m = BETA_1 * m + (1 - BETA_1) * slope
        v = BETA_2 * v + (1 - BETA_2) * slope**2
        done = tf.cast(t, tf.float32)
        rate = RATE * (1.0 - done / steps)
        corrected = m / (1.0 - BETA_1 ** (done + 1.0))
        spreads = tf.sqrt(v / (1.0 - BETA_2 ** (done + 1.0)))
        return t + 1, offset - rate * corrected / (spreads + EPSILON), m, v

    zeros = tf.zeros_like(start)
    _, offset, _, _ = tf.while_loop(
        lambda t, *_: t < steps,
        step,
        (tf.constant(0), zeros, zeros, zeros),
        parallel_iterations=1,
    )
    return placed(offset)


def evenly(n_items: int, most: int) -> tf.Tensor:
    """At most ``most`` item indices of 1..n_items in equal distances, int64, ascending."""
    number = min(n_items, most)
    return ((2 * tf.range(number, dtype=tf.int64) + 1) * n_items) // (2 * number) + 1


def _marks(items: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """A one at each of ``others`` that is in the row, float32 [batch, other]."""
    number = tf.size(others, tf.int64)
    at = tf.searchsorted(others, tf.reshape(items, [-1]), out_type=tf.int64)
    at = tf.minimum(at, number - 1)
    inside = tf.where(tf.gather(others, at) == tf.reshape(items, [-1]), at, number)
    rows = tf.shape(items, tf.int64)[0]
    row = tf.repeat(tf.range(rows), tf.shape(items)[1])
    ones = tf.ones_like(inside, tf.float32)
    marks = tf.scatter_nd(tf.stack([row, inside], axis=1), ones, tf.stack([rows, number + 1]))
    return marks[:, :-1]
