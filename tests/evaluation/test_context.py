"""The held-out event's own context is told to the model, in every protocol."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tests.tables import small_data, small_tables
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.auc import evaluate_auc
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.evaluation.protocol import held_out
from tfrec.evaluation.sampled import evaluate_sampled, sample_negatives
from tfrec.evaluation.slices import by_cold_items
from tfrec.export.context import held_out_context
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.schema import FeatureTable


class Oracle:
    """Scores item ``context["hint"]`` highest: right where it is told, blind where it is not."""

    history_length = 2

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def score_catalogue(self, users: dict[str, tf.Tensor]) -> tf.Tensor:
        assert "hint" in users, sorted(users)
        return tf.one_hot(tf.cast(users["hint"], tf.int32) - 1, self.n_items)


def hinted(folder: Path) -> RetrievalData:
    """Data whose context ``hint`` is the item of the event itself."""
    data, _ = small_data(folder, items=40)
    for events in (data.train, data.validation, data.test):
        events.context["hint"] = events.item.astype(np.int64)
    return data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RetrievalData:
    return hinted(tmp_path_factory.mktemp("statistics"))


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("block", [None, 7])
def test_whole_catalogue(data: RetrievalData, split: str, block: int | None) -> None:
    model = Oracle(data.n_items)
    for lists in (True, False):
        found = evaluate(model, data, split, (1,), block=block, lists=lists, progress=False)  # type: ignore[arg-type]
        assert found["recall@1"] == 1.0


def test_sampled_negatives_and_auc(data: RetrievalData) -> None:
    model = Oracle(data.n_items)
    drawn = sample_negatives(data, "test", 5)
    assert evaluate_sampled(model, data, drawn, progress=False)["hr@1"] == 1.0
    assert evaluate_auc(model, data, "test", progress=False).mean == 1.0


def several(data: RetrievalData) -> RetrievalData:
    """All of validation moved into test: two held-out events a user."""
    empty = data.validation.select(np.zeros(len(data.validation), bool))
    return replace(data, validation=empty, test=data.validation.join(data.test))


def test_of_several_events_the_first_speaks_or_each_for_itself(data: RetrievalData) -> None:
    two = several(data)
    one_a_user = held_out(two, "test")
    for row, user in enumerate(one_a_user.users):
        mine = one_a_user.item[one_a_user.indptr[row] : one_a_user.indptr[row + 1]]
        events = np.flatnonzero((two.test.user == user) & np.isin(two.test.item, mine))
        assert one_a_user.event[row] == events[0]
        assert one_a_user.context["hint"][row] == two.test.item[events[0]]
    each = held_out(two, "test", by="event")
    assert len(each.users) == len(one_a_user.item)
    assert (each.relevant == 1).all()
    model = Oracle(data.n_items)
    found = evaluate(model, two, questions=each, ks=(1,), progress=False)
    assert found["recall@1"] == 1.0
    halved = evaluate(model, two, questions=one_a_user, ks=(1,), progress=False)
    assert halved["hr@1"] == 1.0
    assert halved["recall@1"] < 1.0
    for part in by_cold_items(found, two, at_most=3):
        assert part.metrics["recall@1"] == 1.0
    half = found.select(np.arange(len(found.users)) % 2 == 0)
    assert len(half.held_item) == len(half.users)


def test_where_each_user_has_one_event_both_ways_ask_the_same(data: RetrievalData) -> None:
    by_user, by_event = held_out(data, "test"), held_out(data, "test", by="event")
    for name in ("users", "item", "indptr", "candidates", "event"):
        np.testing.assert_array_equal(getattr(by_user, name), getattr(by_event, name))


def test_raw_context_is_that_of_the_question(tmp_path: Path) -> None:
    splits, users, items = small_tables()
    n = splits["test"].num_rows
    shuffled = np.random.default_rng(0).permutation(n)
    test = splits["test"].append_column("query", pa.array([f"asked {i}" for i in range(n)]))
    encoder = fit_encoder(splits["train"], users, items, FeatureTable(), tmp_path, 0)
    encoded = retrieval_data({**splits, "test": test}, users, items, encoder)
    questions = held_out(encoded, "test")
    found = held_out_context(test.take(pa.array(shuffled)), encoded, questions)
    assert "weight" not in found.column_names
    asked = dict(
        zip(test.column("user_id").to_pylist(), test.column("query").to_pylist(), strict=True)
    )
    expected = [asked[str(u)] for u in encoded.user_ids[questions.users]]
    assert found.column("query").to_pylist() == expected
    with pytest.raises(ValueError, match="some are missing in its 3 rows"):
        held_out_context(test.slice(0, 3), encoded, questions)
