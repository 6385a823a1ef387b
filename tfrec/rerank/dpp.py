"""Determinantal point process: fast greedy MAP (Chen, Zhang & Zhou, NeurIPS 2018).

    f(list) = (1 - t) sum_{i in list} relevance_i + t log det S_list
    S = (V V' + ridge I) / (1 + ridge),  V of unit rows

which is the log-determinant of the paper's kernel ``Diag(exp(a r)) S Diag(exp(a r))`` with
``a = (1 - t) / 2t`` (its section 5), times t. The gain of i is ``(1 - t) r_i + t log d_i^2``, where
``d_i^2 = S_ii - S_iL S_LL^-1 S_Li`` is what the list L leaves unexplained of i. The paper carries a
row of a Cholesky factor for each candidate. As S comes from vectors, the same d^2 is had in their
space (matrix inversion lemma), and nothing is kept a candidate but one number:

    d_i^2 = (ridge + m_i) / (1 + ridge),   m_i = v_i M v_i',   M = ridge (V_L' V_L + ridge I)^-1

With M = I - W' W, the choice of j adds a row to W and takes a square off each m_i:

    u = v_j - W' W v_j,   w = u / sqrt(ridge + v_j u),   m_i <- m_i - (v_i w)^2

so that a place costs one product of [candidate, dim] with a vector, however long the list.

The ridge keeps S positive definite: without it, after ``dim`` items every other one is fully
explained, and the list goes on by relevance alone.
"""

from __future__ import annotations

import tensorflow as tf

from tfrec.rerank.constraints import Constraints
from tfrec.rerank.greedy import Objective, State, greedy
from tfrec.rerank.inputs import (
    DECIDE,
    Columns,
    candidates,
    check_window,
    per_candidate,
    ring_put,
    weight_of,
)

RIDGE = 1e-3
NOISE = 1e-9  # of log d^2 in float64 at d^2 >= ridge, with room to spare


class _Kernel:
    """What both variants share: S by rows, and the gain from d^2."""

    def __init__(
        self,
        relevance: tf.Tensor,
        vectors: tf.Tensor,
        trade_off: float | tf.Tensor,
        ridge: float,
    ) -> None:
        if not 0 < ridge < 1:
            raise ValueError(f"ridge is above 0 and below 1 (usual: {RIDGE}); got {ridge}")
        self.vectors = Columns(per_candidate("vectors", vectors, relevance))
        self.weight = weight_of(trade_off)
        self.scaled = (1 - self.weight) * relevance
        self.noise = NOISE * self.weight
        self.ridge = ridge

    def row(self, chosen: tf.Tensor) -> tf.Tensor:
        """S between the chosen (int32 [batch]) and all candidates, float64 [batch, candidate]."""
        alike = self.vectors.times(self.vectors.of(chosen)) / (1 + self.ridge)
        own = tf.equal(tf.range(tf.shape(alike)[1])[None, :], chosen[:, None])
        return tf.where(own, tf.ones_like(alike), alike)

    def value(self, unexplained: tf.Tensor) -> tf.Tensor:
        """The gain from d^2; rounding cannot push d^2 below what the ridge leaves."""
        least = self.ridge / (1 + self.ridge)
        return self.scaled + self.weight * tf.math.log(tf.maximum(unexplained, least))


class DPP(_Kernel):
    """The gain given the whole list, for ``greedy``; see the module."""

    def start(self, places: tf.Tensor) -> State:
        batch, dim, _ = tf.unstack(tf.shape(self.vectors.columns))
        # m is 1 for an item of zeros too, and nothing is ever taken off it.
        return tf.ones_like(self.scaled), tf.zeros(tf.stack([batch, places, dim]), DECIDE)

    def gain(self, state: State) -> tf.Tensor:
        return self.value((self.ridge + state[0]) / (1 + self.ridge))

    def add(self, state: State, chosen: tf.Tensor, step: tf.Tensor) -> State:
        left, basis = state
        own = self.vectors.of(chosen)
        u = own - tf.linalg.matvec(basis, tf.linalg.matvec(basis, own), transpose_a=True)
        rest = tf.maximum(tf.reduce_sum(own * u, axis=1, keepdims=True), 0.0)
        w = u / tf.sqrt(self.ridge + rest)
        e = self.vectors.times(w)
        here = tf.equal(tf.range(tf.shape(basis)[1]), step)[None, :, None]
        return left - e * e, tf.where(here, w[:, None, :], basis)


