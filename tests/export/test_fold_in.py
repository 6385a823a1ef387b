"""The signature ``fold_in``: raw ids of a history to a vector and a list, as the model says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.tables import small_data
from tfrec.export.retrieval import export_retrieval
from tfrec.models.registry import build
from tfrec.schema import HISTORY, USER_ID

PARAMS = {
    "two_tower": {"dim": 8, "history_length": 4},
    "gmf": {"factors": 4, "history_length": 4},
    "mf_bpr": {"dim": 4, "history_length": 4},
    "item2vec": {"dim": 4, "history_length": 4, "attributes": True},
    "gru4rec": {"dim": 4, "history_length": 4},
    "neumf": {"factors": 2, "history_length": 4},
}
RAW = [["i1", "i3", "", ""], ["not an item", "i5", "", ""], ["", "", "", ""]]
EXCLUDE = [["i1", "i3"], ["i5", ""], ["", ""]]


@pytest.mark.parametrize("name", PARAMS)
def test_equals_the_model(name: str, tmp_path: Path) -> None:
    data, encoder = small_data(tmp_path / "statistics")
    model = build(name, data, PARAMS[name])
    for variable in model.trainable_variables:  # away from zeros and ties
        variable.assign(tf.random.stateless_normal(variable.shape, [1, 2], stddev=0.5))
    export_retrieval(model, data, encoder, tmp_path / "model")
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    out = signatures["fold_in"](
        history=tf.constant(RAW), exclude=tf.constant(EXCLUDE), k=tf.constant(5)
    )
    index = {value: i for i, value in enumerate(data.item_ids)}
    history = tf.constant([[index["i1"], index["i3"], 0, 0], [index["i5"], 0, 0, 0], [0] * 4])
    history = tf.cast(history, tf.int64)
    np.testing.assert_allclose(out["embedding"], model.fold_in(history), atol=1e-4)
    banned = tf.constant([[index[i] if i else 0 for i in row] for row in EXCLUDE])
    nobody = {USER_ID: tf.zeros([3], tf.int64), HISTORY: history}
    items, scores = model.recommend(nobody, 5, banned)
    np.testing.assert_array_equal(out["item_id"].numpy().astype(str), data.item_ids[items.numpy()])
    np.testing.assert_allclose(out["score"], scores, atol=1e-4)
    assert not {b"i1", b"i3"} & set(out["item_id"].numpy()[0])
    # The history alone decides: it is not that of the user without one.
    assert np.abs(out["embedding"][0] - out["embedding"][2]).max() > 1e-3
