"""Windows over users' histories: one pass of a causal model trains every event in them.

A history longer than a window is cut into overlapping windows; each event is a target exactly
once, with at least half a window of context before it (except near the user's start).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.schema import HISTORY, USER_ID

TARGET = "target"
TARGET_WEIGHT = "target_weight"


@dataclass(frozen=True)
class Windows:
    """Windows of consecutive events of one user each.

    Attributes:
        user: int32 [window].
        start: int64 [window], first event of the window.
        end: int64 [window], one behind the last event.
        fresh: int64 [window], first event that is a target; those before it are context only.
    """

    user: np.ndarray
    start: np.ndarray
    end: np.ndarray
    fresh: np.ndarray


def cut_windows(events: Interactions, positions: int) -> Windows:
    """Cuts each user's events into windows of at most ``positions`` events, vectorised."""
    counts = events.user_counts()
    users = np.flatnonzero(counts)
    n = counts[users]
    step = max(positions // 2, 1)
    extra = np.maximum(np.ceil((n - positions) / step), 0).astype(np.int64)
    user = np.repeat(users, extra + 1)
    number = np.arange(len(user)) - np.repeat(np.cumsum(extra + 1) - (extra + 1), extra + 1)
    base = events.indptr[user]
    fresh = base + np.where(number == 0, 0, positions + (number - 1) * step)
    end = np.minimum(base + positions + number * step, events.indptr[user + 1])
    start = np.maximum(end - positions, base)
    return Windows(user.astype(np.int32), start, end, fresh)


def sequence_dataset(
    data: RetrievalData, history_length: int, batch_size: int, seed: int
) -> tf.data.Dataset:
    """One epoch of batches of windows, reshuffled each epoch.

    Every batch has ``batch_size`` windows, the last one filled with empty windows, so that
    replicas always get equal parts and one trace serves all steps.

    Yields:
        dict of ``user_id`` int64 [batch], user features [batch, ...], context features of the
        target [batch, H + 1, ...], ``history`` int64 [batch, H], ``target`` int64 [batch, H + 1]
        and ``target_weight`` float32 [batch, H + 1] (0 where there is no target).
    """
    events = data.train
    positions = history_length + 1
    windows = cut_windows(events, positions)
    if not len(windows.user):
        raise ValueError("training needs at least one event; the train split is empty")
    count = len(windows.user)
    item = tf.constant(np.append(events.item, 0).astype(np.int32))
    context = {k: tf.constant(np.append(v, v[:1] * 0, axis=0)) for k, v in events.context.items()}
    users = {k: tf.constant(v) for k, v in data.users.items()}
    nothing = len(events)  # the event behind the last: item 0
    bounds = [
        tf.constant(np.append(x, fill).astype(np.int64))
        for x, fill in (
            (windows.user, 0),
            (windows.start, nothing),
            (windows.end, nothing),
            (windows.fresh, nothing),
        )
    ]

    def batch(chosen: tf.Tensor) -> dict[str, tf.Tensor]:
        user, start, end, fresh = (tf.gather(b, chosen) for b in bounds)
        at = start[:, tf.newaxis] + tf.range(positions, dtype=tf.int64)[tf.newaxis, :]
        inside = at < end[:, tf.newaxis]
        at = tf.where(inside, at, nothing)
        target = tf.cast(tf.gather(item, at), tf.int64)
        out = {name: tf.gather(values, user) for name, values in users.items()}
        out |= {name: tf.gather(values, at) for name, values in context.items()}
        out[USER_ID] = user
        out[TARGET] = target
        out[TARGET_WEIGHT] = tf.cast(inside & (at >= fresh[:, tf.newaxis]), tf.float32)
        # The last position's item is a target only, never an input.
        out[HISTORY] = target[:, :-1]
        return out

    fill = -count % batch_size
    order = tf.data.Dataset.range(count).shuffle(count, seed=seed, reshuffle_each_iteration=True)
    if fill:
        order = order.concatenate(
            tf.data.Dataset.from_tensors(tf.constant(count, tf.int64)).repeat(fill)
        )
    batches = order.batch(batch_size, drop_remainder=True)
    return batches.map(batch, num_parallel_calls=2).prefetch(2)
