"""VBPR: a planted visual preference places items that nobody bought; exports hold no pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.pictures import shop
from tfrec.config import RankingConfig, TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.auc import evaluate_auc
from tfrec.export.ranking import export_ranking
from tfrec.export.retrieval import export_retrieval
from tfrec.models.looks import Looks
from tfrec.models.registry import build
from tfrec.schema import ITEM_ID, USER_ID
from tfrec.training.fit import fit_retrieval
from tfrec.training.ranking import fit_ranking

TRAIN = TrainConfig(epochs=8, batch_size=60, learning_rate=0.05, patience=0)
VISUAL = {"dim": 4, "visual_dim": 4, "negatives": 4, "visual_learning_rate": 0.02}
EVERYBODY = np.arange(1, 61)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[RetrievalData, Any]:
    return shop(tmp_path_factory.mktemp("shop"), lacking=(58, 59))


@pytest.fixture(scope="module")
def vbpr(made: tuple[RetrievalData, Any]) -> Any:
    # Kept in the unit ball, a network takes longer to tell the colours: 8 epochs fail a seed in 3.
    train = TRAIN.model_copy(update={"epochs": 16})
    return fit_retrieval("vbpr", VISUAL, train, made[0], evaluate_every=99).model


def told(model: Any, data: RetrievalData, users: np.ndarray = EVERYBODY) -> dict[str, tf.Tensor]:
    inputs = data.user_inputs(users, data.train, model.history_length)
    return {name: tf.constant(values) for name, values in inputs.items()}


def cold(data: RetrievalData) -> np.ndarray:
    return data.train.item_counts() == 0


def colour_order(model: Any, data: RetrievalData) -> float:
    """Share of pairs of cold items, one of a user's colour and one of the other, ordered rightly.

    Items without an image are left out.
    """
    there = data.items["look_present"][: data.n_items + 1] > 0
    items = np.flatnonzero(cold(data) & there)
    items = items[items > 0]
    colour = np.array([int(data.item_ids[i][1:]) % 2 for i in items])
    taste = np.array([int(data.user_ids[u][1:]) % 2 for u in EVERYBODY])
    scores = model.score_catalogue(told(model, data)).numpy()[:, items - 1]
    right = [
        row[colour == t][:, None] > row[colour != t] for row, t in zip(scores, taste, strict=True)
    ]
    return float(np.mean([r.mean() for r in right]))


def test_cold_items_are_placed_by_their_looks(made: tuple[RetrievalData, Any], vbpr: Any) -> None:
    data = made[0]
    params = {"dim": 8, "negatives": 4}
    blind = fit_retrieval("mf_bpr", params, TRAIN, data, evaluate_every=99).model
    # Nothing but the looks tells cold items apart: to the blind they are all the same.
    assert colour_order(vbpr, data) > 0.9
    assert 0.3 < colour_order(blind, data) < 0.7
    mine = evaluate_auc(vbpr, data, items=cold(data)).mean
    assert mine > evaluate_auc(blind, data, items=cold(data)).mean


def test_scores_are_the_papers_formula(made: tuple[RetrievalData, Any], vbpr: Any) -> None:
    """Row by row in NumPy, from the weights."""
    data = made[0]
    scores = vbpr.score_catalogue(told(vbpr, data)).numpy()
    looks = vbpr.looks.known(tf.range(61, dtype=tf.int64)).numpy()
    users, met = vbpr.users.numpy(), (data.train.item_counts() > 0).astype(float)
    for user in (1, 17, 60):
        for item in (1, 30, 60):
            own = met[item] * vbpr.own_items.numpy()[item]
            expected = users[user, :4] @ own + met[item] * vbpr.own_bias.numpy()[item, 0]
            expected += users[user, 4:] @ (looks[item] @ vbpr.projection.numpy())
            expected += looks[item] @ vbpr.visual_bias.numpy()[:, 0]
            assert scores[user - 1, item - 1] == pytest.approx(expected, abs=1e-5)


def test_own_from_says_which_items_have_a_part_of_their_own(
    made: tuple[RetrievalData, Any],
) -> None:
    """0: the drawn pairs teach that nobody wanted an item; 1: it stays where its looks put it."""
    data = made[0]
    unmet = np.flatnonzero(cold(data)[1:]) + 1
    counts = data.train.item_counts()
    fewest = int(counts[counts > 0].min())
    train = TRAIN.model_copy(update={"epochs": 2})
    for own_from, has_own in ((0, counts >= 0), (1, counts > 0), (fewest + 1, counts > fewest)):
        model = fit_retrieval("vbpr", {**VISUAL, "own_from": own_from}, train, data).model
        looks = model.looks.known(tf.range(61, dtype=tf.int64))
        seen = tf.matmul(looks, model.visual_bias).numpy()[:, 0]
        own = model.item_bias.numpy()[:, 0] - seen
        assert (np.abs(own[1:]) > 1e-6).tolist() == has_own[1:].tolist()
        if own_from == 0:
            assert (own[unmet] < 0).all()
    with pytest.raises(ValueError, match=r"own_from from 0.*got 4, 4, 0.001, -1"):
        build("vbpr", data, {**VISUAL, "own_from": -1})


def test_l2_visual_holds_what_all_pairs_share(made: tuple[RetrievalData, Any]) -> None:
    data = made[0]
    train = TRAIN.model_copy(update={"epochs": 3})
    sizes = [
        float(
            tf.norm(
                fit_retrieval("vbpr", {**VISUAL, "l2_visual": l2}, train, data).model.projection
            )
        )
        for l2 in (0.0, 10.0)
    ]
    assert sizes[1] < 0.3 * sizes[0]


def test_items_described_by_an_image_score_as_the_catalogue(
    made: tuple[RetrievalData, Any], vbpr: Any
) -> None:
    data = made[0]
    items = np.flatnonzero(cold(data)[1:] & (data.items["look_present"][1:61] > 0))[:3] + 1
    rows = {n: tf.constant(data.items[n][items]) for n in ("look", "look_present")}
    rows[ITEM_ID] = tf.zeros([3], tf.int64)  # nobody knows these ids
    asked = told(vbpr, data, np.array([1, 2, 3]))
    found = vbpr.score_described(asked, rows)
    expected = vbpr.score(asked, tf.constant(items, tf.int64))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_missing_image_is_no_error(made: tuple[RetrievalData, Any], vbpr: Any) -> None:
    data = made[0]
    lacking = np.flatnonzero(data.items["look_present"][1:61] == 0) + 1
    assert len(lacking) == 2
    scores = vbpr.score_catalogue(told(vbpr, data)).numpy()[:, lacking - 1]
    assert np.isfinite(scores).all()
    # Neither bought nor seen: both get the same.
    np.testing.assert_allclose(scores[:, 0], scores[:, 1], atol=1e-6)


def test_brought_vectors_are_centred_and_scaled() -> None:
    from dataclasses import replace

    from tests.builders import checkerboard
    from tfrec.schema import FeatureTable

    data = checkerboard(20)
    vectors = np.random.default_rng(0).normal(3.0, 5.0, (22, 6)).astype(np.float32)
    vectors[[0, 7, 21]] = 0.0
    table = FeatureTable.model_validate(
        {"features": [{"name": "v", "role": "item", "kind": "embedding", "dim": 6}]}
    )
    data = replace(data, features=table, items={**data.items, "v": vectors})
    found = Looks(data, None).known(tf.range(21, dtype=tf.int64)).numpy()
    there = np.r_[1:7, 8:21]
    np.testing.assert_allclose(found[there].mean(axis=0), 0.0, atol=1e-6)
    assert (found[there] ** 2).sum(axis=1).mean() == pytest.approx(1.0, abs=1e-5)
    assert not found[[0, 7]].any()
    with pytest.raises(ValueError, match=r"'visual' names.*got \['w'\].*\['v'\]"):
        build("vbpr", data, {"visual": ["w"]})


@pytest.mark.parametrize("name", ["vbpr", "two_tower"])
def test_exports_answer_alike_and_hold_no_pixels(
    name: str, made: tuple[RetrievalData, Any], vbpr: Any, tmp_path: Path
) -> None:
    data, encoder = made
    if name == "vbpr":
        model = vbpr
    else:
        params = {"dim": 8, "history_length": 8, "history_encoder": "mean", "dropout": 0.0}
        train = TrainConfig(epochs=10, batch_size=10, learning_rate=0.02, patience=0)
        model = fit_retrieval(name, params, train, data, evaluate_every=99).model
        assert colour_order(model, data) > 0.8
    assert not [w.name for w in model.weights if w.dtype == tf.uint8]
    export_retrieval(model, data, encoder, tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    assert not [v.name for v in loaded.weights if v.dtype == tf.uint8]
    users = [str(data.user_ids[u]) for u in (1, 2, 3)]
    history = data.item_ids[data.train.histories(np.array([1, 2, 3]), 8)].astype(str)
    out = loaded.signatures["recommend"](
        user_id=tf.constant(users),
        history=tf.constant(history),
        exclude=tf.constant([[""]] * 3),
        k=tf.constant(5),
    )
    found, scores = model.recommend(told(model, data, np.array([1, 2, 3])), 5)
    np.testing.assert_allclose(out["score"], scores, atol=1e-5)
    assert (data.item_ids[found.numpy()] == out["item_id"].numpy().astype(str)).all()
    # An image of which the model knows nothing but its pixels.
    seen = data.items["look_present"][1:61] > 0
    item = int(np.flatnonzero(cold(data)[1:] & seen)[0]) + 1
    pixels = tf.constant([data.items["look"][item].tobytes()])
    vector = loaded.signatures["embed_item_features"](look=pixels)["embedding"]
    known = model.item_embedding(tf.constant([item], tf.int64))
    np.testing.assert_allclose(vector, known, atol=1e-5)


def test_the_ranker_reads_images_and_exports_their_vectors(
    made: tuple[RetrievalData, Any], tmp_path: Path
) -> None:
    data, encoder = made
    ranking = RankingConfig(
        history_length=0,
        params={"hidden": [8], "use": ["user_id", "look"]},
        train=TrainConfig(epochs=1, batch_size=256, learning_rate=0.05),
    )
    model = fit_ranking(ranking, data).model
    export_ranking(model, data, encoder, tmp_path / "ranker")
    loaded = tf.saved_model.load(str(tmp_path / "ranker"))
    assert all(v.dtype != tf.uint8 for v in (*loaded.weights, *loaded.catalogue.values()))
    items = np.array([3, 40, 59])
    rows = {n: tf.constant(v[items]) for n, v in data.items.items()}
    expected = model({**rows, USER_ID: tf.constant([1, 2, 3], tf.int64)}, training=False)
    asked = {
        "user_id": tf.constant([str(data.user_ids[u]) for u in (1, 2, 3)]),
        "item_id": tf.constant([str(data.item_ids[i]) for i in items]),
    }
    np.testing.assert_allclose(loaded.signatures["rank"](**asked)["score"], expected, atol=1e-5)
    examples = []
    for user, item in zip(*(v.numpy() for v in asked.values()), strict=True):
        example = tf.train.Example()
        example.features.feature["user_id"].bytes_list.value.append(user)
        example.features.feature["item_id"].bytes_list.value.append(item)
        example.features.feature["look"].bytes_list.value.append(b"")
        examples.append(example.SerializeToString())
    answer = loaded.signatures["serving_default"](examples=tf.constant(examples))
    np.testing.assert_allclose(answer["score"], expected, atol=1e-5)
