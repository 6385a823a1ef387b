"""From valued candidates to the list: limits and diversity, and what fills an empty place."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrec.config import RerankConfig
from tfrec.export.graphs import one_graph
from tfrec.export.recommender.catalogue import Catalogue
from tfrec.export.recommender.filters import is_member
from tfrec.export.recommender.inputs import TRADE_OFF
from tfrec.export.recommender.sources import CODES, Request, Sources
from tfrec.export.recommender.value import Value, Worth
from tfrec.rerank.constraints import Constraints, Limit
from tfrec.rerank.select import rerank


class Chosen(NamedTuple):
    """Lists of one batch.

    Attributes:
        items: int64 [batch, k]; 0 where there is nothing.
        sources: int32 [batch, k], codes.
        worth: float32 [batch, k] each.
    """

    items: tf.Tensor
    sources: tf.Tensor
    worth: Worth


class Lists(tf.Module):
    """Makes the lists.

    Args:
        config: the section ``rerank``.
        catalogue: the items.
        looks: float32 [n + 1, dim], what makes items alike, for ``mmr`` and ``dpp``.
    """

    def __init__(
        self,
        config: RerankConfig,
        catalogue: Catalogue,
        looks: np.ndarray | None,
    ) -> None:
        super().__init__(name="lists")
        self._config, self.catalogue = config, catalogue
        self.looks = None if looks is None else tf.Variable(looks, trainable=False, name="looks")
        self._order = one_graph(self._ordered)

    def order(self, request: Request, items: tf.Tensor, utility: tf.Tensor) -> tf.Tensor:
        """The best ``k`` under the rules, as positions on the candidate axis.

        Args:
            request: its ``k``, trade-off and history.
            items: int64 [batch, candidate].
            utility: float32 [batch, candidate], or several of each row [batch, n, candidate].

        Returns:
            int32 [batch, k] or [batch, n, k]; -1 where no candidate is left.
        """
        return self._order(request, items, utility)

    def _ordered(self, request: Request, items: tf.Tensor, utility: tf.Tensor) -> tf.Tensor:
        config = self._config
        several = utility.shape.rank == 3
        batch, width = tf.unstack(tf.shape(items))
        times = tf.shape(utility)[1] if several else tf.constant(1)
        rows = tf.reshape(utility, [batch * times, width])

        def each(values: tf.Tensor) -> tf.Tensor:
            return tf.repeat(values, times, axis=0) if several else values

        trade_off: float | tf.Tensor = config.trade_off
        if TRADE_OFF in request.raw:
            asked = request.raw[TRADE_OFF]
            trade_off = each(tf.where(tf.math.is_finite(asked), asked, config.trade_off))
        categories = target = None
        if config.method == "calibrated":
            categories, target = (each(v) for v in self._mixes(request, items))
        vectors = None if self.looks is None else each(tf.gather(self.looks, items))
        limits = [
            Limit(each(limit.groups), limit.at_most) for limit in self.rules(request, items).limits
        ]

        def best(must: tf.Tensor | None) -> tf.Tensor:
            return rerank(
                rows,
                request.k,
                method=config.method,
                trade_off=trade_off,
                vectors=vectors,
                categories=categories,
                target=target,
                window=config.window,
                ridge=config.ridge,
                normalise=config.normalise and config.method != "none",
                limits=limits,
                must=must,
            ).indices

        # Lists that must hold nothing are quicker made.
        indices = tf.cond(
            tf.reduce_any(request.included > 0),
            lambda: best(each(required(request, items))),
            lambda: best(None),
        )
        return tf.reshape(indices, [batch, times, request.k]) if several else indices

    def rules(self, request: Request, items: tf.Tensor) -> Constraints:
        """The limits on groups, and what the list must hold, of int64 [batch, candidate]."""
        limits = tuple(
            Limit(tf.gather(self.catalogue.groups[name].codes, items), most)
            for name, most in self._config.max_per_group.items()
        )
        return Constraints(limits, must=required(request, items))

    def choose(
        self, places: tf.Tensor, items: tf.Tensor, sources: tf.Tensor, worth: Worth
    ) -> Chosen:
        """The list at some positions of the candidates.

        Args:
            places: int32 [batch, k]; -1 is nothing.
            items, sources: int64 and int32 [batch, candidate].
            worth: of them.
        """
        return Chosen(*_taken(places, items, sources, worth))

    def _mixes(self, request: Request, items: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Categories of candidates [batch, candidate, value] and of the history [batch, value]."""
        groups = self.catalogue.groups[str(self._config.categories)]

        def mix(rows: tf.Tensor) -> tf.Tensor:
            marks = tf.reduce_sum(
                tf.one_hot(tf.gather(groups.codes, rows), groups.size + 1), axis=-2
            )
            marks = marks[..., 1:]
            return tf.math.divide_no_nan(marks, tf.reduce_sum(marks, axis=-1, keepdims=True))

        had = tf.reduce_sum(mix(request.history), axis=1)
        return mix(items), tf.math.divide_no_nan(had, tf.reduce_sum(had, axis=1, keepdims=True))

    def filled(
        self, request: Request, chosen: Chosen, sources: Sources, value: Value
    ) -> tuple[Chosen, tf.Tensor]:
        """Fills what is empty with popular items within the allowed set.

        First with those that the user has not had; where even that leaves a list empty, with any
        that the request itself does not exclude.

        Returns:
            The lists, and bool [batch]: whether anything was filled.
        """
        short = tf.reduce_any(tf.equal(chosen.items, 0), axis=1)

        def fill() -> Chosen:
            banned = tf.concat([request.banned, chosen.items], axis=1)
            more = sources.popular(request, request.k, banned)
            more = tf.pad(more, [[0, 0], [0, request.k - tf.shape(more)[1]]])
            nothing = tf.reduce_all(tf.equal(tf.concat([chosen.items, more], axis=1), 0), axis=1)
            seen = sources.popular(request, request.k, request.excluded)
            seen = tf.pad(seen, [[0, 0], [0, request.k - tf.shape(seen)[1]]])
            more = tf.where(nothing[:, tf.newaxis], seen, more)
            worth = value.of(request, more)
            # In the order of popularity, whatever they are worth: behind the list itself.
            items = tf.concat([chosen.items, more], axis=1)
            codes = tf.fill(tf.shape(more), CODES["fallback"])
            codes = tf.concat([chosen.sources, codes], axis=1)
            both = Worth(
                tf.concat([chosen.worth.utility, worth.utility], axis=1),
                {g: tf.concat([v, worth.parts[g]], axis=1) for g, v in chosen.worth.parts.items()},
                tf.concat([chosen.worth.relevance, worth.relevance], axis=1),
            )
            front = tf.argsort(tf.cast(tf.equal(items, 0), tf.int32), axis=1, stable=True)
            front = front[:, : request.k]
            return Chosen(*_taken(tf.cast(front, tf.int32), items, codes, both))

        chosen = tf.cond(tf.reduce_any(short), fill, lambda: chosen)
        return chosen, tf.reduce_any(tf.equal(chosen.sources, CODES["fallback"]), axis=1)


def required(request: Request, items: tf.Tensor) -> tf.Tensor:
    """Which candidates int64 [batch, candidate] the list must hold, bool like them."""
    return (items > 0) & is_member(items, request.included)


def _taken(
    places: tf.Tensor, items: tf.Tensor, sources: tf.Tensor, worth: Worth
) -> tuple[tf.Tensor, tf.Tensor, Worth]:
    """Candidates at ``places`` int32 [batch, k]; -1 gives nothing: 0, and -inf as the utility."""
    there = places >= 0
    at = tf.maximum(places, 0)
    # A batch without any candidate has no column to gather from.
    one_more = [[0, 0], [0, 1]]

    def pick(values: tf.Tensor, otherwise: float = 0) -> tf.Tensor:
        values = tf.gather(tf.pad(values, one_more), at, batch_dims=1)
        return tf.where(there, values, tf.constant(otherwise, values.dtype))

    taken = pick(items)
    there &= taken > 0
    return (
        taken,
        pick(sources),
        Worth(
            pick(worth.utility, float("-inf")),
            {goal: pick(v) for goal, v in worth.parts.items()},
            pick(worth.relevance),
        ),
    )
