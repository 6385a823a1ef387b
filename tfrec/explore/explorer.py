"""The explorer without HTTP: questions in, JSON-ready answers out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from tfrec.explore.answer import Answer, read_answer
from tfrec.explore.inputs import recommend_inputs, similar_inputs
from tfrec.explore.measures import REVENUE, measure, mixing_columns, overlap
from tfrec.explore.offer import AMONG, RECOMMEND, SIMILAR, WEIGHT, merged, offer_of
from tfrec.explore.probe import with_found_defaults
from tfrec.explore.shop import Shop
from tfrec.explore.source import Source
from tfrec.explore.wish import DEFAULT_K, MOST, Wish, parse

LIMIT = "max_per_group."
MOST_MODELS = 2
SIMILAR_K = 12
TINY = 1e-12
REVENUE_WEIGHT = WEIGHT + REVENUE


class Unknown(LookupError):
    """Something is asked for that is not there."""


class Explorer:
    """One or two models over the same tables.

    Args:
        sources: the models; the first is the one that the second is compared with.
        shop: the tables.
        defaults: where the sliders begin, by input, where the models' signatures do not tell.
        similar: one more model for the page of an item.

    Raises:
        ValueError: no model or more than two, two of one label, or one that cannot be asked.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        shop: Shop,
        defaults: Mapping[str, float] | None = None,
        similar: Source | None = None,
    ) -> None:
        labels = [source.label for source in sources]
        if not 1 <= len(sources) <= MOST_MODELS or len(set(labels)) < len(labels):
            raise ValueError(f"the page shows one model or two different ones; got {labels}")
        self.sources, self.shop = list(sources), shop
        self.offers = [
            with_found_defaults(source, offer_of(source, shop, defaults)) for source in sources
        ]
        if similar is not None and SIMILAR not in similar.signatures:
            raise ValueError(
                f"{similar.label}: similar items are asked of a signature 'similar'; this model "
                f"has {sorted(similar.signatures)}; pass a retrieval model with item vectors"
            )
        # The item page asks the models shown, and one more where they cannot tell.
        self.alike = [source for source in sources if SIMILAR in source.signatures]
        self.alike += [similar] if similar is not None else []
        self.offer = merged(self.offers)
        self.columns = mixing_columns(shop.items)

    def about(self) -> dict[str, Any]:
        """What the page needs to draw its controls."""
        offer = asdict(self.offer)
        offer["inputs"] = sorted(self.offer.inputs)
        # Untouched, each model keeps its own weights, which need not be the other's.
        for knob in offer["knobs"]:
            knob["defaults"] = [
                own.default for one in self.offers for own in one.knobs if own.name == knob["name"]
            ]
        return {
            "models": [source.label for source in self.sources],
            "offer": offer,
            "columns": self.columns,
            "most": MOST,
            "default_k": DEFAULT_K,
            "users": self.shop.users.num_rows,
            "items": len(self.shop.ids),
        }

    def user(self, user: str) -> dict[str, Any]:
        """A user's history, newest first, and attributes."""
        return {
            "user_id": user,
            "known": self.shop.knows_user(user),
            "facts": self.shop.facts(user),
            "history": [
                {**event, "image": self.shop.has_image(event["item_id"])}
                for event in reversed(self.shop.history(user))
            ],
        }

    def parse(self, pairs: Iterable[tuple[str, str]]) -> Wish:
        """A wish out of a URL's query; see ``tfrec.explore.wish``."""
        return parse(pairs, self.offer, self.columns)

    def recommend(self, wish: Wish) -> dict[str, Any]:
        """Lists of all models.

        Returns:
            ``models``: one entry a model, see ``_entry``; ``overlap`` where there are two.

        Raises:
            ValueError: a model refused.
            ConnectionError: a server is away.
        """
        history = (
            [event["item_id"] for event in self.shop.history(wish.user)]
            if wish.history is None
            else list(wish.history)
        )
        facts = self.shop.facts(wish.user)
        answers, base, seconds = [], [], []
        for at in range(len(self.sources)):
            started = time.perf_counter()
            answers.append(self._ask(at, wish, history, facts))
            seconds.append(time.perf_counter() - started)
            base.append(self._ask(at, wish.plain(), history, facts) if wish.turned else None)
        entries = []
        for at, source in enumerate(self.sources):
            other = answers[1 - at].items if len(answers) == MOST_MODELS else None
            entry = self._entry(at, wish, answers[at], base[at], other)
            entries.append({"label": source.label, "ms": 1000 * seconds[at], **entry})
        out: dict[str, Any] = {"models": entries, "notes": self._notes(wish, history)}
        if len(answers) == MOST_MODELS:
            out["overlap"] = overlap(answers[0].items, answers[1].items)
        return out

    def _ask(self, at: int, wish: Wish, history: Sequence[str], facts: Mapping[str, Any]) -> Answer:
        source, offer = self.sources[at], self.offers[at]
        if REVENUE_WEIGHT in offer.inputs and self._weights(at, wish)[REVENUE] == TINY:
            wish = replace(wish, knobs={**wish.knobs, REVENUE_WEIGHT: TINY})
        inputs = recommend_inputs(source.signatures[RECOMMEND], wish, history, facts)
        return read_answer(source.ask(RECOMMEND, inputs), offer.parts, offer.details)

    def _weights(self, at: int, wish: Wish) -> dict[str, float | None]:
        """The weights in force by objective, None where not known; that of revenue is never 0.

        Its part carries its weight: at ``TINY`` it moves no item, and still tells the revenue.
        """
        found = {k.name: wish.knobs.get(k.name, k.default) for k in self.offers[at].knobs}
        weights = {name.removeprefix(WEIGHT): value for name, value in found.items()}
        if weights.get(REVENUE) == 0:
            weights[REVENUE] = TINY
        return weights

    def _entry(
        self,
        at: int,
        wish: Wish,
        answer: Answer,
        plain: Answer | None,
        other: Sequence[str] | None,
    ) -> dict[str, Any]:
        """One model's answer: rows, what was given up for them, measures.

        ``rows``, ``fallback`` (what the model says), ``told`` (why, a sentence each), ``measures``,
        ``defaults`` (the measures without a slider moved) and ``ignored``. A row is a card of the
        item with ``score``, ``parts``, ``details``, ``source``, and its place (from 1) ``was`` in
        the list of the defaults and ``other`` in the other model's; 0 is "not there", a missing key
        "not compared".
        """
        by = wish.by or (self.columns[0] if self.columns else None)
        offer = self.offers[at]
        weights, configured = self._weights(at, wish), self._weights(at, wish.plain())
        asked = [*wish.knobs, *wish.among, *wish.fields]
        rows = [_row(self.shop, answer, i) for i in range(len(answer.items))]
        for name, items in (("was", None if plain is None else plain.items), ("other", other)):
            if items is not None:
                place = {item: rank for rank, item in enumerate(items, 1)}
                for row in rows:
                    row[name] = place.get(row["item_id"], 0)
        return {
            "rows": rows,
            "fallback": answer.fallback,
            "told": told(answer),
            "measures": measure(answer, self.shop, by, weights),
            "defaults": None if plain is None else measure(plain, self.shop, by, configured),
            "ignored": [name for name in asked if name not in offer.inputs],
        }

    def _notes(self, wish: Wish, history: Sequence[str]) -> list[str]:
        """What somebody who reads the lists should know of the request."""
        notes = []
        if wish.user and not self.shop.knows_user(wish.user):
            notes.append(f"User {wish.user} is not in the tables: answered as somebody new.")
        strange = [item for item in wish.history or () if self.shop.row(item) is None]
        if strange:
            notes.append(f"Not in the items table: {', '.join(strange[:5])}.")
        if not wish.user and not history:
            notes.append("Nobody is picked: this is what somebody new sees.")
        return notes

    def item(self, item: str) -> dict[str, Any]:
        """An item's attributes, and what each model that can tell finds similar.

        Raises:
            Unknown: no such item.
        """
        about = self.shop.about(item)
        if about is None:
            raise Unknown(f"an item is one of the {len(self.shop.ids)} of the table; got {item!r}")
        similar = []
        for source in self.alike:
            inputs = similar_inputs(source.signatures[SIMILAR], item, SIMILAR_K)
            answer = read_answer(source.ask(SIMILAR, inputs), ())
            rows = [_row(self.shop, answer, i) for i in range(len(answer.items))]
            similar.append({"label": source.label, "rows": rows})
        row = self.shop.row(item)
        events = 0 if row is None else int(self.shop.popularity[row])
        return {**self.shop.card(item), "about": about, "events": events, "similar": similar}


