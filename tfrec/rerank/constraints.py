"""Rules a list keeps: at most n of a group, pinned places, compulsory items.

The rules narrow the candidates of each greedy step. They never shorten a list: where no candidate
keeps all limits, those that break the fewest are admitted, and ``Selection.relaxed`` counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

State = tuple[tf.Tensor, ...]


class Limit(NamedTuple):
    """At most ``at_most`` items of a group.

    Attributes:
        groups: int [batch, candidate] or, where an item may belong to several, int
            [batch, candidate, membership]; any numbering, 0 is no group and never limited.
        at_most: int, scalar or [batch]; a negative number means no limit.
    """

    groups: tf.Tensor
    at_most: int | tf.Tensor


@dataclass(frozen=True)
class Constraints:
    """The rules of one request.

    Attributes:
        limits: each kept by its own; an item in several groups needs room in all of them.
        pinned: int [batch, candidate], the place (0 first) that a candidate must have, -1 for any.
            Of two pinned to one place the better is first and the other follows. A place behind
            the end of the list pins nothing.
        must: bool [batch, candidate], candidates that must be in the list, at any place; where
            there are more than places, the best.

    Pinned and compulsory items come before the limits: they take their share of a limit first, and
    where they break one themselves it is counted as relaxed.
    """

    limits: Sequence[Limit] = ()
    pinned: tf.Tensor | None = None
    must: tf.Tensor | None = None

    def bind(self, valid: tf.Tensor, places: tf.Tensor) -> Bound:
        """The rules for a batch of candidates and a length of list; see ``greedy``.

        Raises:
            ValueError: a wrong shape or type.
        """
        return Bound(self, valid, places)


def _check(name: str, values: tf.Tensor, valid: tf.Tensor, ranks: tuple[int, ...]) -> tf.Tensor:
    values = tf.convert_to_tensor(values)
    rank = values.shape.rank
    if rank not in ranks or not values.shape[:2].is_compatible_with(valid.shape):
        axes = " or ".join("[batch, candidate" + ", membership" * (r - 2) + "]" for r in ranks)
        raise ValueError(f"{name} is {axes} with {valid.shape} candidates; got {values.shape}")
    return values


class Bound:
    """Rules with tensors in place; one instance for one selection."""

    def __init__(self, rules: Constraints, valid: tf.Tensor, places: tf.Tensor) -> None:
        self.valid, self.places = valid, places
        self.groups: list[tf.Tensor] = []
        self.most: list[tf.Tensor] = []
        for number, limit in enumerate(rules.limits):
            groups = _check(f"groups of limit {number}", limit.groups, valid, (2, 3))
            if not groups.dtype.is_integer:
                raise ValueError(
                    f"groups of limit {number} are whole numbers, 0 for none; got "
                    f"{groups.dtype.name}; look names up in a vocabulary first"
                )
            self.groups.append(groups if groups.shape.rank == 3 else groups[:, :, None])
            most = tf.reshape(tf.cast(limit.at_most, tf.int32), [-1, 1, 1])
            self.most.append(tf.where(most < 0, tf.constant(tf.int32.max), most))
        self.pinned = None
        if rules.pinned is not None:
            place = tf.cast(_check("pinned", rules.pinned, valid, (2,)), tf.int32)
            self.pinned = tf.where(valid & (place < places), place, -tf.ones_like(place))
        self.reserved = tf.zeros_like(valid)
        if rules.must is not None:
            self.reserved |= tf.cast(_check("must", rules.must, valid, (2,)), tf.bool) & valid
        if self.pinned is not None:
            self.reserved |= self.pinned >= 0
        self.compels = rules.must is not None or self.pinned is not None

    def start(self) -> State:
        """Counts of each candidate's groups, reserved items included; and broken limits."""
        counts = [self._reserved_of(groups) for groups in self.groups]
        none = tf.zeros(tf.shape(self.valid)[:1], tf.int32)
        broken = [none for _ in self.groups]
        return (*counts, *broken)

    def _reserved_of(self, groups: tf.Tensor) -> tf.Tensor:
        """How many reserved items share each membership, int32 [batch, candidate, membership]."""
        counts = tf.zeros_like(groups, tf.int32)
        if not self.compels:
            return counts

        def add(i: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # The i-th reserved item of every row; rows with fewer have none.
            here = self.reserved & tf.equal(rank, i)
            own = tf.reduce_sum(tf.where(here[:, :, None], groups, tf.zeros_like(groups)), axis=1)
            return i + 1, counts + _shared(groups, own)

        rank = tf.cumsum(tf.cast(self.reserved, tf.int32), axis=1) - 1
        most = tf.reduce_max(tf.concat([[0], tf.reshape(rank + 1, [-1])], axis=0))
        return tf.while_loop(lambda i, _: i < most, add, (tf.constant(0), counts))[1]

    def _violations(self, kept: State) -> list[tf.Tensor]:
        """Whether taking a candidate would leave each limit broken, bool [batch, candidate]."""
        new = tf.cast(~self.reserved, tf.int32)[:, :, None]  # reserved ones are counted already
        out = []
        for groups, most, count in zip(self.groups, self.most, kept, strict=False):
            over = (count + new > most) & tf.not_equal(groups, 0)
            out.append(tf.reduce_any(over, axis=2))
        return out

    def eligible(self, kept: State, free: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """The candidates admitted to place ``step``, bool [batch, candidate].

        Empty only where ``free`` is.
        """
        open_now = free
        if self.compels:
            owed = free & self.reserved
            short = tf.reduce_sum(tf.cast(owed, tf.int32), axis=1) >= self.places - step
            open_now = tf.where(short[:, None], owed, open_now)
            if self.pinned is not None:
                due = owed & (self.pinned >= 0) & (self.pinned <= step)
                early = self.pinned > step
                open_now = _prefer(open_now & ~early, open_now)
                open_now = _prefer(due, open_now)
        if not self.groups:
            return open_now
        broken = tf.add_n([tf.cast(v, tf.int32) for v in self._violations(kept)])
        broken = tf.where(open_now, broken, tf.constant(tf.int32.max))
        return open_now & tf.equal(broken, tf.reduce_min(broken, axis=1, keepdims=True))

    def add(self, kept: State, chosen: tf.Tensor, found: tf.Tensor) -> State:
        """The counts after a choice (int32 [batch]); nothing changes where ``found`` is False."""
        n = len(self.groups)
        was_reserved = tf.gather(self.reserved, chosen, axis=1, batch_dims=1)
        counted = tf.cast(found & ~was_reserved, tf.int32)[:, None, None]
        counts, broken = [], []
        violated = self._violations(kept)
        for i, groups in enumerate(self.groups):
            own = tf.gather(groups, chosen, axis=1, batch_dims=1)
            counts.append(kept[i] + counted * _shared(groups, own))
            now = found & tf.gather(violated[i], chosen, axis=1, batch_dims=1)
            broken.append(kept[n + i] + tf.cast(now, tf.int32))
        return (*counts, *broken)

    def broken(self, kept: State) -> tf.Tensor:
        """int32 [batch, limit], see ``Selection.relaxed``."""
        n = len(self.groups)
        if n == 0:
            return tf.zeros(tf.stack([tf.shape(self.valid)[0], 0]), tf.int32)
        return tf.stack(kept[n:], axis=1)


def _prefer(first: tf.Tensor, otherwise: tf.Tensor) -> tf.Tensor:
    """Row by row the first mask where it admits anything, else the other."""
    return tf.where(tf.reduce_any(first, axis=1, keepdims=True), first, otherwise)


def _shared(groups: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """1 where a membership is one of those in ``own`` and no padding, int32 like ``groups``.

    Args:
        groups: int [batch, candidate, membership].
        own: int [batch, membership], 0 behind.
    """
    same = tf.equal(groups[:, :, :, None], own[:, None, None, :])
    return tf.cast(tf.reduce_any(same, axis=3) & tf.not_equal(groups, 0), tf.int32)
