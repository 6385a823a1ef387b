"""The SavedModel of rating models: raw ids and rated histories, with tensorflow alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.tables import FEATURES, rated_tables
from tfrec.config import TrainConfig
from tfrec.data.encoded import HISTORY_WEIGHT
from tfrec.export.batch import BatchRecommender
from tfrec.export.rating import export_rating
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.models.registry import build
from tfrec.training.rating import fit_rating

MODELS: dict[str, dict[str, Any]] = {
    "rbm": {"by": "user", "hidden": 4, "conditional": True},
    "autorec": {"by": "item", "hidden": [4], "l2": 1e-4},
    "cf_nade": {"by": "item", "hidden": [4, 4], "factors": 3},
    "dbn": {"by": "user", "hidden": [4], "pretrain_epochs": 1},
    "biased_mf": {"dim": 2, "l2": 1.0},
}
HISTORY = [["i1", "", "i3"], ["i5", "unheard of", ""], ["", "", ""]]
RATINGS = [[5.0, 0.0, 1.0], [2.0, 4.0, 0.0], [0.0, 0.0, 0.0]]
USERS = ["u1", "nobody", "nobody"]

CLEAN = """
import json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
out = model.signatures["predict"](
    user_id=tf.constant(["u1", "nobody"]), age=tf.constant(["a1", ""]),
    device=tf.constant(["", ""]), history=tf.constant([["i1", "i3"], ["i2", ""]]),
    history_weight=tf.constant([[5.0, 1.0], [4.0, 0.0]]), item_id=tf.constant(["i4", "i9"]))
