"""Exploration: lists that now and then try something, and the chance of what was tried.

Epsilon-greedy fills a list place by place: with chance ``1 - epsilon`` the best candidate left,
else any candidate left, each with the same chance. The propensity of a place is the chance of its
item *given the places above it*::

    propensity_j = (1 - epsilon) [item_j is the best left] + epsilon / (candidates left)

so that the propensity of a list is the product. Rules (at most n of a group) narrow what is left;
what may be tried at all can be narrowed, too, and where nothing may, the best left is certain.
Thompson sampling ranks by one draw from the
posterior of the scores (``tfrec.models.last_layer``); its propensity of a place is the chance that
the item stands there, *whatever stands above it*, counted over further draws. Both are what
``tfrec.evaluation.off_policy`` takes: ``list`` and ``cascade`` the first, ``position`` the second.

Pure graph functions of stock operations; seeds are inputs, one a row, so an answer can be repeated.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import tensorflow as tf

from tfrec.rerank.constraints import Constraints, Limit, State
from tfrec.rerank.random import uniform

Method = Literal["none", "epsilon", "thompson"]
NEVER = float("-inf")


class Explored(NamedTuple):
    """Lists and the chance of what stands in them.

    Attributes:
        indices: int32 [batch, k], positions on the candidate axis; -1 where nothing was left.
        propensity: float32 [batch, k], in 0..1; 1 where nothing was left.
    """

    indices: tf.Tensor
    propensity: tf.Tensor


def _prepared(scores: tf.Tensor, valid: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores float32 [batch, candidate], -inf where not valid, and the mask itself."""
    scores = tf.convert_to_tensor(scores)
    if scores.shape.rank != 2:
        raise ValueError(
            f"scores are float [batch, candidate]; got shape {scores.shape}; give a single list as "
            f"scores[None, :]"
        )
    scores = tf.cast(scores, tf.float32)
    allowed = tf.math.is_finite(scores)
    if valid is not None:
        allowed &= tf.cast(valid, tf.bool)
    return tf.where(allowed, scores, NEVER), allowed


def _first(mask: tf.Tensor) -> tf.Tensor:
    """Position of the first True of each row, int32 [batch]; 0 where there is none."""
    return tf.argmax(tf.cast(mask, tf.int8), axis=1, output_type=tf.int32)


