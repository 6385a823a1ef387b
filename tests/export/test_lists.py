"""Lists of a SavedModel against the Keras model's own; repeats; foreign models."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tests.tables import small_data, small_tables
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.full_catalogue import evaluate, evaluate_lists
from tfrec.evaluation.protocol import HeldOut, held_out
from tfrec.export.batch import BatchRecommender
from tfrec.export.lists import packed, saved_lists
from tfrec.export.log import Log
from tfrec.export.retrieval import export_retrieval
from tfrec.models.registry import build

K = 3


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("lists")
    data, encoder = small_data(folder / "statistics")
    model = build("two_tower", data, {"dim": 8, "history_length": 8})
    export_retrieval(model, data, encoder, folder / "model")
    return model, data, folder / "model"


def asked(data: RetrievalData, questions: HeldOut) -> pa.Table:
    """Ages of the users, and the devices of the held-out events, of ``small_tables``."""
    splits, users, _ = small_tables()
    table = users.to_pydict()
    age = dict(zip(table["user_id"], table["age"], strict=True))
    first = dict(
        zip(
            splits["test"].column("user_id").to_pylist(),
            splits["test"].column("device").to_pylist(),
            strict=True,
        )
    )
    names = [str(data.user_ids[u]) for u in questions.users]
    return pa.table({"age": [age[n] for n in names], "device": [first[n] for n in names]})


@pytest.mark.parametrize("batch", [1, 256])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_saved_model_is_measured_as_the_keras_model_is(  # type: ignore[no-untyped-def]
    exported, batch: int, exclude_seen: bool
) -> None:
    model, data, folder = exported
    questions = held_out(data, "test", exclude_seen)
    assert len(questions.users) == (20 if exclude_seen else 30)  # ten bought their item before
    recommender = BatchRecommender(folder, Log.from_encoded(data, questions.known))
    lists = saved_lists(recommender, data, questions, K, asked(data, questions), batch)
    ours = evaluate_lists(lists, questions.users, data, "test", (K,), exclude_seen=exclude_seen)
    keras = evaluate(model, data, "test", (K,), exclude_seen=exclude_seen, progress=False)
    np.testing.assert_array_equal(ours.lists, keras.lists)
    assert ours[f"recall@{K}"] == keras[f"recall@{K}"]


def test_what_the_model_takes_beyond_is_sent_as_missing(exported) -> None:  # type: ignore[no-untyped-def]
    _, data, folder = exported
    questions = held_out(data, "test")
    recommender = BatchRecommender(folder, Log.from_encoded(data, questions.known))
    beside = pa.table({"unheard_of": np.zeros(len(questions.users))})
    assert (saved_lists(recommender, data, questions, K, beside) > 0).any()


def test_items_that_are_not_known_leave_no_hole() -> None:
    found = packed(np.array([[0, 5, 0, 2], [1, 2, 3, 4]]), 3)
    assert found.tolist() == [[5, 2, 0], [1, 2, 3]]
    assert packed(np.array([[0, 7]]), 4).tolist() == [[7, 0, 0, 0]]
