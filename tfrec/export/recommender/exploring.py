"""Exploration inside the recommender: lists that try something, and the chance of what they show.

Epsilon-greedy deviates from the list that limits and diversity made, place by place, and keeps the
limits. Thompson sampling makes the whole list, limits and diversity included, of the utility under
one ranker drawn from the posterior, and counts over further draws.

The seed comes with the request and goes out with the answer, so that a logged answer can be made
again. 0 asks for one: of the clock, the user and the row; of a tf.Example, of its own bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tfrec.config.exploration import ExplorationConfig
from tfrec.export.recommender.inputs import EXPLORE, SEED
from tfrec.export.recommender.lists import Lists
from tfrec.export.recommender.sources import Request
from tfrec.export.recommender.value import Value, Worth
from tfrec.rerank.explore import (
    Explored,
    as_scores,
    counted,
    epsilon_greedy,
    propensity_of,
    share_of,
)
from tfrec.schema import USER_ID

SEEDS = 2**53  # below it a seed survives JSON, whose numbers are doubles
MIX = 0x9E3779B97F4A7C1  # odd; spreads neighbouring moments


class Exploring(tf.Module):
    """The policy of one recommender: how lists come from valued candidates.

    Args:
        config: the section ``recommender.exploration``.
        value: values candidates under drawn rankers.
        lists: makes lists.
    """

    def __init__(self, config: ExplorationConfig, value: Value, lists: Lists) -> None:
        super().__init__(name="exploring")
        self._config, self._value, self._lists = config, value, lists

    def rate(self, request: Request) -> tf.Tensor:
        """How much is left to chance, float32 [batch]: epsilon; of ``thompson`` above 0 is all."""
        usual = {"none": 0.0, "epsilon": self._config.epsilon, "thompson": 1.0}[self._config.kind]
        if EXPLORE not in request.raw:
            return tf.fill(tf.shape(request.raw[USER_ID]), usual)
        asked = request.raw[EXPLORE]
        return tf.where(tf.math.is_finite(asked), tf.clip_by_value(asked, 0.0, 1.0), usual)

    def places(
        self,
        request: Request,
        items: tf.Tensor,
        scores: Mapping[str, tf.Tensor],
        worth: Worth,
    ) -> Explored:
        """The lists that are served.

        Args:
            request: its seeds are above 0 where anything is explored.
            items: int64 [batch, candidate].
            scores: of the ranker, by output.
            worth: of the candidates.
        """
        if self._config.kind == "thompson":
            return counted(
                self._lists.order(request, items, self._drawn(request, items, scores, worth))
            )
        best = self._lists.order(request, items, worth.utility)
        if self._config.kind == "none":
            return Explored(best, tf.ones_like(best, tf.float32))
        order = as_scores(best, worth.utility)
        return epsilon_greedy(
            order,
            request.k,
            self.rate(request),
            request.raw[SEED],
            tried=self._tried(order),
            rules=self._lists.rules(request, items),
        )

    def chances(
        self,
        request: Request,
        items: tf.Tensor,
        scores: Mapping[str, tf.Tensor],
        worth: Worth,
        best: tf.Tensor,
        filled: tf.Tensor,
        shown: tf.Tensor,
    ) -> tf.Tensor:
        """How likely this policy shows lists that were shown, by whatever policy.

        Args:
            request, items, scores, worth: as of ``places``.
            best: int32 [batch, k], the list without any chance, positions of the candidates.
            filled: int64 [batch, k], this policy's own list; what follows its candidates is sure.
            shown: int64 [batch, k], the lists; 0 is an item that this recommender does not know,
                -1 behind a list's end.

        Returns:
            float32 [batch, k]; of ``thompson`` whatever stands above a place, else given that. 1
            behind a list's end.
        """
        width = tf.shape(items)[1]
        same = tf.equal(items[:, tf.newaxis], shown[:, :, tf.newaxis]) & (items > 0)[:, tf.newaxis]
        at = tf.argmax(tf.cast(same, tf.int8), axis=2, output_type=tf.int32)
        at = tf.where(tf.reduce_any(same, axis=2), at, width)
        at = tf.where(shown < 0, -1, at)
        if self._config.kind == "thompson":
            drawn = self._drawn(request, items, scores, worth)
            chance = share_of(self._lists.order(request, items, drawn), at)
        else:
            order = as_scores(best, worth.utility)
            rules = self._lists.rules(request, items)
            tried = self._tried(order)
            chance = propensity_of(order, at, self.rate(request), tried=tried, rules=rules)
        candidates = tf.reduce_sum(
            tf.cast(tf.math.is_finite(worth.utility), tf.int32), axis=1, keepdims=True
        )
        behind = tf.range(tf.shape(shown)[1])[tf.newaxis] >= candidates
        sure = tf.cast(tf.equal(filled, shown), tf.float32)
        return tf.where(behind & (at >= 0), sure, chance)

    def _drawn(
        self,
        request: Request,
        items: tf.Tensor,
        scores: Mapping[str, tf.Tensor],
        worth: Worth,
    ) -> tf.Tensor:
        """Utilities float32 [batch, draw, candidate]; all the ranker's own where chance is off.

        Where nobody explores there is one of them: the ranker is not asked again.
        """
        on = self.rate(request) > 0
        own = worth.utility[:, tf.newaxis]

        def drawn() -> tf.Tensor:
            draws = tf.constant(self._config.draws)
            values = self._value.drawn(request, items, scores, request.raw[SEED], draws)
            return tf.where(on[:, tf.newaxis, tf.newaxis], values, own)

        return tf.cond(tf.reduce_any(on), drawn, lambda: own)

    def _tried(self, order: tf.Tensor) -> tf.Tensor | None:
        """The best candidates by ``as_scores``, bool [batch, candidate]; None: all."""
        if self._config.pool is None:
            return None
        ranks = tf.argsort(tf.argsort(order, axis=1, direction="DESCENDING", stable=True), axis=1)
        return ranks < self._config.pool


def own_seeds(seed: tf.Tensor, users: tf.Tensor) -> tf.Tensor:
    """Seeds int64 [batch] as given, and where 0 is given, of the clock, user and row.

    Args:
        seed: int64 [batch].
        users: string [batch], raw ids.
    """
    # No random op: its own seed would be fixed in the graph wherever a global one was set.
    moment = tf.cast(tf.timestamp() * 1e6, tf.int64) * MIX
    row = tf.range(tf.size(seed, tf.int64))
    user = tf.strings.to_hash_bucket_fast(users, 2**62)
    return tf.where(tf.equal(seed, 0), _seed(tf.bitwise.bitwise_xor(moment + row, user)), seed)


def seeds_of(examples: tf.Tensor) -> tf.Tensor:
    """A seed for each serialized tf.Example, int64 [batch]: the same for the same bytes."""
    return _seed(tf.strings.to_hash_bucket_fast(examples, 2**62))


def _seed(number: tf.Tensor) -> tf.Tensor:
    """From 1 to 2^53 - 1."""
    return 1 + tf.math.floormod(number, tf.constant(SEEDS - 1, tf.int64))
