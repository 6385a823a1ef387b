"""Asks a served model for users of a canonical folder: their history and features go along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.encoded import HISTORY_WEIGHT
from tfrec.data.tables import read_tables, titles
from tfrec.export.log import Log
from tfrec.schema import ITEM_ID, USER_ID

QUERY = "query"  # the context feature that a search fills
INCLUDE = "include"  # an input that one-call recommenders alone have
SHOWN = 3  # most recent items named in a heading


@dataclass(frozen=True)
class Answer:
    """One user's list.

    Attributes:
        heading: whose it is, and what they had last.
        items: item id, title and score, best first.
    """

    heading: str
    items: list[tuple[str, str, float]]


@dataclass(frozen=True)
class UserFacts:
    """What the canonical tables know of users."""

    log: Log
    users: pa.Table
    titles: dict[str, str]

    @classmethod
    def open(cls, folder: str | Path) -> UserFacts:
        """Reads a canonical folder."""
        tables = read_tables(folder)
        names = zip(tables.items.column(ITEM_ID).to_pylist(), titles(tables.items), strict=True)
        return cls(Log.from_table(tables.interactions), tables.users, dict(names))

    def history(self, user: str) -> list[str]:
        """All items of a user, oldest first."""
        code = self.log.codes([user])
        return self.log.last(code, int(max(self.log.counts(code)[0], 1)))[0].tolist()

    def ratings(self, user: str) -> np.ndarray:
        """The weights of the same events, float32 [event]."""
        code = self.log.codes([user])
        return self.log.last_weights(code, int(max(self.log.counts(code)[0], 1)))[0]

    def features(self, user: str, names: Sequence[str]) -> dict[str, Any]:
        """Known attributes of a user among ``names``."""
        at = pc.index_in(pa.scalar(user), self.users.column(USER_ID).combine_chunks()).as_py()
        if at is None:
            return {}
        row = self.users.slice(at, 1).to_pylist()[0]
        return {n: row[n] for n in names if row.get(n) is not None}


def recommend_rows(
    client: Any,
    users: Sequence[str],
    k: int,
    facts: UserFacts | None,
    query: str | None = None,
    *,
    exclude_seen: bool | None = None,
    configured: bool = True,
) -> Iterator[Answer]:
    """Asks ``recommend`` for each user.

    Args:
        client: a ``serving.client`` client.
        users: raw ids.
        k: list length.
        facts: of the canonical tables; without them a user has no history and no features.
        query: text of the context feature ``query``: what they search for.
        exclude_seen: whether what a user had is excluded. None: a one-call recommender goes by the
            configuration it was assembled with, a retrieval model by ``configured``.
        configured: ``gate.exclude_seen``.

    Raises:
        ValueError: a query, and the model takes none.
    """
    inputs = client.metadata().signatures["recommend"].inputs
    own = {"user_id", "history", "exclude", "k"}
    names = [n for n in inputs if n not in own]
    if exclude_seen is None:
        exclude_seen = configured and INCLUDE not in inputs
    if query is not None and QUERY not in inputs:
        raise ValueError(
            f"a search needs a model with a context feature {QUERY!r}; this one takes "
            f"{sorted(inputs)}; leave --query out, or train with one (docs/queries.md)"
        )
    for user in users:
        history = [i for i in (facts.history(user) if facts else []) if i]
        features = facts.features(user, names) if facts else {}
        if facts and HISTORY_WEIGHT in inputs:
            features[HISTORY_WEIGHT] = facts.ratings(user)
        if query is not None:
            features[QUERY] = query
        known = facts.titles if facts else {}
        banned = history if exclude_seen else []
        found = client.recommend(user, k, history=history, exclude=banned, features=features)
        last = ", ".join(known.get(i, i) for i in history[-SHOWN:][::-1])
        heading = f"user {user}: " + (f"had {len(history)}, last {last}" if history else "new here")
        shown = [(r.item_id, known.get(r.item_id) or r.title, r.score) for r in found]
        yield Answer(heading, shown)


def example_users(facts: UserFacts, count: int, seed: int = 0) -> list[str]:
    """Ids of users with a history, drawn by ``seed``."""
    rng = np.random.default_rng(seed)
    return rng.choice(facts.log.users, min(count, len(facts.log.users)), replace=False).tolist()
