"""What each candidate is worth: the ranker's scores, probabilities, the utility and its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tfrec.config import Config
from tfrec.export.recommender.catalogue import Catalogue
from tfrec.export.recommender.heads import Heads
from tfrec.export.recommender.inputs import NOW, WEIGHT
from tfrec.export.recommender.sources import Request
from tfrec.features.encode import recent
from tfrec.rerank.boost import boost_factor, boosted
from tfrec.rerank.utility import expected_value, request_weights
from tfrec.schema import HISTORY, ITEM_ID

DAY = 86_400.0
SCORE = "score"


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


class Value(tf.Module):
    """The value of candidates.

    Args:
        config: sections ``utility``, ``rerank`` (campaigns) and ``ranking``.
        catalogue: the items.
        rank: the ranker's signature ``rank``.
        specs: its inputs by name.
        heads: what its outputs mean.
    """

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        rank: Callable[..., Any],
        specs: Mapping[str, tf.TensorSpec],
        heads: Heads,
    ) -> None:
        super().__init__(name="value")
        self._utility, self._boosts = config.utility, config.rerank.boosts
        # The ranker reads so many items at most; twice as many go along, for those it knows not.
        self._history = 2 * max(config.ranking.history_length, 1)
        self.catalogue, self._rank, self._heads = catalogue, rank, heads
        self._inputs = [n for n in specs if n != ITEM_ID]

    def of(self, request: Request, items: tf.Tensor) -> Worth:
        """Values candidates.

        Args:
            request: whose.
            items: int64 [batch, candidate], item indices; 0 is nothing.
        """
        scores = self._scores(request, items)
        parts = self._heads.parts(scores)
        for name in self.catalogue.numbers:
            if name == "released":
                parts["age"] = self._age(request, items)
            else:
                parts[name] = self.catalogue.number(name, items)
        given: dict[str, tf.Tensor] = {
            str(goal): request.raw[WEIGHT + goal]
            for goal in self._utility.weights
            if WEIGHT + goal in request.raw
        }
        utility, shares = expected_value(
            parts, request_weights(given, self._utility), self._utility
        )
        if self._boosts:
            utility = boosted(utility, self._campaigns(request, items))
        never = tf.fill(tf.shape(utility), float("-inf"))
        return Worth(
            tf.where(items > 0, utility, never),
            {goal: tf.where(items > 0, v, tf.zeros_like(v)) for goal, v in shares.items()},
            scores[SCORE],
        )

    def _scores(self, request: Request, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """The ranker's outputs, float32 [batch, candidate] each; asked about real pairs alone."""
        pairs = tf.where(items > 0)
        rows = pairs[:, 0]
        raw = dict(request.raw)
        known = tf.gather(self.catalogue.item_ids, request.history)
        raw[HISTORY] = recent(known, self._history)
        asked = {n: tf.gather(raw[n], rows) for n in self._inputs}
        ids = tf.gather(self.catalogue.item_ids, tf.gather_nd(items, pairs))
        answer = self._rank(**asked, item_id=ids)
        shape = tf.shape(items, tf.int64)
        return {name: tf.scatter_nd(pairs, value, shape) for name, value in answer.items()}

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
