"""Lists of a SavedModel against the Keras model's own, and what is done with foreign models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tables import small_data, small_tables
from tfrec.evaluation.full_catalogue import evaluate, evaluate_lists
from tfrec.evaluation.protocol import HeldOut, held_out
from tfrec.export.context import held_out_context
from tfrec.export.lists import _packed, saved_lists
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


@pytest.mark.parametrize("batch", [1, 256])
def test_the_saved_model_is_measured_as_the_keras_model_is(exported, batch: int) -> None:  # type: ignore[no-untyped-def]
    model, data, folder = exported
    questions = held_out(data, "test")
    lists = saved_lists(folder, data, questions, K, asked(data, questions), batch)
    ours = evaluate_lists(lists, questions.users, data, "test", (K,))
    keras = evaluate(model, data, "test", (K,), progress=False)
    np.testing.assert_array_equal(ours.lists, keras.lists)
    assert ours[f"recall@{K}"] == keras[f"recall@{K}"]


def test_what_the_model_takes_beyond_is_sent_as_missing(exported) -> None:  # type: ignore[no-untyped-def]
    _, data, folder = exported
    questions = held_out(data, "test")
    lists = saved_lists(folder, data, questions, K, {"unheard_of": np.zeros(len(questions.users))})
    assert (lists > 0).any()


def asked(data, questions: HeldOut) -> dict[str, np.ndarray]:  # type: ignore[no-untyped-def]
    """Ages of the users, and the devices of the held-out events, of ``small_tables``."""
    splits, users, _ = small_tables()
    table = users.to_pydict()
    age = dict(zip(table["user_id"], table["age"], strict=True))
    device = held_out_context(splits["test"], data, questions).column("device")
    return {
        "age": np.array([age[str(data.user_ids[u])] for u in questions.users], dtype=object),
        "device": np.array(device.to_pylist(), dtype=object),
    }


def test_items_that_are_not_known_leave_no_hole(tmp_path: Path) -> None:
    packed = _packed(np.array([[0, 5, 0, 2], [1, 2, 3, 4]]), 3)
    assert packed.tolist() == [[5, 2, 0], [1, 2, 3]]
    assert _packed(np.array([[0, 7]]), 4).tolist() == [[7, 0, 0, 0]]
