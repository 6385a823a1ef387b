"""Questions to a served model: the query goes along, and a model without one says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tfrec.export.ask import recommend_rows


class Recorder:
    """A client that keeps what it is asked."""

    def __init__(self, *inputs: str) -> None:
        self.inputs = dict.fromkeys(("user_id", "history", "exclude", "k", *inputs))
        self.asked: list[dict[str, Any]] = []

    def metadata(self) -> SimpleNamespace:
        return SimpleNamespace(signatures={"recommend": SimpleNamespace(inputs=self.inputs)})

    def recommend(self, user: str, k: int, **given: Any) -> list[SimpleNamespace]:
        self.asked.append({"user": user, "k": k, **given})
        return [SimpleNamespace(item_id="i1", score=0.5)]


def test_a_query_is_a_feature_of_the_call() -> None:
    client = Recorder("query", "age")
    answers = list(recommend_rows(client, ["u1", "u2"], 3, None, query="rustic kettle"))
    assert [a.items for a in answers] == [[("i1", "", 0.5)]] * 2
    assert [call["user"] for call in client.asked] == ["u1", "u2"]
    assert all(call["features"] == {"query": "rustic kettle"} for call in client.asked)


def test_without_a_query_nothing_is_asked() -> None:
    client = Recorder("query")
    list(recommend_rows(client, ["u1"], 3, None))
    assert client.asked[0]["features"] == {}


def test_a_model_without_queries_says_so() -> None:
    with pytest.raises(ValueError, match="a search needs a model with a context feature 'query'"):
        list(recommend_rows(Recorder("age"), ["u1"], 3, None, query="kettle"))