def told(answer: Answer) -> list[str]:
    """Why a list is not quite what was asked for, a sentence each; nothing where it is."""
    said = []
    if answer.fallback and (answer.sources is None or "fallback" in answer.sources):
        said.append("Places left empty are filled with the most popular of what is allowed.")
    for rule, count in answer.relaxed.items():
        items = "1 item" if count == 1 else f"{count} items"
        limited = rule.removeprefix(LIMIT)
        if rule.startswith(AMONG):
            name = rule.removeprefix(AMONG)
            said.append(f"Nothing passes the choice of {name}: {items} outside it.")
        elif rule == "exclude_seen":
            said.append(f"Nothing else is left: {items} that the user had.")
        elif limited != rule:
            said.append(f"The limit on {limited} could not be kept: {items} beyond it.")
        else:
            said.append(f"The rule {rule} gave way for {items}.")
    return said


def _row(shop: Shop, answer: Answer, at: int) -> dict[str, Any]:
    card = shop.card(answer.items[at])
    if answer.titles is not None and answer.titles[at]:
        card["title"] = answer.titles[at]
    card["score"] = float(answer.scores[at])
    card["parts"] = {name: float(values[at]) for name, values in answer.parts.items()}
    card["details"] = {name: float(values[at]) for name, values in answer.details.items()}
    card["source"] = None if answer.sources is None else answer.sources[at]
    return card
