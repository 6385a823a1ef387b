"""A one-call recommender in NumPy: the signature of the real one, answers that can be worked out.

Everybody's chance of buying item ``i`` is ``chance[i]``, drawn by a seed. The score is
``weight_purchase * chance + weight_revenue * chance * price``; with a trade-off, the list is made
greedily of the scaled score and of whether the category is new to the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfrec.data.tables import Tables
from tfrec.explore.source import ArraySpec, ModelSignature

MANY, ONE, TEXT = (None, None), (None,), "string"
CONFIGURED = {"weight_purchase": 20.0, "weight_revenue": 1.0, "trade_off": 0.0}


class FakeRecommender:
    """A ``Source``; keeps what it was asked in ``asked``."""

    def __init__(
        self,
        tables: Tables,
        label: str = "fake/1",
        seed: int = 0,
        configured: Mapping[str, float] | None = None,
    ) -> None:
        self.label, self.asked = label, list[dict[str, Any]]()
        self.configured = {**CONFIGURED, **(configured or {})}
        self.ids = tables.items.column("item_id").to_pylist()
        self.titles = tables.items.column("title").to_pylist()
        self.price = tables.items.column("price").to_numpy().astype(np.float64)
        self.category = np.array(tables.items.column("category").to_pylist())
        self.chance = np.random.default_rng(seed).beta(1, 9, len(self.ids))
        given = {
            "user_id": ArraySpec(TEXT, ONE),
            "history": ArraySpec(TEXT, MANY),
            "exclude": ArraySpec(TEXT, MANY),
            "k": ArraySpec("int32", None),
            "region": ArraySpec(TEXT, ONE),
            "query": ArraySpec(TEXT, ONE),
            "among_category": ArraySpec(TEXT, MANY),
            **{name: ArraySpec("float32", ONE) for name in CONFIGURED},
        }
        answered = {name: ArraySpec(TEXT, MANY) for name in ("item_id", "title", "source")}
        for name in ("score", "relevance", "part_purchase", "part_revenue"):
            answered[name] = ArraySpec("float32", MANY)
        answered["fallback"] = ArraySpec("bool", ONE)
        answered["rule"], answered["relaxed"] = ArraySpec(TEXT, MANY), ArraySpec("int32", MANY)
        nothing = {name: np.array([np.nan], np.float32) for name in CONFIGURED}
        similar = {"item_id": ArraySpec(TEXT, ONE), "k": ArraySpec("int32", ())}
        self.signatures: Mapping[str, Any] = {
            "recommend": ModelSignature(given, answered, nothing),
            "similar": ModelSignature(
                similar, {"item_id": ArraySpec(TEXT, MANY), "score": ArraySpec("float32", MANY)}
            ),
        }

    def ask(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        self.asked.append({"signature": signature, **inputs})
        assert set(inputs) == set(self.signatures[signature].inputs)
        if signature == "similar":
            return self._similar(str(inputs["item_id"][0]), int(inputs["k"]))
        if "refuse" in str(inputs["query"][0]):
            raise ValueError("the query is refused")
        return self._recommend(inputs)

    def _recommend(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        def weight(name: str) -> float:
            value = float(inputs[name][0])
            return self.configured[name] if np.isnan(value) else value

        purchase = weight("weight_purchase") * self.chance
        revenue = weight("weight_revenue") * self.chance * self.price
        score = purchase + revenue
        wanted = {v for v in inputs["among_category"][0] if v}
        allowed = np.isin(self.category, list(wanted)) if wanted else np.ones(len(score), bool)
        gave_way = not allowed.any()
        allowed |= gave_way
        words = str(inputs["query"][0]).split()
        fits = np.array([all(w in title for w in words) for title in self.titles])
        there = allowed & fits & ~np.isin(self.ids, inputs["exclude"][0].tolist())
        fallback = not there.any()
        there = allowed if fallback else there
        k = int(np.ravel(inputs["k"])[0])
        rows = self._greedy(score, there, k, weight("trade_off"))
        gap = k - len(rows)
        source = "fallback" if fallback else "retrieval"

        def text(values: Any) -> np.ndarray:
            return np.array([[*(str(values[r]).encode() for r in rows), *[b""] * gap]], object)

        def number(values: np.ndarray, nothing: float) -> np.ndarray:
            return np.array([[*values[rows], *[nothing] * gap]], np.float32)

        return {
            "item_id": text(self.ids),
            "title": text(self.titles),
            "source": text([source] * len(score)),
            "score": number(score, -np.inf),
            "relevance": number(self.chance, 0.0),
            "part_purchase": number(purchase, 0.0),
            "part_revenue": number(revenue, 0.0),
            "fallback": np.array([fallback or gave_way]),
            "rule": np.array([[b"max_per_group.style", b"among_category"]], object),
            "relaxed": np.array([[0, gave_way * len(rows)]], np.int32),
        }

    def _greedy(self, score: np.ndarray, there: np.ndarray, k: int, trade_off: float) -> list[int]:
        scaled = (score - score.min()) / np.ptp(score)
        rows: list[int] = []
        left = set(np.flatnonzero(there).tolist())
        while left and len(rows) < k:
            used = set(self.category[rows])
            best = max(
                sorted(left),
                key=lambda r: (
                    (1 - trade_off) * scaled[r] + trade_off * (self.category[r] not in used)
                ),
            )
            rows.append(best)
            left.discard(best)
        return rows

    def _similar(self, item: str, k: int) -> Mapping[str, np.ndarray]:
        same = self.category == self.category[self.ids.index(item)]
        rows = [r for r in np.flatnonzero(same) if self.ids[r] != item][:k]
        return {
            "item_id": np.array([[self.ids[r].encode() for r in rows]], object),
            "score": np.ones((1, len(rows)), np.float32),
        }


class FakeRetrieval:
    """A ``Source`` with a plain retrieval signature: ids and scores, in the table's order."""

    def __init__(self, tables: Tables, label: str = "plain/1", reverse: bool = False) -> None:
        self.label = label
        self.ids = tables.items.column("item_id").to_pylist()
        if reverse:
            self.ids.reverse()
        given = {
            "user_id": ArraySpec(TEXT, ONE),
            "history": ArraySpec(TEXT, MANY),
            "exclude": ArraySpec(TEXT, MANY),
            "k": ArraySpec("int32", ()),
        }
        answered = {"item_id": ArraySpec(TEXT, MANY), "score": ArraySpec("float32", MANY)}
        self.signatures: Mapping[str, Any] = {"recommend": ModelSignature(given, answered)}

    def ask(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        assert set(inputs) == set(self.signatures[signature].inputs)
        banned = set(inputs["exclude"][0])
        kept = [item for item in self.ids if item not in banned][: int(inputs["k"])]
        scores = np.arange(len(kept), 0, -1)[None].astype(np.float32)
        return {"item_id": np.array([[i.encode() for i in kept]], object), "score": scores}