def _at(values: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """``values[row, index[row]]``, [batch]."""
    return tf.gather(values, index, axis=1, batch_dims=1)


class _Left(NamedTuple):
    """What a place may take: the best left, who is left, who of them may be tried, how many."""

    best: tf.Tensor
    free: tf.Tensor
    tried: tf.Tensor
    count: tf.Tensor


def _left(scores: tf.Tensor, free: tf.Tensor, tried: tf.Tensor | None) -> _Left:
    best = tf.argmax(tf.where(free, scores, NEVER), axis=1, output_type=tf.int32)
    tried = free if tried is None else free & tried
    return _Left(best, free, tried, tf.reduce_sum(tf.cast(tried, tf.int32), axis=1))


def _chance(left: _Left, chosen: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    """The propensity above, float32 [batch]; 0 for what is not left."""
    epsilon = tf.where(left.count > 0, epsilon, tf.zeros_like(epsilon))
    even = tf.math.divide_no_nan(epsilon, tf.cast(left.count, tf.float32))
    greedy = tf.where(tf.equal(chosen, left.best), 1.0 - epsilon, 0.0)
    chance = greedy + tf.where(_at(left.tried, chosen), even, 0.0)
    return tf.where(_at(left.free, chosen), chance, 0.0)


def _without(free: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    return free & tf.not_equal(tf.range(tf.shape(free)[1])[None, :], chosen[:, None])


def _rates(epsilon: float | tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """Epsilon of each row, float32 [batch], kept in 0..1."""
    rate = tf.clip_by_value(tf.cast(epsilon, tf.float32), 0.0, 1.0)
    return tf.broadcast_to(rate, [batch])


def epsilon_greedy(
    scores: tf.Tensor,
    k: int | tf.Tensor,
    epsilon: float | tf.Tensor,
    seed: tf.Tensor,
    valid: tf.Tensor | None = None,
    *,
    tried: tf.Tensor | None = None,
    rules: Constraints | None = None,
) -> Explored:
    """Fills lists as the module says.

    Args:
        scores: float [batch, candidate]; -inf and NaN are never chosen. Equal scores: the earlier.
        k: length of the lists, int scalar; may be a tensor and may exceed the candidates.
        epsilon: share of the places that are left to chance, 0..1 (clipped), scalar or [batch].
        seed: int64 [batch], one a row.
        valid: bool [batch, candidate]; False is padding.
        tried: bool [batch, candidate], what chance may choose; None: all.
        rules: narrow what each place may take; broken only where the list would stay short.

    Returns:
        See ``Explored``.

    Raises:
        ValueError: scores of another rank.
    """
    scores, allowed = _prepared(scores, valid)
    k = tf.maximum(tf.cast(k, tf.int32), 0)
    batch, width = tf.unstack(tf.shape(scores))
    places = tf.minimum(k, width)
    law = (Constraints() if rules is None else rules).bind(allowed, places)
    rate = _rates(epsilon, batch)
    coins, picks = uniform(seed, places, 0), uniform(seed, places, 1)
    here = tf.range(places)[None, :]

    def body(
        step: tf.Tensor, lists: tf.Tensor, chances: tf.Tensor, free: tf.Tensor, kept: State
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, State]:
        left = _left(scores, law.eligible(kept, free, step), tried)
        nth = tf.cast(picks[:, step] * tf.cast(left.count, tf.float32), tf.int32)
        rank = tf.cumsum(tf.cast(left.tried, tf.int32), axis=1) - 1
        by_chance = _first(left.tried & tf.equal(rank, tf.minimum(nth, left.count - 1)[:, None]))
        chance = (coins[:, step] < rate) & (left.count > 0)
        chosen = tf.where(chance, by_chance, left.best)
        found = tf.reduce_any(left.free, axis=1)
        place = tf.equal(here, step) & found[:, None]
        lists = tf.where(place, chosen[:, None], lists)
        chances = tf.where(place, _chance(left, chosen, rate)[:, None], chances)
        return step + 1, lists, chances, _without(free, chosen), law.add(kept, chosen, found)

    lists = tf.fill([batch, places], -1)
    start = (tf.constant(0), lists, tf.ones([batch, places]), allowed, law.start())
    _, lists, chances, *_ = tf.while_loop(lambda step, *_: step < places, body, start)
    behind = [[0, 0], [0, k - places]]
    return Explored(
        tf.pad(lists, behind, constant_values=-1), tf.pad(chances, behind, constant_values=1.0)
    )


def propensity_of(
    scores: tf.Tensor,
    indices: tf.Tensor,
    epsilon: float | tf.Tensor,
    valid: tf.Tensor | None = None,
    *,
    tried: tf.Tensor | None = None,
    rules: Constraints | None = None,
) -> tf.Tensor:
    """The chances that epsilon-greedy on *these* scores gives to lists that were shown.

    With the scores of a new model it is the ``target`` of an off-policy estimate.

    Args:
        scores: float [batch, candidate], of the policy to be judged.
        indices: int32 [batch, k], logged positions on the candidate axis; -1 is no item, and one
            beyond the candidates an item that the policy does not know.
        epsilon: of the policy to be judged, scalar or [batch]; 0 is the plain ranking.
        valid: bool [batch, candidate].
        tried, rules: of the policy to be judged; see ``epsilon_greedy``.

    Returns:
        float32 [batch, k], each place given the places above it; 0 for an item the policy cannot
        choose, 1 where there is no item.
    """
    scores, allowed = _prepared(scores, valid)
    indices = tf.cast(indices, tf.int32)
    # One candidate more that is never free: whatever the policy does not know.
    width = tf.shape(scores)[1]
    behind = [[0, 0], [0, 1]]
    scores = tf.pad(scores, behind, constant_values=NEVER)
    allowed = tf.pad(allowed, behind)
    tried = None if tried is None else tf.pad(tried, behind)
    indices = tf.minimum(indices, width)
    batch, places = tf.unstack(tf.shape(indices))
    law = _padded(rules).bind(allowed, places)
    rate = _rates(epsilon, batch)
    here = tf.range(places)[None, :]

    def body(
        step: tf.Tensor, chances: tf.Tensor, free: tf.Tensor, kept: State
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, State]:
        shown = indices[:, step]
        at = tf.maximum(shown, 0)
        found = (shown >= 0) & _at(free, at)
        chance = _chance(_left(scores, law.eligible(kept, free, step), tried), at, rate)
        chance = tf.where(shown >= 0, chance, 1.0)
        chances = tf.where(tf.equal(here, step), chance[:, None], chances)
        return step + 1, chances, _without(free, shown), law.add(kept, at, found)

    start = (tf.constant(0), tf.ones([batch, places]), allowed, law.start())
    return tf.while_loop(lambda step, *_: step < places, body, start)[1]


def _padded(rules: Constraints | None) -> Constraints:
    """Rules with one candidate more, which none of them concerns."""
    if rules is None:
        return Constraints()

    def pad(values: tf.Tensor | None, nothing: int | bool) -> tf.Tensor | None:
        if values is None:
            return None
        values = tf.convert_to_tensor(values)
        wide = [[0, 0], [0, 1], [0, 0]][: values.shape.rank]
        return tf.pad(values, wide, constant_values=nothing)

    limits = tuple(Limit(pad(limit.groups, 0), limit.at_most) for limit in rules.limits)
    return Constraints(limits, pad(rules.pinned, -1), pad(rules.must, False))


def _order(scores: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Best positions, int32 [..., places]; -1 where nothing is left."""
    best = tf.math.top_k(scores, places)
    return tf.where(tf.math.is_finite(best.values), best.indices, -1)


def thompson(samples: tf.Tensor, k: int | tf.Tensor, valid: tf.Tensor | None = None) -> Explored:
    """Lists by one draw from the posterior, propensities by counting over all draws.

    The draw that is served counts as one of them: a propensity is never 0, and at least
    ``1 / draws``. It is an estimate with standard error ``sqrt(p (1 - p) / draws)``.

    Args:
        samples: float [batch, candidate, draws]; every draw has one set of weights for the whole
            row. Draw 0 is served.
        k: length of the lists, int scalar.
        valid: bool [batch, candidate].

    Returns:
        See ``Explored``; the propensity is that of the place, whatever stands above it.

    Raises:
        ValueError: samples of another rank.
    """
    samples = tf.convert_to_tensor(samples)
    if samples.shape.rank != 3:
        raise ValueError(
            f"samples are float [batch, candidate, draws]; got shape {samples.shape}; take them "
            f"from the signature 'rank_sample' of a ranker with ranking.last_layer_prior"
        )
    drawn = tf.transpose(tf.cast(samples, tf.float32), [0, 2, 1])
    allowed = tf.math.is_finite(drawn)
    if valid is not None:
        allowed &= tf.cast(valid, tf.bool)[:, None, :]
    k = tf.maximum(tf.cast(k, tf.int32), 0)
    places = tf.minimum(k, tf.shape(drawn)[2])
    orders = _order(tf.where(allowed, drawn, NEVER), places)
    behind = [[0, 0], [0, 0], [0, k - places]]
    return counted(tf.pad(orders, behind, constant_values=-1))


def counted(lists: tf.Tensor) -> Explored:
    """The first of some lists, and how often the others have its items at its places.

    Args:
        lists: int32 [batch, draws, k], one list a draw, made in whatever way; -1 is no item.

    Returns:
        See ``thompson``.
    """
    return Explored(lists[:, 0], share_of(lists, lists[:, 0]))


def share_of(lists: tf.Tensor, shown: tf.Tensor) -> tf.Tensor:
    """The share of the draws whose list has the item of ``shown`` at its place.

    Args:
        lists: int32 [batch, draws, k].
        shown: int32 [batch, k]; -1 is no item.

    Returns:
        float32 [batch, k]; 1 where there is no item.
    """
    same = tf.cast(tf.equal(lists, shown[:, None]), tf.float32)
    return tf.where(shown >= 0, tf.reduce_mean(same, axis=1), 1.0)


def explore(
    scores: tf.Tensor,
    k: int | tf.Tensor,
    method: Method,
    epsilon: float | tf.Tensor = 0.0,
    seed: tf.Tensor | None = None,
    *,
    valid: tf.Tensor | None = None,
    samples: tf.Tensor | None = None,
) -> Explored:
    """Lists by any method; see the module.

    Args:
        scores: float [batch, candidate].
        k: length of the lists, int scalar.
        method: ``none`` sorts by score (propensity 1), ``epsilon``, or ``thompson``.
        epsilon: of ``epsilon``, scalar or [batch].
        seed: int64 [batch], of ``epsilon``; ``thompson`` has its chance in the samples.
        valid: bool [batch, candidate].
        samples: float [batch, candidate, draws], of ``thompson``.

    Raises:
        ValueError: an unknown method, or one whose input is not given.
    """
    if method == "none":
        prepared, _ = _prepared(scores, valid)
        k = tf.maximum(tf.cast(k, tf.int32), 0)
        places = tf.minimum(k, tf.shape(prepared)[1])
        behind = [[0, 0], [0, k - places]]
        lists = tf.pad(_order(prepared, places), behind, constant_values=-1)
        return Explored(lists, tf.ones_like(lists, tf.float32))
    if method == "epsilon":
        if seed is None:
            raise ValueError("method 'epsilon' needs a seed, int64 [batch], so that it repeats")
        return epsilon_greedy(scores, k, epsilon, seed, valid)
    if method == "thompson":
        if samples is None:
            raise ValueError(
                "method 'thompson' needs samples [batch, candidate, draws] of the scores; see "
                "ranking.last_layer_prior and the signature 'rank_sample'"
            )
        return thompson(samples, k, valid)
    raise ValueError(f"a method is 'none', 'epsilon' or 'thompson'; got {method!r}")


def as_scores(indices: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Scores that sort as a re-ranked list does, then by the given ones: to explore around it.

    Args:
        indices: int32 [batch, k], a list of positions on the candidate axis; -1 is none.
        scores: float [batch, candidate]; -inf stays so.

    Returns:
        float32 [batch, candidate]: listed candidates from ``width + k`` downwards, the others
        ``width - 1`` downwards in the order of their scores.
    """
    scores, allowed = _prepared(scores, None)
    width, k = tf.shape(scores)[1], tf.shape(indices)[1]
    order = tf.argsort(scores, axis=1, direction="DESCENDING", stable=True)
    place = tf.cast(tf.argsort(order, axis=1), tf.float32)
    base = tf.where(allowed, tf.cast(width, tf.float32) - 1.0 - place, NEVER)
    listed = tf.one_hot(indices, width, axis=1)  # [batch, candidate, k]; -1 marks nothing
    worth = tf.cast(width + k - tf.range(k), tf.float32)
    top = tf.einsum("bck,k->bc", listed, worth)
    return tf.where(top > 0, top, base)
