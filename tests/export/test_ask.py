"""Questions to a served model: the query goes along, and a model without one says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tfrec.export.ask import UserFacts, recommend_rows
from tfrec.export.log import Log


class Recorder:
    """A client that keeps what it is asked."""

    def __init__(self, *inputs: str) -> None:
        self.inputs = dict.fromkeys(("user_id", "history", "exclude", "k", *inputs))
        self.asked: list[dict[str, Any]] = []

    def metadata(self) -> SimpleNamespace:
        return SimpleNamespace(signatures={"recommend": SimpleNamespace(inputs=self.inputs)})

    def recommend(self, user: str, k: int, **given: Any) -> list[SimpleNamespace]:
        self.asked.append({"user": user, "k": k, **given})
        return [SimpleNamespace(item_id="i1", score=0.5, title="Kettle")]


def test_a_query_is_a_feature_of_the_call() -> None:
    client = Recorder("query", "age")
    answers = list(recommend_rows(client, ["u1", "u2"], 3, None, query="rustic kettle"))
    assert [a.items for a in answers] == [[("i1", "Kettle", 0.5)]] * 2
    assert [call["user"] for call in client.asked] == ["u1", "u2"]
    assert all(call["features"] == {"query": "rustic kettle"} for call in client.asked)


def test_without_a_query_nothing_is_asked() -> None:
    client = Recorder("query")
    list(recommend_rows(client, ["u1"], 3, None))
    assert client.asked[0]["features"] == {}


def test_a_model_without_queries_says_so() -> None:
    with pytest.raises(ValueError, match="a search needs a model with a context feature 'query'"):
        list(recommend_rows(Recorder("age"), ["u1"], 3, None, query="kettle"))


@pytest.mark.parametrize(
    ("inputs", "rule", "excluded"),
    [
        ((), {}, ["c", "a"]),
        ((), {"configured": False}, []),
        ((), {"configured": False, "exclude_seen": True}, ["c", "a"]),
        ((), {"exclude_seen": False}, []),
        (("include",), {}, []),  # a one-call recommender leaves out what it was configured to
        (("include",), {"exclude_seen": True}, ["c", "a"]),
    ],
)
def test_what_a_user_had_is_excluded_as_configured_or_asked(
    inputs: tuple[str, ...], rule: dict[str, bool], excluded: list[str]
) -> None:
    events = pa.table({"user_id": ["u1"] * 2, "item_id": ["a", "c"], "timestamp": [2, 1]})
    facts = UserFacts(Log.from_table(events), pa.table({"user_id": ["u1"]}), {})
    client = Recorder(*inputs)
    list(recommend_rows(client, ["u1"], 3, facts, **rule))
    assert client.asked[0]["history"] == ["c", "a"]
    assert client.asked[0]["exclude"] == excluded


def test_a_rating_model_is_told_how_the_history_was_rated() -> None:
    events = pa.table(
        {
            "user_id": ["u1", "u2", "u1"],
            "item_id": ["a", "b", "c"],
            "timestamp": [2, 1, 1],
            "weight": pa.array([5.0, 3.0, 1.0], pa.float32()),
        }
    )
    users = pa.table({"user_id": ["u1", "u2"], "age": ["x", None]})
    facts = UserFacts(Log.from_table(events), users, {})
    client = Recorder("age", "history_weight")
    list(recommend_rows(client, ["u1", "nobody"], 3, facts))
    known, unknown = client.asked
    assert known["history"] == ["c", "a"]
    assert known["features"]["age"] == "x"
    assert known["features"]["history_weight"].tolist() == [1.0, 5.0]
    assert unknown["history"] == []
    assert np.isnan(unknown["features"]["history_weight"]).all()
    list(recommend_rows(plain := Recorder("age"), ["u1"], 3, facts))
    assert plain.asked[0]["features"] == {"age": "x"}
