"""What each candidate is worth: the ranker's scores, probabilities, the utility and its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tfrec.config import Config
from tfrec.export.raw import SCORE
from tfrec.export.recommender.catalogue import Catalogue
from tfrec.export.recommender.heads import Heads
from tfrec.export.recommender.inputs import NOW, WEIGHT
from tfrec.export.recommender.sources import Request
from tfrec.features.encode import recent
from tfrec.rerank.boost import boost_factor, boosted
from tfrec.rerank.utility import expected_value, request_weights
from tfrec.schema import HISTORY, ITEM_ID

DAY = 86_400.0


class Worth(NamedTuple):
    """Candidates with a value.

    Attributes:
        utility: float32 [batch, candidate]; -inf where there is nothing or it is sold out.
        parts: each goal's share of it, by goal.
        relevance: the ranker's score, float32 [batch, candidate]; 0 where there is nothing.
    """

    utility: tf.Tensor
    parts: dict[str, tf.Tensor]
    relevance: tf.Tensor


class _Known(NamedTuple):
    """What is known of candidates besides the ranker's scores.

    Attributes:
        items: int64 [row, candidate].
        facts: float32 [row, candidate] by input of the utility.
        weights: float32, scalar or [row], by goal.
        boost: of campaigns, float32 [row, candidate]; None without any.
    """

    items: tf.Tensor
    facts: dict[str, tf.Tensor]
    weights: dict[str, tf.Tensor]
    boost: tf.Tensor | None

    def repeated(self, n: int) -> _Known:
        """Each row n times."""
        return _Known(
            tf.repeat(self.items, n, axis=0),
            {name: tf.repeat(v, n, axis=0) for name, v in self.facts.items()},
            {g: tf.repeat(w, n, axis=0) if w.shape.rank else w for g, w in self.weights.items()},
            None if self.boost is None else tf.repeat(self.boost, n, axis=0),
        )


class Value(tf.Module):
    """The value of candidates.

    Args:
        config: sections ``utility``, ``rerank`` (campaigns) and ``ranking``.
        catalogue: the items.
        rank: the ranker's signature ``rank``.
        specs: its inputs by name.
        heads: what its outputs mean.
        sample: its signature ``rank_sample``, where it draws from a posterior.
    """

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        rank: Callable[..., Any],
        specs: Mapping[str, tf.TensorSpec],
        heads: Heads,
        sample: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(name="value")
        self._utility_config, self._boosts = config.utility, config.rerank.boosts
        # The ranker reads so many items at most; twice as many go along, for those it knows not.
        self._history = 2 * max(config.ranking.history_length, 1)
        self.catalogue, self._heads = catalogue, heads
        self._rank, self._sample = rank, sample
        self._inputs = [n for n in specs if n != ITEM_ID]

    def of(
        self, request: Request, items: tf.Tensor, scores: Mapping[str, tf.Tensor] | None = None
    ) -> Worth:
        """Values candidates.

        Args:
            request: whose.
            items: int64 [batch, candidate], item indices; 0 is nothing.
            scores: of them, where they are known.
        """
        scores = self.scores(request, items) if scores is None else scores
        known = self._known(request, items)
        utility, shares = self._utility(known, scores)
        return Worth(
            utility,
            {goal: tf.where(items > 0, v, tf.zeros_like(v)) for goal, v in shares.items()},
            scores[SCORE],
        )

    def scores(self, request: Request, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """The ranker's outputs, float32 [batch, candidate] each; asked about real pairs alone."""
        pairs, asked = self._pairs(request, items)
        shape = tf.shape(items, tf.int64)
        answer = self._rank(**asked)
        return {name: tf.scatter_nd(pairs, value, shape) for name, value in answer.items()}

    def drawn(
        self,
        request: Request,
        items: tf.Tensor,
        scores: Mapping[str, tf.Tensor],
        seed: tf.Tensor,
        n: tf.Tensor,
    ) -> tf.Tensor:
        """Utilities under rankers that are drawn from the posterior.

        Args:
            request, items: as of ``of``.
            scores: of the ranker itself.
            seed: int64 [batch].
            n: draws, int32 scalar.

        Returns:
            float32 [batch, n, candidate]; -inf where there is nothing.
        """
        assert self._sample is not None
        pairs, asked = self._pairs(request, items)
        seeds = tf.gather(seed, pairs[:, 0])
        answer = self._sample(**asked, seed=seeds, draws=n)[SCORE]
        batch, width = tf.unstack(tf.shape(items, tf.int64))
        n = tf.cast(n, tf.int64)
        samples = tf.scatter_nd(pairs, answer, tf.stack([batch, width, n]))
        samples = tf.reshape(tf.transpose(samples, [0, 2, 1]), [batch * n, width])
        known = self._known(request, items).repeated(n)
        many = {name: tf.repeat(value, n, axis=0) for name, value in scores.items()}
        utility, _ = self._utility(known, self._heads.drawn(many, samples))
        return tf.reshape(utility, [batch, n, width])

    def _pairs(self, request: Request, items: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Where there is a candidate, int64 [pair, 2], and what the ranker is asked about it."""
        pairs = tf.where(items > 0)
        raw = dict(request.raw)
        known = tf.gather(self.catalogue.item_ids, request.history)
        raw[HISTORY] = recent(known, self._history)
        asked = {n: tf.gather(raw[n], pairs[:, 0]) for n in self._inputs}
        asked[ITEM_ID] = tf.gather(self.catalogue.item_ids, tf.gather_nd(items, pairs))
        return pairs, asked

    def _known(self, request: Request, items: tf.Tensor) -> _Known:
        """What the utility reads besides the ranker's scores."""
        facts = {
            name: self.catalogue.number(name, items)
            for name in self.catalogue.numbers
            if name != "released"
        }
        if "released" in self.catalogue.numbers:
            facts["age"] = self._age(request, items)
        given: dict[str, tf.Tensor] = {
            str(goal): request.raw[WEIGHT + goal]
            for goal in self._utility_config.weights
            if WEIGHT + goal in request.raw
        }
        weights = request_weights(given, self._utility_config)
        boost = self._campaigns(request, items) if self._boosts else None
        return _Known(items, facts, weights, boost)

    def _utility(
        self, known: _Known, scores: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Utility float32 [row, candidate], -inf where there is nothing, and its shares."""
        parts = self._heads.parts(scores) | known.facts
        utility, shares = expected_value(parts, known.weights, self._utility_config)
        if known.boost is not None:
            utility = boosted(utility, known.boost)
        never = tf.fill(tf.shape(utility), float("-inf"))
        return tf.where(known.items > 0, utility, never), shares

    def now(self, request: Request) -> tf.Tensor:
        """Seconds since 1970, int64 [batch]: the request's, or the clock's where it gives none."""
        given = request.raw[NOW]
        clock = tf.cast(tf.timestamp(), tf.int64)
        return tf.where(given > 0, given, clock)

    def _age(self, request: Request, items: tf.Tensor) -> tf.Tensor:
        """Age in days, float32 like ``items``."""
        now = tf.cast(self.now(request), tf.float64)[:, tf.newaxis]
        released = tf.gather(self.catalogue.numbers["released"], items)
        return tf.cast((now - released) / DAY, tf.float32)

    def _campaigns(self, request: Request, items: tf.Tensor) -> tf.Tensor:
        matches = []
        for boost in self._boosts:
            groups = self.catalogue.groups[boost.feature]
            wanted = groups.lookup(tf.constant(list(boost.values)))
            codes = tf.cast(tf.gather(groups.codes, items), tf.int64)
            same = tf.equal(codes[..., tf.newaxis], wanted) & (codes[..., tf.newaxis] > 0)
            matches.append(tf.reduce_any(same, axis=[2, 3]))
        windows = [boost.window for boost in self._boosts]
        return boost_factor(
            tf.stack(matches, axis=2),
            self.now(request),
            tf.constant([start for start, _ in windows], tf.int64),
            tf.constant([end for _, end in windows], tf.int64),
            tf.constant([boost.factor for boost in self._boosts], tf.float32),
        )
