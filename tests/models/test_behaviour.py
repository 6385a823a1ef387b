"""The shared behaviour suite, on every retrieval model of the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.builders import retrieval_data, without_split
from tests.models.behaviour import (
    IMPERSONAL,
    board,
    fitted,
    inputs,
    retrieval_names,
    setting,
    stranger,
)
from tfrec.evaluation import evaluate
from tfrec.models import registry
from tfrec.models.base import Recommender
from tfrec.models.ncf import MLP, NeuMF
from tfrec.models.nearest import nearest_items, nearest_users
from tfrec.schema import HISTORY
from tfrec.training.fit import fit_retrieval

NAMES = retrieval_names()
EVERYBODY = np.arange(1, 21)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(name: str) -> Any:
    return fitted(name)


def has(model: Any, method: str) -> bool:
    return getattr(type(model), method) is not getattr(Recommender, method)


def test_learns_the_checkerboard(name: str, model: Any) -> None:
    """The one item of its parity that a user lacks comes first."""
    if name in IMPERSONAL:
        pytest.skip("gives everybody the same list")
    found = evaluate(model, board(), "test", (1, 5))
    assert found["recall@1"] >= 0.9
    assert found["recall@5"] == 1.0


def test_scores_are_finite_float32_rows(model: Any) -> None:
    scores = model.score_catalogue(inputs(model, EVERYBODY))
    assert scores.dtype == tf.float32
    assert scores.shape == (20, 20)
    assert np.isfinite(scores).all()


def test_pair_scores_equal_the_row(model: Any) -> None:
    told = inputs(model, EVERYBODY)
    items = tf.constant(EVERYBODY[::-1].copy(), tf.int64)
    rows = model.score_catalogue(told).numpy()
    expected = rows[np.arange(20), items.numpy() - 1]
    np.testing.assert_allclose(model.score(told, items), expected, rtol=1e-4, atol=1e-5)


def test_recommends_what_argsort_finds(model: Any) -> None:
    told = inputs(model, EVERYBODY)
    found, values = model.recommend(told, 7)
    scores = model.score_catalogue(told).numpy()
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    np.testing.assert_allclose(values, np.take_along_axis(scores, expected, 1), atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(scores, found.numpy() - 1, 1), values, atol=1e-5)


def test_never_recommends_what_is_excluded(model: Any) -> None:
    exclude = np.array([[3, 7, 0, 99], [1, 2, 4, 6]])
    found, _ = model.recommend(inputs(model, [1, 2]), 20, exclude)
    for row, banned, missing in zip(found.numpy(), exclude, (2, 4), strict=True):
        assert not set(row) & set(banned[banned > 0])
        assert (row == 0).sum() == missing


def test_recommends_only_among(model: Any) -> None:
    among = np.array([[2, 5, 9, 0], [1, 20, 0, 0]])
    exclude = np.array([[5], [0]])
    found, values = model.recommend(inputs(model, [1, 2]), 4, exclude, among)
    assert set(found.numpy()[0]) == {2, 9, 0}
    assert set(found.numpy()[1]) == {1, 20, 0}
    assert np.isneginf(values.numpy()[found.numpy() == 0]).all()


def test_k_beyond_the_catalogue_gives_each_item_once(model: Any) -> None:
    found, values = model.recommend(inputs(model, [4]), 33)
    assert sorted(found.numpy()[0]) == [0] * 13 + list(range(1, 21))
    assert (np.diff(values.numpy()[0][:20]) <= 1e-6).all()
    assert np.isneginf(values.numpy()[0][20:]).all()


def test_batch_size_does_not_change_scores(model: Any) -> None:
    together = model.score_catalogue(inputs(model, EVERYBODY)).numpy()
    alone = [model.score_catalogue(inputs(model, [int(u)])).numpy()[0] for u in EVERYBODY]
    np.testing.assert_allclose(np.stack(alone), together, rtol=1e-4, atol=1e-5)


def test_more_padding_does_not_change_scores(model: Any) -> None:
    told = inputs(model, EVERYBODY)
    wider = {**told, HISTORY: tf.pad(told[HISTORY], [[0, 0], [0, 5]])}
    np.testing.assert_allclose(
        model.score_catalogue(wider), model.score_catalogue(told), rtol=1e-4, atol=1e-5
    )


def test_same_scores_after_saving_and_loading(model: Any, tmp_path: Path) -> None:
    told = inputs(model, EVERYBODY)
    spec = {
        key: tf.TensorSpec((None, *value.shape[1:]), value.dtype, name=key)
        for key, value in told.items()
    }
    module = tf.Module()
    module.state = list(model.variables)
    module.scores = tf.function(model.score_catalogue, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.scores(told), model.score_catalogue(told), atol=1e-5)


def test_answers_an_unknown_user(name: str, model: Any) -> None:
    """With no history at all, and by the history where the model reads one."""
    assert np.isfinite(model.score_catalogue(stranger(model, []))).all()
    told = stranger(model, [2, 4, 6, 8, 10, 12])
    scores = model.score_catalogue(told).numpy()[0]
    assert np.isfinite(scores).all()
    if name in IMPERSONAL or model.history_length == 0:
        return
    even, odd = scores[1::2], scores[0::2]
    assert even.mean() > odd.mean()


def test_vectors_of_neighbours_share_the_parity(name: str, model: Any) -> None:
    if not has(model, "item_embedding"):
        with pytest.raises(TypeError, match="no item vectors"):
            model.item_embedding()
        return
    assert model.item_embedding().shape[0] == 20
    items = tf.constant(EVERYBODY, tf.int64)
    np.testing.assert_allclose(model.item_embedding(items), model.item_embedding(), atol=1e-6)
    found, values = nearest_items(model, items, 3)
    assert not (found.numpy() == EVERYBODY[:, None]).any()
    assert ((found.numpy() + EVERYBODY[:, None]) % 2 == 0).mean() > 0.9
    assert (np.abs(values) <= 1 + 1e-5).all()
    if has(model, "user_embedding"):
        told = inputs(model, EVERYBODY)
        nearest, _ = nearest_users(model, told, told, 1)
        same = (nearest.numpy()[:, 0] - np.arange(20)) % 2 == 0
        assert same.mean() > 0.9


def test_unknown_items_have_a_vector_too(name: str) -> None:
    """Padding, and the index behind the vocabulary: one of them in a request must not end it."""
    model = registry.build(name, board(), setting(name)[0])
    if not has(model, "item_embedding"):
        return
    model.refresh()
    asked = tf.constant([0, 21, 5], tf.int64)
    vectors = model.item_embedding(asked).numpy()
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[2], model.item_embedding()[4], atol=1e-6)


def test_fold_in_knows_the_group_of_a_history(model: Any) -> None:
    if not has(model, "fold_in"):
        with pytest.raises(TypeError, match="cannot fold in"):
            model.fold_in(tf.zeros([1, 3], tf.int64))
        return
    history = tf.constant([[2, 4, 6, 8, 10, 2, 0], [1, 3, 5, 7, 9, 0, 0]], tf.int64)
    vectors = model.fold_in(history)
    assert vectors.shape == (2, model.item_embedding().shape[1])
    if isinstance(model, MLP | NeuMF):  # their network compares; users compare with users
        known = model.user_embedding(inputs(model, EVERYBODY))
        alike = tf.matmul(
            tf.math.l2_normalize(vectors, 1), tf.math.l2_normalize(known, 1), transpose_b=True
        ).numpy()
        assert alike[0, 1::2].mean() > alike[0, 0::2].mean() + 0.1
        assert alike[1, 0::2].mean() > alike[1, 1::2].mean() + 0.1
        return
    scores = tf.matmul(vectors, model.item_embedding(), transpose_b=True).numpy()
    assert scores[0, 1::2].mean() > scores[0, 0::2].mean()
    assert scores[1, 0::2].mean() > scores[1, 1::2].mean()


def test_same_seed_same_model(name: str) -> None:
    params, train = setting(name)
    short = train.model_copy(update={"epochs": 1})
    two = [fit_retrieval(name, params, short, board(), evaluate_every=9).model for _ in range(2)]
    one, other = (m.score_catalogue(inputs(m, EVERYBODY)).numpy() for m in two)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_one_user_and_one_item(name: str) -> None:
    data = retrieval_data([(1, 1)])
    params, train = setting(name)
    model = fit_retrieval(name, params, train.model_copy(update={"epochs": 1}), data).model
    found, values = model.recommend(inputs(model, [1], data), 3)
    assert found.numpy().tolist() == [[1, 0, 0]]
    assert np.isfinite(values.numpy()[0, 0])


def test_bad_input_says_what_is_wrong(name: str) -> None:
    with pytest.raises(TypeError, match="no_such_parameter"):
        registry.build(name, board(), {"no_such_parameter": 1})
    params, train = setting(name)
    with pytest.raises(ValueError, match="train split holds no events"):
        fit_retrieval(name, params, train, without_split(board(), "train"))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(KeyError, match="did you mean 'popular'"):
        registry.build("populer", board())
