"""Skip-gram batches over users' event sequences: windows and negatives, drawn anew every epoch."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import Interactions

CENTRE, CONTEXT, NEGATIVES = "centre", "context", "negatives"


def keep_probability(counts: np.ndarray, threshold: float) -> np.ndarray:
    """Share of an item's events that sub-sampling keeps: ``sqrt(t / f)``, at most 1.

    ``f`` is the item's share of all events (Mikolov et al. 2013, equation 5).

    Args:
        counts: int [item], events of each.
        threshold: t; 0 keeps all.

    Returns:
        float64 [item].
    """
    if not threshold:
        return np.ones(len(counts))
    share = counts / max(counts.sum(), 1)
    return np.minimum(1.0, np.sqrt(threshold / np.maximum(share, 1e-12)))


def negative_cumulative(counts: np.ndarray, exponent: float) -> np.ndarray:
    """Cumulative probabilities of the negatives, ``p(i) ~ counts[i] ** exponent``.

    Items without an event are never drawn. float64 [item]; the last is 1.
    """
    weights = np.where(counts > 0, np.maximum(counts, 1).astype(np.float64) ** exponent, 0.0)
    cumulative = np.cumsum(weights)
    return cumulative / cumulative[-1]


def skip_gram_dataset(
    events: Interactions,
    batch_size: int,
    seed: int,
    *,
    window: int,
    negatives: int,
    exponent: float,
    threshold: float,
) -> tf.data.Dataset:
    """One epoch: every event that sub-sampling keeps is a centre once, in random order.

    Its contexts are the kept events of the same user at most ``b`` places away, ``b`` drawn from
    1..window for each centre (nearer events count more, as in word2vec). Events left out close
    ranks, so a window may reach further.

    Args:
        events: sorted by user and time.
        batch_size: centres a batch; the last batch of an epoch may be smaller.
        seed: of everything drawn.
        window: largest distance.
        negatives: items drawn for each centre, shared by its contexts.
        exponent: of the items' counts, by which negatives are drawn: 0 is uniform, .75 word2vec's,
            below 0 prefers rare items (Caselles-Dupre et al. 2018).
        threshold: of sub-sampling, see ``keep_probability``.

    Yields:
        dict of int64 ``centre`` [batch], ``context`` [batch, 2 window] (0 where there is none) and
        ``negatives`` [batch, negatives].

    Raises:
        ValueError: no events, or a number out of its range.
    """
    if not len(events):
        raise ValueError("training needs at least one event; the train split is empty")
    if min(window, negatives) < 1 or threshold < 0:
        raise ValueError(
            f"window and negatives are from 1, the sub-sampling threshold from 0; got {window}, "
            f"{negatives} and {threshold}"
        )
    counts = events.item_counts()
    user, item = tf.constant(events.user), tf.constant(events.item)
    kept_share = tf.constant(keep_probability(counts, threshold)[events.item], tf.float32)
    cumulative = tf.constant(negative_cumulative(counts[1:], exponent))
    offsets = tf.constant([*range(-window, 0), *range(1, window + 1)], tf.int64)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        def seeds(purpose: int) -> tf.Tensor:
            return tf.stack([number, tf.constant(-purpose, tf.int64)])

        drawn = tf.random.stateless_uniform(tf.shape(item), seeds(1))
        kept = tf.where(drawn < kept_share)[:, 0]
        users, items = tf.gather(user, kept), tf.gather(item, kept)
        order = tf.random.experimental.stateless_shuffle(
            tf.range(tf.size(kept, tf.int64), dtype=tf.int64), seed=seeds(2)
        )

        def batch(step: tf.Tensor, centres: tf.Tensor) -> dict[str, tf.Tensor]:
            own = tf.stack([number, step])
            size = tf.shape(centres)[0]
            reach = tf.random.stateless_uniform([size, 1], own, 1, window + 1, tf.int64)
            at = centres[:, tf.newaxis] + offsets[tf.newaxis]
            inside = (at >= 0) & (at < tf.size(items, tf.int64)) & (tf.abs(offsets) <= reach)
            at = tf.where(inside, at, 0)
            inside &= tf.gather(users, at) == tf.gather(users, centres)[:, tf.newaxis]
            uniform = tf.random.stateless_uniform(
                [size * negatives], own + tf.constant([1, 0], tf.int64), dtype=tf.float64
            )
            chosen = tf.searchsorted(cumulative, uniform, side="right", out_type=tf.int64) + 1
            return {
                CENTRE: tf.cast(tf.gather(items, centres), tf.int64),
                CONTEXT: tf.cast(tf.where(inside, tf.gather(items, at), 0), tf.int64),
                NEGATIVES: tf.reshape(chosen, [size, negatives]),
            }

        batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
        return batches.enumerate().map(batch, num_parallel_calls=2)

    numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
    return numbers.flat_map(epoch).prefetch(2)
