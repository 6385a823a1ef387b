"""Calibrated lists (Steck, RecSys 2018): a list's mix of categories follows the user's.

    gain(i | list) = (1 - t) relevance_i - t KL(p || q~),   q~ = (1 - a) q + a p

with p the user's distribution over categories and q that of the list with i added (the mean of its
items' distributions; the paper's equations 2 to 6 with equal weights, a = .01). The terms of the
list as it stands are the same for all candidates and left out.
"""

from __future__ import annotations

import tensorflow as tf

from tfrec.rerank.constraints import Constraints
from tfrec.rerank.greedy import State, greedy
from tfrec.rerank.inputs import (
    DECIDE,
    candidates,
    check_window,
    per_candidate,
    pick,
    ring_put,
    weight_of,
)

SMOOTHING = 0.01
NOISE = 1e-9


def distribution(counts: tf.Tensor) -> tf.Tensor:
    """Scaled to sum 1 along the last axis, float64; rows without anything stay 0.

    Args:
        counts: [..., category]; negative numbers and NaN count as 0.
    """
    counts = tf.cast(counts, DECIDE)
    counts = tf.where(counts > 0, counts, tf.zeros_like(counts))
    return tf.math.divide_no_nan(counts, tf.reduce_sum(counts, axis=-1, keepdims=True))


def taste(history: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
    """A user's distribution over categories, float32 [batch, category].

    Args:
        history: [batch, event, category], categories of each item in the history, 0 for padding;
            an item in several categories gives each its share.
        weights: float [batch, event], e.g. falling with age; None: all alike.
    """
    shares = distribution(history)
    if weights is not None:
        shares *= tf.cast(weights, DECIDE)[:, :, None]
    return tf.cast(distribution(tf.reduce_sum(shares, axis=1)), tf.float32)


class Calibrated:
    """The gain above, for ``greedy``.

    Args:
        relevance: float64 [batch, candidate], finite, about 0..1.
        categories: [batch, candidate, category], each candidate's categories, of any scale.
        target: [batch, category], the wished distribution, of any scale; a row of zeros (a new
            user) leaves the order of relevance.
        trade_off: scalar or [batch], 0 relevance alone, 1 calibration alone.
        window: q is that of the last ``window - 1`` items; None: of all.
    """

    def __init__(
        self,
        relevance: tf.Tensor,
        categories: tf.Tensor,
        target: tf.Tensor,
        trade_off: float | tf.Tensor,
        window: int | None = None,
    ) -> None:
        categories = per_candidate("categories", categories, relevance)
        target = tf.convert_to_tensor(target)
        if target.shape.rank != 2 or not target.shape[1:].is_compatible_with(categories.shape[2:]):
            raise ValueError(
                f"target is [batch, category] over the same categories as the candidates' "
                f"{categories.shape}; got {target.shape}"
            )
        self.shares = distribution(categories)
        self.target = distribution(target)[:, None, :]
        self.weight = weight_of(trade_off)
        self.scaled = (1 - self.weight) * relevance
        self.noise = NOISE * self.weight
        self.slots = None if check_window(window) is None else int(window or 0) - 1

    def start(self, places: tf.Tensor) -> State:
        batch, _, kinds = tf.unstack(tf.shape(self.shares))
        none = tf.zeros(tf.stack([batch, kinds]), DECIDE)
        count = tf.zeros([], DECIDE)
        if self.slots is None:
            return none, count
        return tf.tile(none[:, None, :], [1, self.slots, 1]), count

    def gain(self, state: State) -> tf.Tensor:
        total = state[0] if self.slots is None else tf.reduce_sum(state[0], axis=1)
        q = (total[:, None, :] + self.shares) / (state[1] + 1)
        mixed = (1 - SMOOTHING) * q + SMOOTHING * self.target
        # 0 log 0 is 0: categories the user does not know cost nothing by themselves.
        ratio = tf.math.divide_no_nan(self.target, mixed)
        apart = tf.reduce_sum(tf.math.xlogy(self.target, ratio), axis=2)
        return self.scaled - self.weight * apart

    def add(self, state: State, chosen: tf.Tensor, step: tf.Tensor) -> State:
        own = pick(self.shares, chosen)
        if self.slots is None:
            return state[0] + own, state[1] + 1
        seen = tf.minimum(state[1] + 1, tf.cast(self.slots, DECIDE))
        return ring_put(state[0], own, step, self.slots), seen


def select(
    relevance: tf.Tensor,
    categories: tf.Tensor,
    target: tf.Tensor,
    k: int | tf.Tensor,
    trade_off: float | tf.Tensor,
    valid: tf.Tensor | None = None,
    window: int | None = None,
    rules: Constraints | None = None,
) -> tf.Tensor:
    """Lists whose mix of categories follows ``target``.

    Args:
        relevance: float [batch, candidate].
        categories, target, trade_off, window: see ``Calibrated``.
        k: length of the lists, scalar.
        valid: bool [batch, candidate], False is padding.
        rules: see ``Constraints``.

    Returns:
        int32 [batch, k] positions on the candidate axis, -1 where nothing is left.

    Raises:
        ValueError: shapes that do not fit, a trade-off outside 0..1, a window below 2.
    """
    relevance, valid = candidates(relevance, valid)
    gain = Calibrated(relevance, categories, target, trade_off, window)
    return greedy(gain, valid, k, rules).indices
