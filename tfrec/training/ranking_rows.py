"""Rows for the ranker: events with labels, features and point-in-time histories, in stock ops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import tensorflow as tf

from tfrec.config import RankingConfig
from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.data.objectives import unobserved_label
from tfrec.data.unobserved import Unobserved
from tfrec.schema import HISTORY, ITEM_ID, USER_ID

Split = Literal["train", "validation", "test"]
Row = tuple[dict[str, tf.Tensor], tf.Tensor]


def history_bounds(known: Interactions, user: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
    """Where each moment lies in a user's events.

    Args:
        known: events sorted by user and time.
        user: int [row], user indices.
        timestamp: int64 [row], seconds.

    Returns:
        int64 [row], the position in ``known`` behind the last event of the user that is *earlier*
        than the timestamp; events of the same second are not.
    """
    if not len(known):
        return np.zeros(len(user), np.int64)
    # User and time make one ascending key: times are shifted to 0..span and thus fit beside users.
    first = int(known.timestamp.min())
    span = int(known.timestamp.max()) - first + 2
    keys = known.user.astype(np.int64) * span + (known.timestamp - first)
    moment = np.clip(np.asarray(timestamp, np.int64) - first, 0, span - 1)
    return np.searchsorted(keys, np.asarray(user, np.int64) * span + moment, side="left")


class RankingRows:
    """The rows of one split.

    A row is a (user, item) pair with the user's, the item's and the event's context features, the
    user's history strictly before the event and a label. Label ``rating`` makes one row of each
    event; label ``purchase`` adds ``negatives`` unobserved items to each event, which share its
    context and its moment.

    With ``ranking.objectives`` a label is one number an objective, NaN where there is none; events
    that have none at all (all but the first of an encounter) make no row.

    Histories of the train split read train events alone; those of validation and test read what
    had happened by the moment of the event, later splits aside.

    Args:
        data: encoded data.
        split: which events.
        ranking: label, task, threshold, negatives and history length.

    Attributes:
        events: the split's events.
        rows_an_event: rows made of each event.

    Raises:
        ValueError: the split holds no events.
    """

    def __init__(self, data: RetrievalData, split: Split, ranking: RankingConfig) -> None:
        self.events: Interactions = labelled(getattr(data, split), ranking)
        if not len(self.events):
            raise ValueError(
                f"the {split} split holds no events to rank; check the split's shares and the "
                f"filters data.min_item_events and data.min_user_events"
            )
        known = data.train
        for name in ("validation", "test"):
            if split in (name, "test"):
                known = known.join(getattr(data, name))
        self.ranking = ranking
        self.rows_an_event = 1 + (ranking.negatives if ranking.label == "purchase" else 0)
        self._unobserved = Unobserved(known) if ranking.label == "purchase" else None
        self._user = tf.constant(self.events.user, tf.int64)
        self._item = tf.constant(self.events.item, tf.int64)
        self.labels = event_labels(self.events, ranking)
        self._label = tf.constant(self.labels)
        self._context = _constants(self.events.context)
        self._users = _constants(data.users)
        self._items = _constants(data.items)
        end = history_bounds(known, self.events.user, self.events.timestamp)
        start = known.indptr[self.events.user]
        self._end = tf.constant(end, tf.int64)
        self._start = tf.constant(np.maximum(start, end - ranking.history_length), tf.int64)
        self._known_item = tf.constant(known.item, tf.int64)

    def __len__(self) -> int:
        return len(self.events) * self.rows_an_event

    @property
    def mean_label(self) -> float:
        """Mean label of all rows, where none has to be left out for want of negatives."""
        return float(tf.reduce_mean(self._label)) / self.rows_an_event

    @property
    def negatives_kept(self) -> float:
        """Share of the pairs (event's user, item the user has not) that are rows; 1 unsampled.

        Of n negatives an event and ``free`` items to draw from: ``n x events / sum of free``.
        """
        if self._unobserved is None:
            return 1.0
        free = self._unobserved.free(self._user).numpy()
        free = free[free > 0].astype(np.float64)
        return float((self.rows_an_event - 1) * len(free) / free.sum()) if len(free) else 1.0

    def batch(self, at: tf.Tensor, seed: tf.Tensor) -> Row:
        """The rows of some events.

        Args:
            at: int64 [event], positions in ``events``.
            seed: int [2], of the negatives.

        Returns:
            Encoded features by name, each [row, ...], and labels float32 [row] or
            [row, objective].
        """
        user, item, label = (tf.gather(t, at) for t in (self._user, self._item, self._label))
        if self._unobserved is not None:
            n = self.rows_an_event - 1
            drawn = self._unobserved.sample(user, n, seed)
            item = tf.reshape(tf.concat([item[:, tf.newaxis], drawn], 1), [-1])
            label = self._with_unobserved(label)
            observed = tf.range(tf.shape(item)[0]) % self.rows_an_event == 0
            at, user = (tf.repeat(t, self.rows_an_event) for t in (at, user))
            # Whoever has touched the whole catalogue has no negatives.
            kept = (self._unobserved.free(user) > 0) | observed
            at, user, item, label = (tf.boolean_mask(t, kept) for t in (at, user, item, label))
        inputs = {name: tf.gather(values, at) for name, values in self._context.items()}
        inputs |= {name: tf.gather(values, user) for name, values in self._users.items()}
        inputs |= {name: tf.gather(values, item) for name, values in self._items.items()}
        inputs |= {USER_ID: user, ITEM_ID: item}
        if self.ranking.history_length > 0:
            inputs[HISTORY] = self._histories(at)
        return inputs, label

    def _with_unobserved(self, label: tf.Tensor) -> tf.Tensor:
        """Labels of rows from those of their events: what nobody touched follows each event."""
        nothing = tf.zeros([])
        if self.ranking.objectives:
            nothing = tf.constant(unobserved_label(self.ranking.objectives))
        shape = tf.concat([[tf.shape(label)[0], self.rows_an_event - 1], tf.shape(nothing)], 0)
        rows = tf.concat([label[:, tf.newaxis], tf.broadcast_to(nothing, shape)], 1)
        return tf.reshape(rows, tf.concat([[-1], tf.shape(nothing)], 0))

    def dataset(self, batch_size: int, seed: int, shuffle: bool) -> tf.data.Dataset:
        """Batches of about ``batch_size`` rows.

        Args:
            batch_size: rows; whole events are taken, at least one.
            seed: of order and negatives.
            shuffle: True repeats for ever, each pass in a new order with new negatives (give
                ``steps(batch_size)`` to ``fit``); False is one pass in the events' order with
                negatives that depend on the seed alone.
        """
        n, size = len(self.events), self._events_a_batch(batch_size)

        def one_pass(epoch: tf.Tensor) -> tf.data.Dataset:
            order = tf.range(n, dtype=tf.int64)
            if shuffle:
                order = tf.random.experimental.stateless_shuffle(order, tf.stack([seed, epoch]))
            starts = tf.data.Dataset.range(0, n, size)
            return starts.map(lambda start: (order[start : start + size], epoch * n + start))

        def rows(at: tf.Tensor, step: tf.Tensor) -> Row:
            return self.batch(at, tf.stack([tf.cast(seed, tf.int64), step]))

        epochs = tf.data.Dataset.counter() if shuffle else tf.data.Dataset.range(1)
        batches = epochs.flat_map(one_pass).map(rows, num_parallel_calls=2, deterministic=True)
        options = tf.data.Options()
        # Batches are already those of all replicas together: they are cut, never the source.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return batches.prefetch(4).with_options(options)

    def steps(self, batch_size: int) -> int:
        """Batches of one pass."""
        return -(-len(self.events) // self._events_a_batch(batch_size))

    def _events_a_batch(self, batch_size: int) -> int:
        return max(1, batch_size // self.rows_an_event)

    def _histories(self, at: tf.Tensor) -> tf.Tensor:
        """int64 [row, H], oldest first, 0 behind."""
        start, end = tf.gather(self._start, at), tf.gather(self._end, at)
        width = self.ranking.history_length
        place = start[:, tf.newaxis] + tf.range(width, dtype=tf.int64)
        inside = place < end[:, tf.newaxis]
        items = tf.gather(self._known_item, tf.where(inside, place, 0))
        return tf.where(inside, items, 0)


def labelled(events: Interactions, ranking: RankingConfig) -> Interactions:
    """The events that make rows: with objectives, those that have a label of any.

    Raises:
        ValueError: the data was encoded without these objectives.
    """
    if not ranking.objectives:
        return events
    missing = [name for name in ranking.objectives if name not in events.labels]
    if missing:
        raise ValueError(
            f"events carry a label for each objective; the data lacks {missing} (it has "
            f"{list(events.labels)}); encode it with ranking.objectives (retrieval_data(..., "
            f"objectives))"
        )
    known = [np.isfinite(events.labels[name]) for name in ranking.objectives]
    return events.select(np.any(known, axis=0))


def event_labels(events: Interactions, ranking: RankingConfig) -> np.ndarray:
    """Labels of observed events, float32 [event], or [event, objective]."""
    if not ranking.objectives:
        return labels(events.weight, ranking)
    return np.stack([events.labels[name] for name in ranking.objectives], 1).astype(np.float32)


def labels(weight: np.ndarray, ranking: RankingConfig) -> np.ndarray:
    """Labels of observed events from their weights, float32 [event]."""
    if ranking.label == "purchase":
        return np.ones(len(weight), np.float32)
    if ranking.task == "rating":
        return weight.astype(np.float32)
    return (weight >= ranking.threshold).astype(np.float32)


def _constants(values: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in values.items()}


def plain_rows(
    encoded: Mapping[str, np.ndarray], label: np.ndarray, batch_size: int, seed: int | None
) -> tf.data.Dataset:
    """Batches of a table that has a label and neither user nor item.

    Args:
        encoded: encoded features, each [row, ...].
        label: float [row].
        batch_size: rows.
        seed: of the order, new in each pass, without end; None keeps the order, one pass.
    """
    n = len(label)
    tensors, target = _constants(encoded), tf.constant(label, tf.float32)

    def one_pass(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.range(n, dtype=tf.int64)
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, tf.stack([seed, epoch]))
        return tf.data.Dataset.range(0, n, batch_size).map(lambda s: order[s : s + batch_size])

    def rows(at: tf.Tensor) -> Row:
        return {k: tf.gather(v, at) for k, v in tensors.items()}, tf.gather(target, at)

    epochs = tf.data.Dataset.range(1) if seed is None else tf.data.Dataset.counter()
    return epochs.flat_map(one_pass).map(rows, num_parallel_calls=2).prefetch(4)
