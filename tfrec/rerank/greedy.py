"""The one greedy loop behind every re-ranker: a marginal gain, a set of rules, a list.

    list = []
    repeat k times:
        take the candidate with the largest gain given the list, among those the rules admit

An ``Objective`` supplies the gain and keeps what it needs to know of the list in a tuple of
tensors; ``Constraints`` (optional) narrows the candidates. The loop is one ``tf.while_loop`` over
the places of the list: the graph does not grow with k, and k may come with the request.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import tensorflow as tf

from tfrec.rerank.constraints import Constraints

State = tuple[tf.Tensor, ...]


class Objective(Protocol):
    """A set function by its marginal gains.

    Attributes:
        noise: float64, broadcasts to [batch, 1]: gains closer than this count as equal, and the
            earlier candidate wins. 0 where gains come straight from the input.
    """

    noise: tf.Tensor

    def start(self, places: tf.Tensor) -> State:
        """The state of an empty list that will have ``places`` (int32 []) items."""

    def gain(self, state: State) -> tf.Tensor:
        """What each candidate would add, float64 [batch, candidate]; finite."""

    def add(self, state: State, chosen: tf.Tensor, step: tf.Tensor) -> State:
        """The state after ``chosen`` (int32 [batch], candidates) went to place ``step`` (int32 []).

        A row that has run out of candidates passes 0; nothing is chosen for it any more.
        """


class Selection(NamedTuple):
    """A batch of lists.

    Attributes:
        indices: int32 [batch, k], positions on the candidate axis, best first; -1 where no
            candidate was left.
        relaxed: int32 [batch, limit], how many items of the list break each of the limits; all 0
            where the rules could be kept. [batch, 0] without limits.
    """

    indices: tf.Tensor
    relaxed: tf.Tensor


class Relevance:
    """The plain order: the gain is the relevance, float64 [batch, candidate]."""

    def __init__(self, relevance: tf.Tensor) -> None:
        self.relevance = relevance
        self.noise = tf.zeros([1, 1], relevance.dtype)

    def start(self, places: tf.Tensor) -> State:
        return ()

    def gain(self, state: State) -> tf.Tensor:
        return self.relevance

    def add(self, state: State, chosen: tf.Tensor, step: tf.Tensor) -> State:
        return ()


def _best(gain: tf.Tensor, eligible: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The earliest candidate whose gain is the largest but for the noise.

    Returns:
        int32 [batch] (0 where none is eligible), bool [batch] whether there was one.
    """
    gain = tf.where(eligible, gain, tf.constant(float("-inf"), gain.dtype))
    bar = tf.reduce_max(gain, axis=1, keepdims=True) - noise
    width = tf.shape(gain)[1]
    at = tf.where(eligible & (gain >= bar), tf.range(width)[None, :], width)
    first = tf.reduce_min(at, axis=1)
    found = first < width
    return tf.where(found, first, tf.zeros_like(first)), found


def greedy(
    objective: Objective,
    valid: tf.Tensor,
    k: int | tf.Tensor,
    rules: Constraints | None = None,
) -> Selection:
    """Fills the lists of a batch, place by place.

    Args:
        objective: see ``Objective``.
        valid: bool [batch, candidate]; False is never chosen.
        k: length of the lists, int scalar, may be a tensor and may exceed the candidates.
        rules: limits, pinned and compulsory items; broken only where the list would otherwise
            stay short.

    Returns:
        See ``Selection``.
    """
    k = tf.maximum(tf.cast(k, tf.int32), 0)
    batch, width = tf.unstack(tf.shape(valid))
    places = tf.minimum(k, width)
    law = (Constraints() if rules is None else rules).bind(valid, places)
    lists = tf.fill([batch, places], tf.constant(-1, tf.int32))

    def body(
        step: tf.Tensor, lists: tf.Tensor, free: tf.Tensor, state: State, kept: State
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, State, State]:
        eligible = law.eligible(kept, free, step)
        chosen, found = _best(objective.gain(state), eligible, objective.noise)
        lists = tf.where(
            tf.equal(tf.range(places), step)[None, :] & found[:, None], chosen[:, None], lists
        )
        free &= tf.not_equal(tf.range(width)[None, :], chosen[:, None])
        return (
            step + 1,
            lists,
            free,
            objective.add(state, chosen, step),
            law.add(kept, chosen, found),
        )

    start = (tf.constant(0), lists, valid, objective.start(places), law.start())
    _, lists, _, _, kept = tf.while_loop(lambda step, *_: step < places, body, start)
    lists = tf.pad(lists, [[0, 0], [0, k - places]], constant_values=-1)
    return Selection(lists, law.broken(kept))
