"""Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998).

    gain(i | list) = (1 - t) relevance_i - t max_{j in list} cos(v_i, v_j)

``t`` is 1 - lambda of the paper. The largest similarity is carried along, so that a list of k costs
k products of [candidate, dim] with one vector.
"""

from __future__ import annotations

import tensorflow as tf

from tfrec.rerank.constraints import Constraints
from tfrec.rerank.greedy import State, greedy
from tfrec.rerank.inputs import (
    DECIDE,
    Columns,
    candidates,
    check_window,
    per_candidate,
    ring_put,
    weight_of,
)

NOISE = 1e-9  # of a cosine in float64, with room to spare
NONE_YET = float("-inf")


class MMR:
    """The gain above, for ``greedy``.

    Args:
        relevance: float64 [batch, candidate], finite; see ``inputs.candidates``. On the scale of a
            cosine, i.e. about 0..1 (``tfrec.rerank.unit_range``), a trade-off of .5 means what it
            seems to.
        vectors: float [batch, candidate, dim]; an item of zeros is like no other.
        trade_off: scalar or [batch], 0 relevance alone, 1 diversity alone.
        window: only the last ``window - 1`` items of the list count; None: all.
    """

    def __init__(
        self,
        relevance: tf.Tensor,
        vectors: tf.Tensor,
        trade_off: float | tf.Tensor,
        window: int | None = None,
    ) -> None:
        self.vectors = Columns(per_candidate("vectors", vectors, relevance))
        self.weight = weight_of(trade_off)
        self.scaled = (1 - self.weight) * relevance
        self.noise = NOISE * self.weight
        self.slots = None if check_window(window) is None else int(window or 0) - 1

    def start(self, places: tf.Tensor) -> State:
        nothing = tf.fill(tf.shape(self.scaled), tf.constant(NONE_YET, DECIDE))
        if self.slots is None:
            return (nothing,)
        return (tf.tile(nothing[:, None, :], [1, self.slots, 1]),)

    def gain(self, state: State) -> tf.Tensor:
        closest = state[0] if self.slots is None else tf.reduce_max(state[0], axis=1)
        closest = tf.where(tf.math.is_inf(closest), tf.zeros_like(closest), closest)
        return self.scaled - self.weight * closest

    def add(self, state: State, chosen: tf.Tensor, step: tf.Tensor) -> State:
        alike = self.vectors.times(self.vectors.of(chosen))
        if self.slots is None:
            return (tf.maximum(state[0], alike),)
        return (ring_put(state[0], alike, step, self.slots),)


def select(
    relevance: tf.Tensor,
    vectors: tf.Tensor,
    k: int | tf.Tensor,
    trade_off: float | tf.Tensor,
    valid: tf.Tensor | None = None,
    window: int | None = None,
    rules: Constraints | None = None,
) -> tf.Tensor:
    """Lists of relevant items that are unlike each other.

    Args:
        relevance: float [batch, candidate].
        vectors: float [batch, candidate, dim], of any length.
        k: length of the lists, scalar.
        trade_off, window: see ``MMR``.
        valid: bool [batch, candidate], False is padding.
        rules: see ``Constraints``.

    Returns:
        int32 [batch, k] positions on the candidate axis, -1 where nothing is left.

    Raises:
        ValueError: shapes that do not fit, a trade-off outside 0..1, a window below 2.
    """
    relevance, valid = candidates(relevance, valid)
    return greedy(MMR(relevance, vectors, trade_off, window), valid, k, rules).indices
