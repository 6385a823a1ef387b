"""Small models for the one-call recommender, and its answer made step by step in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.tables import FEATURES, small_data, small_tables
from tfrec.config import Config, parse_config
from tfrec.export.ranking import export_ranking
from tfrec.export.recommender.assemble import assemble, save_recommender
from tfrec.export.retrieval import export_retrieval, title_table
from tfrec.models.registry import build
from tfrec.training.ranking import build_ranker

FEATURE_ROWS = [f.model_dump() for f in FEATURES if f.kind != "id"]
NUMBERS = {"retrieval": 6, "similar": 4, "popular": 4, "recent": 2, "candidates": 12}


def config(**sections: Any) -> Config:
    """The configuration of the small recommender, with other sections."""
    values = {
        "name": "small",
        "data": {"format": "synthetic"},
        "features": FEATURE_ROWS,
        "ranking": {"history_length": 3, "params": {"hidden": [8]}},
        "recommender": NUMBERS,
        "utility": {"weights": {"relevance": 1.0, "revenue": 0.0}, "price": "price"},
    }
    return parse_config({**values, **sections})


def write_models(folder: Path, name: str = "two_tower", **params: Any) -> None:
    """``folder/retrieval`` and ``folder/ranking``, untrained: only their order matters here."""
    data, encoder = small_data(folder / "statistics")
    tf.keras.utils.set_random_seed(3)
    given = {"dim": 8, "history_length": 8} if name == "two_tower" else params
    model = build(name, data, given)
    titles = title_table(list(data.item_ids), {"i3": "Third thing"})
    export_retrieval(model, data, encoder, folder / "retrieval", titles)
    export_ranking(build_ranker(config().ranking, data), data, encoder, folder / "ranking")


def write_recommender(models: Path, settings: Config, out: Path) -> Path:
    """The recommender of ``write_models``'s models."""
    splits, _, items = small_tables()
    module = assemble(settings, models / "retrieval", models / "ranking", items, splits["train"])
    return save_recommender(module, out)


@cache
def _loaded(folder: Path) -> Any:
    """Loading takes longer than asking, and a model has no state: once a process."""
    return tf.saved_model.load(str(folder))


@dataclass(frozen=True)
class Asked:
    """One user's request."""

    user: str
    history: list[str]
    exclude: list[str]
    genres: list[str]
    age: str = ""
    device: str = ""


class Oracle:
    """The parts called one by one, a user at a time."""

    def __init__(self, models: Path, settings: Config) -> None:
        self.settings = settings.recommender
        self.repeats = settings.recommends_seen
        self.retrieval = _loaded(models / "retrieval")
        self.ranking = _loaded(models / "ranking")
        splits, _, items = small_tables()
        rows = items.to_pylist()
        self.genres = {r["item_id"]: set(r["genres"]) for r in rows}
        self.price = {r["item_id"]: r["price"] for r in rows}
        self.ids = [i.decode() for i in self.retrieval.item_ids.numpy()][1:]
        had: dict[str, set[str]] = {i: set() for i in self.ids}
        for row in splits["train"].to_pylist():
            had[row["item_id"]].add(row["user_id"])
        self.popular = sorted(self.ids, key=lambda i: (-len(had[i]), self.ids.index(i)))

    def _user(self, asked: Asked, rows: int = 1) -> dict[str, tf.Tensor]:
        return {
            "user_id": tf.constant([asked.user] * rows),
            "age": tf.constant([asked.age] * rows),
            "device": tf.constant([asked.device] * rows),
            "history": tf.constant([asked.history or [""]] * rows),
        }

    def allowed(self, asked: Asked) -> int:
        """How many items the request allows."""
        return len(self._fine(asked))

    def _fine(self, asked: Asked) -> list[str]:
        history = [i for i in asked.history if i in self.ids]
        banned = {*asked.exclude, *(() if self.repeats else history)}
        wanted = set(asked.genres)
        return [i for i in self.ids if i not in banned and (not wanted or self.genres[i] & wanted)]

    def candidates(self, asked: Asked, k: int) -> list[tuple[str, str]]:
        """Candidates and their sources."""
        history = [i for i in asked.history if i in self.ids]
        fine = self._fine(asked)
        rank = {i: n for n, i in enumerate(self.ids)}

        def best(query: np.ndarray, count: int) -> list[str]:
            vectors = self.vectors()
            return sorted(fine, key=lambda i: (-float(vectors[rank[i]] @ query), rank[i]))[:count]

        found: list[tuple[str, str]] = []
        if self.settings.retrieval:
            query = self.retrieval.signatures["query_vector"](**self._user(asked))["query"][0]
            count = max(self.settings.retrieval, k)
            found += [(i, "retrieval") for i in best(query.numpy(), count)]
        if self.settings.similar:
            last = history[-self.settings.recent :][::-1]
            each = -(-min(max(self.settings.similar, k), len(self.ids)) // self.settings.recent)
            for item in last:
                vector = self.vectors()[rank[item]]
                near = best(vector / np.linalg.norm(vector), each)
                found += [(i, "similar") for i in near if i not in last]
        if self.settings.popular:
            count = max(self.settings.popular, k)
            found += [(i, "popular") for i in self.popular if i in fine][:count]
        first = dict(reversed(found))
        order = list(dict.fromkeys(i for i, _ in found))
        return [(i, first[i]) for i in order][: max(self.settings.candidates, k)]

    def vectors(self) -> np.ndarray:
        """Item vectors of the retrieval model."""
        ask = self.retrieval.signatures["item_vector"]
        return ask(item_id=tf.constant(self.ids))["vector"].numpy()

    def rank(self, asked: Asked, items: list[str]) -> np.ndarray:
        """The ranker's scores."""
        signature = self.ranking.signatures["rank"]
        return signature(**self._user(asked, len(items)), item_id=tf.constant(items))[
            "score"
        ].numpy()

    def recommend(
        self, asked: Asked, k: int, weights: dict[str, float]
    ) -> list[tuple[str, str, float, float]]:
        """Item, source, utility and relevance, best first."""
        found = self.candidates(asked, k)
        if not found:
            return []
        scores = self.rank(asked, [i for i, _ in found])
        rows = []
        for (item, source), score in zip(found, scores, strict=True):
            price = self.price[item]
            worth = weights.get("relevance", 0.0) * score
            worth += weights.get("revenue", 0.0) * score * (0.0 if price is None else price)
            rows.append((item, source, float(worth), float(score)))
        return sorted(rows, key=lambda r: -r[2])[:k]