ours = ("tfrec", "pipelines", "serving", "tensorflow_recommenders", "tensorflow_transform")
assert not [m for m in sys.modules if m.split(".")[0] in ours]
print(json.dumps(out["rating"].numpy().tolist()))
"""


@pytest.fixture(scope="module", params=MODELS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("rating")
    splits, users, items = rated_tables()
    encoder = fit_encoder(splits["train"], users, items, FEATURES, folder / "statistics", 8)
    data = retrieval_data(splits, users, items, encoder)
    train = TrainConfig(epochs=2, batch_size=8, learning_rate=0.01, patience=0)
    model = fit_rating(request.param, MODELS[request.param], train, data, evaluate_every=2).model
    export_rating(model, data, encoder, folder / "model")
    shutil.rmtree(folder / "statistics")
    return model, data, tf.saved_model.load(str(folder / "model")), folder / "model"


def user_side(rows: int = 3) -> dict[str, tf.Tensor]:
    return {
        "user_id": tf.constant(USERS[:rows]),
        "age": tf.constant(["a1", "", "a9"][:rows]),
        "device": tf.constant(["desk", "phone", ""][:rows]),
        "history": tf.constant(HISTORY[:rows]),
        "history_weight": tf.constant(RATINGS[:rows]),
    }


def encoded(data: Any) -> dict[str, tf.Tensor]:
    """The same as indices."""
    index = {value: i for i, value in enumerate(data.item_ids)}
    users = {value: i for i, value in enumerate(data.user_ids)}
    history = [[index.get(i, 0) for i in row] for row in HISTORY]
    return {
        "user_id": tf.constant([users.get(u, len(users)) for u in USERS], tf.int64),
        "history": tf.constant(history, tf.int64),
        HISTORY_WEIGHT: tf.constant(RATINGS),
    }


def test_predictions_equal_the_keras_model(exported: Any) -> None:
    model, data, loaded, _ = exported
    ids = ["i4", "i9", "i2"]
    found = loaded.signatures["predict"](**user_side(), item_id=tf.constant(ids))["rating"]
    items = tf.constant([list(data.item_ids).index(i) for i in ids], tf.int64)
    np.testing.assert_allclose(found, model.predict_rating(encoded(data), items), atol=1e-4)
    assert found.shape == (3,)
    assert 1 <= found.numpy().min() <= found.numpy().max() <= 5


def test_unknown_item_gets_the_users_mean_and_no_score(exported: Any) -> None:
    model, data, loaded, _ = exported
    ids = tf.constant(["unheard of"] * 3)
    rating = loaded.signatures["predict"](**user_side(), item_id=ids)["rating"]
    np.testing.assert_allclose(rating, model.clip(model.user_mean(encoded(data))), atol=1e-5)
    assert np.isneginf(loaded.signatures["score"](**user_side(), item_id=ids)["score"]).all()


def test_lists_are_ordered_by_predicted_rating(exported: Any) -> None:
    model, data, loaded, _ = exported
    history = tf.constant(HISTORY)
    out = loaded.signatures["recommend"](**user_side(), exclude=history, k=tf.constant(6))
    rows = model.score_catalogue(encoded(data)).numpy()
    rows[0, [list(data.item_ids).index(i) - 1 for i in ("i1", "i3")]] = -np.inf
    expected = -np.sort(-rows[0])[:6]
    np.testing.assert_allclose(out["score"][0], expected, atol=1e-4)
    assert not {b"i1", b"i3"} & set(out["item_id"][0].numpy())


def test_history_without_ratings_is_served(exported: Any) -> None:
    """No columns of ratings and columns of NaN both mean: rated like everybody does."""
    loaded = exported[2]
    items = tf.constant(["i4", "i9", "i2"])
    sides = [
        {**user_side(), "history_weight": tf.zeros([3, 0])},
        {**user_side(), "history_weight": tf.fill([3, 3], float("nan"))},
    ]
    found = [loaded.signatures["predict"](**side, item_id=items)["rating"] for side in sides]
    np.testing.assert_array_equal(*found)


def test_examples_carry_the_ratings(exported: Any) -> None:
    loaded = exported[2]

    def text(*values: str) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))

    features = {
        "user_id": text("u1"),
        "age": text("a1"),
        "device": text("desk"),
        "history": text("i1", "i3"),
        "history_weight": tf.train.Feature(float_list=tf.train.FloatList(value=[5.0, 1.0])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    by_example = loaded.signatures["recommend_examples"](examples=tf.constant([example]))
    out = loaded.signatures["recommend"](
        **user_side(1), exclude=tf.constant([["i1", "i3"]]), k=tf.constant(10)
    )
    np.testing.assert_allclose(by_example["score"], out["score"], atol=1e-5)


def test_loads_in_a_clean_interpreter(exported: Any, tmp_path: Path) -> None:
    model, _, loaded, folder = exported
    if type(model).__name__ not in ("RatingRBM", "AutoRec"):
        pytest.skip("one user-based and one item-based model are enough of a slow start")
    unset = ("PYTHONPATH", "TF_USE_LEGACY_KERAS")
    run = subprocess.run(
        [sys.executable, "-I", "-c", CLEAN, str(folder)],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k not in unset},
        capture_output=True,
        text=True,
        check=True,
    )
    ratings = json.loads(run.stdout.strip().splitlines()[-1])
    here = loaded.signatures["predict"](
        user_id=tf.constant(["u1", "nobody"]),
        age=tf.constant(["a1", ""]),
        device=tf.constant(["", ""]),
        history=tf.constant([["i1", "i3"], ["i2", ""]]),
        history_weight=tf.constant([[5.0, 1.0], [4.0, 0.0]]),
        item_id=tf.constant(["i4", "i9"]),
    )["rating"]
    np.testing.assert_allclose(ratings, here, atol=1e-5)


def test_other_models_are_refused(exported: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="predicts no ratings"):
        export_rating(build("popular", exported[1]), exported[1], None, tmp_path)  # type: ignore[arg-type]


def test_batch_answers_know_the_ratings_of_the_history(tmp_path: Path) -> None:
    splits, users, items = rated_tables()
    encoder = fit_encoder(splits["train"], users, items, FEATURES, tmp_path / "statistics", 8)
    data = retrieval_data(splits, users, items, encoder)
    model = fit_rating("autorec", {**MODELS["autorec"], "by": "user"}, TrainConfig(epochs=2), data)
    folder = export_rating(model.model, data, encoder, tmp_path / "model")
    call = tf.saved_model.load(str(folder)).signatures["recommend"]
    recommender = BatchRecommender(folder, splits["train"], users)
    rows = splits["train"].sort_by("timestamp").to_pylist()
    for user in ("u1", "u4"):
        mine = [row for row in rows if row["user_id"] == user]
        seen = [row["item_id"] for row in mine]
        age = users.to_pylist()[int(user[1:])]["age"]
        _, _, found = next(recommender.batches([user], 5, 1, True))
        one = call(
            user_id=tf.constant([user]),
            age=tf.constant([age]),
            device=tf.constant([""]),
            history=tf.constant([seen]),
            history_weight=tf.constant([[row["weight"] for row in mine]]),
            exclude=tf.constant([seen]),
            k=tf.constant(5),
        )
        np.testing.assert_array_equal(found["item_id"], one["item_id"].numpy())
        np.testing.assert_allclose(found["score"], one["score"].numpy(), rtol=1e-5)
        blind = call(
            user_id=tf.constant([user]),
            age=tf.constant([age]),
            device=tf.constant([""]),
            history=tf.constant([seen]),
            history_weight=tf.constant([[np.nan]], tf.float32),
            exclude=tf.constant([seen]),
            k=tf.constant(5),
        )
        assert not np.allclose(found["score"], blind["score"].numpy(), rtol=1e-5)
