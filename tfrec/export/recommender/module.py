"""The module that becomes the SavedModel: one call from a user to a list with its reasons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfrec.config import Config
from tfrec.export.graphs import one_graph
from tfrec.export.raw import EXAMPLES, EXCLUDE, EXCLUDE_SEEN, SCORE, TITLE, K, list_length
from tfrec.export.recommender.catalogue import Catalogue
from tfrec.export.recommender.exploring import Exploring, own_seeds, seeds_of
from tfrec.export.recommender.filters import allowed_items, asked_for, is_member
from tfrec.export.recommender.inputs import (
    INCLUDE,
    SEED,
    SHOWN,
    Specs,
    default_of,
    parse,
    to_batch,
    with_defaults,
)
from tfrec.export.recommender.lists import Lists
from tfrec.export.recommender.rules import Rules
from tfrec.export.recommender.sources import NAMES, Request, Sources
from tfrec.export.recommender.value import Value, Worth
from tfrec.retrieval.build import IndexReport
from tfrec.schema import HISTORY, ITEM_ID, USER_ID

RELEVANCE, SOURCE = "relevance", "source"
PROPENSITY = "propensity"
FALLBACK, RELAXED, RULE, PART = "fallback", "relaxed", "rule", "part_"


class Recommendation(tf.Module):
    """The one-call recommender; ``assemble`` makes it.

    Signature ``recommend`` (= ``serving_default``). Every input but ``user_id`` has a default in
    the signature, so a request may leave it out:

    | input | |
    |---|---|
    | `user_id` | string [batch] |
    | `history` | string [batch, H], oldest first, '' behind |
    | user and context features | raw, by name, [batch, ...]; '' and NaN are missing |
    | `k` | int32, scalar or [batch]: list length |
    | `exclude` | string [batch, E], never answered |
    | `include` | string [batch, I], in the list where it is not excluded, filtered or sold out |
    | `among_<feature>` | string [batch, A]: only items with one of these values; none: all items |
    | `weight_<goal>` | float32 [batch]; NaN takes the configured weight |
    | `now` | int64 [batch], seconds since 1970, 0 for the clock; where time matters |
    | `trade_off` | float32 [batch], NaN for the configured; where lists are made diverse |
    | `seed` | int64 [batch], 0 for one of the clock; where ``exploration`` is on, as is the next |
    | `explore` | float32 [batch], how much is left to chance, 0..1; NaN for the configured |

    | output | |
    |---|---|
    | `item_id`, `title` | string [batch, k], best first, '' where nothing more is allowed |
    | `score` | float32 [batch, k], the utility; -inf beside '' |
    | `part_<goal>` | float32 [batch, k], that goal's share of the utility |
    | `relevance` | float32 [batch, k], the ranker's score |
    | `source` | string [batch, k]: `retrieval`, `similar`, `popular`, `fallback`, `include` |
    | `fallback` | bool [batch]: places were filled with what is popular, or a filter gave way |
    | `rule` | string [batch, rule], the rules that may give way; see ``rules.py`` |
    | `relaxed` | int32 [batch, rule], items of the list that break each rule |
    | `propensity` | float32 [batch, k], the chance of each place; 1 where chance has no part |
    | `seed` | int64 [batch]; the same request with it gets the same list |

    ``recommend_examples`` takes ``examples``, serialized tf.Examples that hold any of the inputs
    but ``k``, and answers lists of the configured length. ``propensity`` takes the inputs of
    ``recommend`` with ``shown`` string [batch, k] in place of ``k``, a list that was shown, and
    answers its ``propensity`` float32 [batch, k] under this recommender.
    """

    def __init__(
        self,
        config: Config,
        parts: list[Any],
        catalogue: Catalogue,
        sources: Sources,
        value: Value,
        lists: Lists,
        exploring: Exploring,
        rules: Rules,
        specs: Specs,
        index_report: IndexReport | None = None,
    ) -> None:
        super().__init__(name="recommendation")
        self.parts = parts  # the SavedModels inside, kept for their variables and tables
        self.catalogue, self.sources = catalogue, sources
        self.value, self.lists, self.exploring, self.rules = value, lists, exploring, rules
        self._config, self._specs = config, specs
        # Where ``tfrec recommend`` looks, as in a retrieval model.
        seen = not config.recommends_seen
        self.exclude_seen = tf.Variable(seen, trainable=False, name=EXCLUDE_SEEN)
        self.index_report = index_report
        # What the signatures share.
        self._valued = one_graph(self._value_candidates)
        self._filled = one_graph(
            lambda request, chosen: lists.filled(request, chosen, sources, value)
        )

    def recommend(self, **given: tf.Tensor) -> dict[str, tf.Tensor]:
        """See the class."""
        given[K] = list_length(given[K])
        request, items, codes, scores, worth = self._valued(given)
        explored = self.exploring.places(request, items, scores, worth)
        chosen = self.lists.choose(explored.indices, items, codes, worth)
        chosen, fallback = self._filled(request, chosen)
        answer = {
            ITEM_ID: tf.gather(self.catalogue.item_ids, chosen.items),
            SCORE: chosen.worth.utility,
            RELEVANCE: chosen.worth.relevance,
            SOURCE: tf.gather(tf.constant(NAMES), chosen.sources),
        }
        if self.catalogue.titles is not None:
            answer[TITLE] = tf.gather(self.catalogue.titles, chosen.items)
        if SEED in request.raw:
            answer |= {PROPENSITY: explored.propensity, SEED: request.raw[SEED]}
        if self.rules.names:
            broken = self.rules.broken(request, chosen.items)
            answer[RELAXED] = broken
            rows = tf.shape(broken)[0]
            answer[RULE] = tf.tile(tf.constant([self.rules.names]), [rows, 1])
            fallback |= self.rules.gave_way(broken)
        answer[FALLBACK] = fallback
        return answer | {PART + goal: share for goal, share in chosen.worth.parts.items()}

    def propensity(self, **given: tf.Tensor) -> dict[str, tf.Tensor]:
        """How likely this recommender shows what was shown; see the class."""
        listed = given.pop(SHOWN)
        given[K] = tf.shape(listed)[1]
        request, items, codes, scores, worth = self._valued(given)
        best = self.lists.order(request, items, worth.utility)
        own = self.lists.choose(best, items, codes, worth)
        own, _ = self._filled(request, own)
        listed = to_batch({USER_ID: request.raw[USER_ID], SHOWN: listed})[SHOWN]
        shown = tf.where(
            tf.equal(listed, ""), tf.cast(-1, tf.int64), self.catalogue.positions(listed)
        )
        chances = self.exploring.chances(request, items, scores, worth, best, own.items, shown)
        return {PROPENSITY: chances}

    def _value_candidates(
        self, given: dict[str, tf.Tensor]
    ) -> tuple[Request, tf.Tensor, tf.Tensor, dict[str, tf.Tensor], Worth]:
        """The requests; their candidates, sources, the ranker's scores and what they are worth."""
        request = self._request(given)
        items, codes = self.sources.candidates(request)
        scores = self.value.scores(request, items)
        return request, items, codes, scores, self.value.of(request, items, scores)

    def _request(self, given: dict[str, tf.Tensor]) -> Request:
        """A batch of requests in indices."""
        raw = to_batch({name: value for name, value in given.items() if name != K})
        if SEED in raw:
            raw[SEED] = own_seeds(raw[SEED], raw[USER_ID])
        history = self.catalogue.positions(raw[HISTORY])
        excluded = self.catalogue.positions(raw[EXCLUDE])
        repeats = self._config.recommends_seen
        filtered = tf.reduce_any(asked_for(raw))
        rows = tf.shape(history)[0]
        strict = self._config.recommender.strict
        allowed = tf.cond(
            filtered,
            lambda: allowed_items(self.catalogue, raw, excluded, strict),
            lambda: tf.ones([rows, 0], tf.bool),
        )
        asked = self.catalogue.positions(raw[INCLUDE])
        fine = tf.cond(
            filtered,
            lambda: tf.gather(allowed, asked, batch_dims=1),
            lambda: tf.ones_like(asked, tf.bool),
        )
        return Request(
            raw=raw,
            history=history,
            banned=excluded if repeats else tf.concat([excluded, history], axis=1),
            excluded=excluded,
            included=tf.where(fine & ~is_member(asked, excluded), asked, tf.zeros_like(asked)),
            filtered=filtered,
            allowed=allowed,
            k=given[K],
        )

    def recommend_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Lists of the configured length for serialized tf.Examples; see the class."""
        return self._of_examples(examples, self.recommend)

    def _of_examples(
        self, examples: tf.Tensor, recommend: Callable[..., dict[str, tf.Tensor]]
    ) -> dict[str, tf.Tensor]:
        k = default_of(self._specs[K], self._config.recommender.list_length)
        given = parse(examples, self._specs)
        if SEED in given:
            given[SEED] = tf.where(tf.equal(given[SEED], 0), seeds_of(examples), given[SEED])
        return recommend(**given, k=k)

    def signatures(self) -> dict[str, Any]:
        """The signatures by name."""
        length = self._config.recommender.list_length
        recommend = with_defaults(self.recommend, self._specs, length)
        examples = tf.function(
            lambda examples: self._of_examples(examples, recommend),
            input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)],
            autograph=False,
        )
        shown = tf.TensorSpec([None, None], tf.string, SHOWN)
        asked = {n: s for n, s in self._specs.items() if n != K} | {SHOWN: shown}
        return {
            "propensity": with_defaults(self.propensity, asked, length),
            "serving_default": recommend,
            "recommend": recommend,
            "recommend_examples": examples,
        }
