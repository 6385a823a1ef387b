"""Skip-gram batches over users' event sequences: windows and negatives, drawn anew every epoch."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import Interactions

CENTRE, CONTEXT, NEGATIVES = "centre", "context", "negatives"
BEFORE, AFTER = "before", "after"

STRETCH = 32  # events that follow each other in a batch; neighbours are read once a stretch
FEWEST = 8  # stretches a batch, however small: replicas share them out
SHARED = 256  # negatives a batch


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
    exponent: float,
    threshold: float,
    shared: int = SHARED,
) -> tf.data.Dataset:
    """One epoch: every event that sub-sampling keeps is a centre once.

    All epochs have the same number of batches, however many events are kept: Keras ends training at
    the first epoch that is shorter than the one before. The number covers the expected events and
    four standard deviations.

    Its contexts are the kept events of the same user at most ``b`` places away, ``b`` drawn from
    1..window for each centre (nearer events count more, as in word2vec). Events left out close
    ranks, so a window may reach further.

    A batch is made of stretches of consecutive events in random order, cut elsewhere each epoch:
    neighbours of a whole stretch are the stretch itself and ``window`` events on both sides, so a
    row of vectors is read (and updated) about once an event and not once a pair. Negatives are
    drawn for the whole batch, which turns their logits into one product of matrices.

    Args:
        events: sorted by user and time.
        batch_size: centres a batch. All batches are equally large; the last is filled up with
            centres 0 without contexts.
        seed: of everything drawn.
        window: largest distance.
        exponent: of the items' counts, by which negatives are drawn: 0 is uniform, .75 word2vec's,
            below 0 prefers rare items (Caselles-Dupre et al. 2018).
        threshold: of sub-sampling, see ``keep_probability``.
        shared: least number of negatives drawn for a batch.

    Yields:
        dict of int64 ``centre`` [stretch, L], ``context`` [stretch, L + 2 window] (the events from
        ``window`` before the first centre to ``window`` behind the last, 0 where there is none),
        ``before`` and ``after`` [stretch, L] (how many events on each side of a centre are its
        contexts) and ``negatives`` [stretch, n], all of them shared by the batch. The context of
        centre ``[s, i]`` at distance ``d`` lies at ``[s, window + i + d]``.

    Raises:
        ValueError: no events, or a number out of its range.
    """
    if not len(events):
        raise ValueError("training needs at least one event; the train split is empty")
    if min(batch_size, window, shared) < 1 or threshold < 0:
        raise ValueError(
            f"batch_size, window and shared are from 1, the sub-sampling threshold from 0; got "
            f"{batch_size}, {window}, {shared} and {threshold}"
        )
    length = max(1, min(STRETCH, batch_size // FEWEST))
    stretches = max(1, batch_size // length)
    each = -(-shared // stretches)
    counts = events.item_counts()
    share = keep_probability(counts, threshold)[events.item]
    most = share.sum() + 4 * np.sqrt((share * (1 - share)).sum())
    most = min(int(np.ceil(most)), len(events)) + length - 1  # the phase shifts all
    batches = -(-most // (stretches * length))
    user, item = tf.constant(events.user), tf.constant(events.item, tf.int64)
    kept_share = tf.constant(share, tf.float32)
    cumulative = tf.constant(negative_cumulative(counts[1:], exponent))
    centre_at = tf.range(length, dtype=tf.int64)
    context_at = tf.range(-window, length + window, dtype=tf.int64)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        def seeds(purpose: int) -> tf.Tensor:
            return tf.stack([number, tf.constant(-purpose, tf.int64)])

        kept = tf.where(tf.random.stateless_uniform(tf.shape(item), seeds(1)) < kept_share)[:, 0]
        users, items = tf.gather(user, kept), tf.gather(item, kept)
        size = tf.size(kept, tf.int64)
        ends = tf.cumsum(tf.math.bincount(users, minlength=events.n_users + 1, dtype=tf.int64))
        starts = tf.pad(ends[:-1], [[1, 0]])
        phase = tf.random.stateless_uniform([], seeds(2), 0, length, tf.int64)
        first = tf.range(batches * stretches, dtype=tf.int64) * length - phase
        first = tf.random.experimental.stateless_shuffle(first, seed=seeds(3))

        def inside(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            there = (at >= 0) & (at < size)
            return there, tf.where(there, at, 0)

        def batch(step: tf.Tensor, first: tf.Tensor) -> dict[str, tf.Tensor]:
            own = tf.stack([number, step])
            there, centre = inside(first[:, tf.newaxis] + centre_at)
            near, context = inside(first[:, tf.newaxis] + context_at)
            reach = tf.random.stateless_uniform(
                [stretches, length], own, 1, window + 1, tf.int64
            ) * tf.cast(there, tf.int64)
            mine = tf.gather(users, centre)
            uniform = tf.random.stateless_uniform(
                [stretches, each], own + tf.constant([1, 0], tf.int64), dtype=tf.float64
            )
            drawn = tf.searchsorted(
                cumulative, tf.reshape(uniform, [-1]), side="right", out_type=tf.int64
            )
            return {
                CENTRE: tf.where(there, tf.gather(items, centre), 0),
                CONTEXT: tf.where(near, tf.gather(items, context), 0),
                BEFORE: tf.minimum(reach, centre - tf.gather(starts, mine)),
                AFTER: tf.minimum(reach, tf.gather(ends, mine) - 1 - centre),
                NEGATIVES: tf.reshape(drawn + 1, [stretches, each]),
            }

        cut = tf.data.Dataset.from_tensor_slices(first).batch(stretches, drop_remainder=True)
        return cut.enumerate().map(batch, num_parallel_calls=2)

    numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
    counted = tf.data.experimental.assert_cardinality(batches)
    return numbers.flat_map(epoch).apply(counted).prefetch(2)