class WindowedDPP(_Kernel):
    """The gain given the last ``window - 1`` items of the list (paper, section 4).

    The factor of so few items is computed anew for each place: no downdating, no drift, and one
    triangular solve of [window - 1, candidate].
    """

    def __init__(
        self,
        relevance: tf.Tensor,
        vectors: tf.Tensor,
        trade_off: float | tf.Tensor,
        window: int,
        ridge: float = RIDGE,
    ) -> None:
        super().__init__(relevance, vectors, trade_off, ridge)
        self.slots = int(check_window(window) or 0) - 1

    def start(self, places: tf.Tensor) -> State:
        batch, width = tf.unstack(tf.shape(self.scaled))
        rows = tf.zeros(tf.stack([batch, self.slots, width]), DECIDE)
        return rows, tf.fill(tf.stack([batch, self.slots, 1]), tf.constant(-1, tf.int32))

    def gain(self, state: State) -> tf.Tensor:
        rows, members = state[0], state[1][:, :, 0]
        filled = members >= 0
        own = tf.gather(rows, tf.maximum(members, 0), axis=2, batch_dims=1)
        both = filled[:, :, None] & filled[:, None, :]
        own = tf.where(both, own, tf.eye(self.slots, dtype=DECIDE)[None])
        # Rounding may leave the two halves apart by a last digit; the factor reads the lower one.
        solved = tf.linalg.triangular_solve(tf.linalg.cholesky(own), rows)
        return self.value(1.0 - tf.reduce_sum(solved * solved, axis=1))

    def add(self, state: State, chosen: tf.Tensor, step: tf.Tensor) -> State:
        rows, members = state
        return (
            ring_put(rows, self.row(chosen), step, self.slots),
            ring_put(members, chosen[:, None], step, self.slots),
        )


def objective(
    relevance: tf.Tensor,
    vectors: tf.Tensor,
    trade_off: float | tf.Tensor,
    window: int | None = None,
    ridge: float = RIDGE,
) -> Objective:
    """The gain for ``greedy``; arguments as in ``select``, relevance prepared by ``candidates``."""
    if check_window(window) is None:
        return DPP(relevance, vectors, trade_off, ridge)
    return WindowedDPP(relevance, vectors, trade_off, int(window or 0), ridge)


def select(
    relevance: tf.Tensor,
    vectors: tf.Tensor,
    k: int | tf.Tensor,
    trade_off: float | tf.Tensor,
    valid: tf.Tensor | None = None,
    window: int | None = None,
    rules: Constraints | None = None,
    ridge: float = RIDGE,
) -> tf.Tensor:
    """Lists that are relevant and span much of the space.

    Args:
        relevance: float [batch, candidate]; about 0..1 (``tfrec.rerank.unit_range``).
        vectors: float [batch, candidate, dim], of any length; zeros are like no other item.
        k: length of the lists, scalar.
        trade_off: scalar or [batch], 0 relevance alone, 1 diversity alone.
        valid: bool [batch, candidate], False is padding.
        window: only the last ``window - 1`` items count; None: all. For long lists: an item may
            come again in kind once its like is out of sight, and cost grows with the window.
        rules: see ``Constraints``.
        ridge: what of an item is its own, however many like it are in the list.

    Returns:
        int32 [batch, k] positions on the candidate axis, -1 where nothing is left.

    Raises:
        ValueError: shapes that do not fit, a trade-off or ridge outside 0..1, a window below 2.
    """
    relevance, valid = candidates(relevance, valid)
    return greedy(objective(relevance, vectors, trade_off, window, ridge), valid, k, rules).indices
