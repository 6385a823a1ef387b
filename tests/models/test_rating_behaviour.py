"""One behaviour suite for all rating models: what is learned, what is leaked, who is answered."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.ratings import quick10
from tests.rated import FIVE, TWO, rated_data
from tfrec.config import TrainConfig
from tfrec.data.encoded import HISTORY_WEIGHT, Interactions, RetrievalData
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.evaluation.rated import RatingPredictor, evaluate_ratings
from tfrec.models import registry
from tfrec.schema import HISTORY, USER_ID
from tfrec.training.fit import fit_retrieval
from tfrec.training.rating import fit_rating

TRAIN = TrainConfig(epochs=40, batch_size=16, learning_rate=0.01, patience=0)
SMALL: dict[str, tuple[str, dict[str, Any], TrainConfig]] = {
    "u-rbm": (
        "rbm",
        {"by": "user", "hidden": 8, "cd": [1, 2], "conditional": True},
        TrainConfig(epochs=60, batch_size=10, learning_rate=0.1, patience=0),
    ),
    "i-rbm-factored": (
        "rbm",
        {"by": "item", "hidden": 8, "cd": [1, 2], "factors": 4, "optimizer": "adam"},
        TRAIN.model_copy(update={"epochs": 60}),
    ),
    "u-autorec": ("autorec", {"by": "user", "hidden": [8], "l2": 1e-3}, TRAIN),
    "i-autorec": ("autorec", {"by": "item", "hidden": [8], "l2": 1e-3}, TRAIN),
    "i-autorec-levels": (
        "autorec",
        {"by": "item", "hidden": [8, 4], "units": "levels", "polyak": 0.9, "dropout": 0.1},
        TRAIN.model_copy(update={"learning_rate": 0.03}),
    ),
    "i-dbn": ("dbn", {"by": "item", "hidden": [8], "pretrain_epochs": 10}, TRAIN),
    "u-nade": ("cf_nade", {"by": "user", "hidden": [8], "polyak": 0.9}, TRAIN),
    "i-nade-2": (
        "cf_nade",
        {"by": "item", "hidden": [8, 8], "factors": 4, "ordinal": 0.5, "polyak": None},
        TRAIN,
    ),
    "mf": ("biased_mf", {"dim": 2, "l2": 1.0}, TrainConfig(epochs=10, patience=0)),
}
EVERYBODY = np.arange(1, 62)


@cache
def data(levels: tuple[float, ...] = FIVE) -> RetrievalData:
    return rated_data(levels=levels)


@cache
def fitted(name: str, levels: tuple[float, ...] = FIVE) -> Any:
    model, params, train = SMALL[name]
    return fit_rating(model, params, train, data(levels), evaluate_every=20).model


@pytest.fixture(params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(name: str) -> Any:
    found = fitted(name)
    found.observe(data().train)
    return found


def told(model: Any, users: Any, known: Interactions | None = None) -> dict[str, tf.Tensor]:
    inputs = data().user_inputs(np.asarray(users), known or data().train, model.history_length)
    return {key: tf.constant(value) for key, value in inputs.items()}


def rmse_of_means(levels: tuple[float, ...]) -> float:
    sample = data(levels)
    return float(np.std(sample.test.weight - sample.train.weight.mean()))


def test_learns_tastes(name: str) -> None:
    """Most of the error of the mean is taste, and can be learned."""
    assert evaluate_ratings(fitted(name), data())["rmse"] < 0.72 * rmse_of_means(FIVE)


@pytest.mark.parametrize("name", ["u-rbm", "i-autorec", "i-nade-2", "mf"])
def test_learns_tastes_on_two_levels(name: str) -> None:
    assert evaluate_ratings(fitted(name, TWO), data(TWO))["rmse"] < 0.72 * rmse_of_means(TWO)


@pytest.mark.parametrize("name", ["i-autorec", "i-autorec-levels", "i-nade-2", "mf"])
def test_another_unit_of_ratings_changes_nothing_else(name: str) -> None:
    """Levels of 0, 25 .. 100 and of -.02 to .02: what is predicted is stretched as they are.

    Known users and a stranger, who is fitted from the history.
    """
    kind, params, train = SMALL[name]
    found = []
    for step, first in ((1.0, 1.0), (25.0, 0.0), (0.01, -0.02)):
        sample = data(tuple(first + step * i for i in range(5)))
        short = train.model_copy(update={"epochs": 4})
        model = fit_rating(kind, params, short, sample, evaluate_every=4).model
        inputs = sample.user_inputs(np.array([1, 2, 3, 61]), sample.train, model.history_length)
        users = {key: tf.constant(value) for key, value in inputs.items()}
        for key in (HISTORY, HISTORY_WEIGHT):
            users[key] = tf.concat([users[key][:3], users[key][:1]], axis=0)
        found.append((model.score_catalogue(users).numpy() - first) / step)
    assert np.ptp(found[0]) > 0.1
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=2e-3)


@pytest.mark.parametrize("name", ["u-rbm", "i-autorec-levels", "i-nade-2", "mf"])
def test_one_level_is_what_everybody_is_expected_to_give(name: str) -> None:
    """And what lists show beside each item, which is not kept within the scale."""
    kind, params, train = SMALL[name]
    sample = data((4.0,))
    short = train.model_copy(update={"epochs": 2})
    model = fit_rating(kind, params, short, sample, evaluate_every=2).model
    inputs = sample.user_inputs(EVERYBODY, sample.train, model.history_length)
    rows = model.score_catalogue({key: tf.constant(value) for key, value in inputs.items()})
    np.testing.assert_allclose(rows, 4.0, atol=1e-3)


def test_predictions_lie_within_the_scale(model: Any) -> None:
    users = np.repeat(EVERYBODY, 3)
    items = tf.constant(np.tile([1, 20, 41], len(EVERYBODY)), tf.int64)
    predicted = model.predict_rating(told(model, users), items).numpy()
    assert predicted.dtype == np.float32
    assert np.isfinite(predicted).all()
    assert predicted.min() >= 1
    assert predicted.max() <= 5


@pytest.mark.parametrize("name", ["u-rbm", "i-autorec", "i-dbn", "i-nade-2", "mf"])
def test_test_ratings_never_leak(name: str) -> None:
    """Other test ratings, the same predictions: trained anew, to the last bit."""
    kind, params, train = SMALL[name]
    base = data()
    flipped = replace(base.test, weight=(6 - base.test.weight).astype(np.float32))
    assert not np.array_equal(flipped.weight, base.test.weight)
    short = train.model_copy(update={"epochs": 2})
    predicted = []
    for sample in (base, replace(base, test=flipped)):
        trained = fit_rating(kind, params, short, sample).model
        known = sample.train.join(sample.validation)
        predict = RatingPredictor(trained, sample, known)
        predicted.append(predict(sample.test.user, sample.test.item))
    np.testing.assert_array_equal(*predicted)


def test_known_ratings_do_count(model: Any) -> None:
    """The other way round: other known ratings, other predictions."""
    base = data()
    other = replace(base.train, weight=(6 - base.train.weight).astype(np.float32))
    pairs = (base.test.user[:20], base.test.item[:20])
    before = RatingPredictor(model, base, base.train)(*pairs)
    after = RatingPredictor(model, base, other)(*pairs)
    assert np.abs(before - after).max() > 0.1


def test_pairs_equal_the_row(model: Any) -> None:
    users = told(model, EVERYBODY)
    rows = model.score_catalogue(users).numpy()
    assert rows.shape == (61, 41)
    for item in (1, 17, 41):
        pairs = model.score(users, tf.fill([61], tf.constant(item, tf.int64)))
        np.testing.assert_allclose(pairs, rows[:, item - 1], atol=1e-4)


def test_batch_size_does_not_change_scores(model: Any) -> None:
    together = model.score_catalogue(told(model, EVERYBODY)).numpy()
    alone = [model.score_catalogue(told(model, [u])).numpy()[0] for u in EVERYBODY[::10]]
    np.testing.assert_allclose(np.stack(alone), together[::10], atol=1e-4)


def test_user_without_ratings_and_item_without_ratings(model: Any) -> None:
    """User 61 and item 41 have none: the answers are the means, not noise."""
    rows = model.score_catalogue(told(model, [61])).numpy()[0]
    assert np.abs(rows - model.item_mean.numpy()[1:]).mean() < 0.6
    users = told(model, [3])
    unseen = float(model.score(users, tf.constant([41], tf.int64))[0])
    assert unseen == pytest.approx(float(model.user_mean(users)[0]), abs=1e-5)


@pytest.mark.parametrize("name", ["i-autorec", "i-nade-2"])
def test_item_first_rated_after_training_is_answered_by_its_ratings(model: Any) -> None:
    """Item 41, which odd users now like: an item-based net codes its row as any other."""
    raters = np.arange(1, 41)
    new = Interactions.from_arrays(
        raters, np.full(40, 41), 61, 41, weight=np.where(raters % 2 == 1, 5.0, 1.0)
    )
    model.observe(data().train.join(new))
    users = told(model, np.arange(41, 61))
    found = model.score(users, tf.fill([20], tf.constant(41, tf.int64))).numpy()
    assert found[::2].mean() > found[1::2].mean() + 0.5
    model.observe(data().train)
    means = model.user_mean(users).numpy()
    again = model.score(users, tf.fill([20], tf.constant(41, tf.int64))).numpy()
    np.testing.assert_allclose(again, means, atol=1e-5)


def test_stranger_with_a_history_is_answered_by_it(model: Any) -> None:
    """A user whom training never saw, who likes odd items."""
    items = np.array([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]])
    ratings = np.where(items % 2 == 1, 5.0, 1.0).astype(np.float32)
    users = {
        USER_ID: tf.constant([62], tf.int64),
        HISTORY: tf.constant(items, tf.int64),
        HISTORY_WEIGHT: tf.constant(ratings),
    }
    rows = model.score_catalogue(users).numpy()[0]
    assert rows[12:40:2].mean() > rows[13:40:2].mean() + 0.5


def test_last_rating_of_a_repeated_item_counts(name: str, model: Any) -> None:
    def ask(items: list[int], ratings: list[float]) -> np.ndarray:
        users = {
            USER_ID: tf.constant([62], tf.int64),
            HISTORY: tf.constant([items], tf.int64),
            HISTORY_WEIGHT: tf.constant([ratings]),
        }
        return model.history_codes(users).numpy()[0]

    np.testing.assert_array_equal(ask([3, 7, 3], [1.0, 5.0, 4.0]), ask([7, 3, 0], [5.0, 4.0, 0.0]))
    assert ask([3, 99, 0], [1.2, 5.0, 0.0]).tolist() == [0, 0, 1, *[0] * 38]


def test_missing_ratings_stand_for_the_items_means(model: Any) -> None:
    users = told(model, [1, 2, 3])
    bare = {k: v for k, v in users.items() if k != HISTORY_WEIGHT}
    narrow = {**bare, HISTORY_WEIGHT: tf.zeros([3, 0])}
    unknown = {**bare, HISTORY_WEIGHT: tf.fill(users[HISTORY].shape, float("nan"))}
    expected = model.score_catalogue(bare)
    for same in (narrow, unknown):
        np.testing.assert_allclose(model.score_catalogue(same), expected, atol=1e-5)


def test_top_k_is_ordered_by_predicted_rating(model: Any) -> None:
    """And a rating model passes for a retrieval model in whole-catalogue evaluation."""
    users = told(model, [1, 2])
    found, scores = model.recommend(users, 5, exclude=tf.constant([[1, 2], [3, 4]]))
    rows = model.score_catalogue(users).numpy()
    rows[0, :2] = rows[1, 2:4] = -np.inf
    np.testing.assert_allclose(scores, -np.sort(-rows, axis=1)[:, :5], atol=1e-5)
    assert not {1, 2} & set(found.numpy()[0])
    assert 0 <= evaluate(model, data(), "test", (10,), progress=False)["recall@10"] <= 1


def test_vectors_of_users_and_items_are_comparable(model: Any) -> None:
    """The dot product of user and item follows the predicted rating across items."""
    users = told(model, [1, 2, 3, 4])
    dots = tf.matmul(model.user_embedding(users), model.item_embedding(), transpose_b=True).numpy()
    rows = model.score_catalogue(users).numpy()
    for dot, row in zip(dots[:, :40], rows[:, :40], strict=True):
        assert np.corrcoef(dot, row)[0, 1] > 0.5


def test_fit_retrieval_hands_rating_models_on() -> None:
    train = TrainConfig(epochs=2, patience=0)
    result = fit_retrieval("biased_mf", {"dim": 2}, train, data())
    assert result.best is not None
    assert result.best_epoch >= 1
    assert "val_rmse" in result.history


def test_best_weights_are_put_back() -> None:
    """A learning rate that ruins the net later: the kept weights are the best ones measured."""
    train = TrainConfig(epochs=12, batch_size=16, learning_rate=0.2, patience=0)
    result = fit_rating("autorec", {"by": "user", "hidden": [16], "l2": 0.0}, train, data())
    held = data().validation
    predicted = RatingPredictor(result.model, data(), data().train)(held.user, held.item)
    rmse = float(np.sqrt(np.mean((predicted - held.weight) ** 2)))
    assert rmse == pytest.approx(min(v for _, v in result.validated), abs=1e-5)


def test_registry_lists_five_rating_models() -> None:
    kinds = {name for name, spec in registry.MODELS.items() if spec.kind == "rating"}
    assert {"rbm", "autorec", "dbn", "cf_nade", "biased_mf"} <= kinds
    with pytest.raises(ValueError, match="predicts no ratings"):
        fit_rating("popular", {}, TRAIN, data())


@pytest.mark.parametrize(
    ("name", "row"),
    [("rbm", "i-rbm"), ("autorec", "i-autorec"), ("dbn", "i-dbn"), ("cf_nade", "i-cf-nade-1")],
)
def test_the_example_is_the_setting_that_was_measured(name: str, row: str) -> None:
    """What ``tfrec models`` prints is what docs/ratings.md's row of ten minutes was made with."""
    measured = quick10()[row].params
    how = {"products", "cd"}  # how it is computed; the length of the chain
    example = registry.spec(name).example
    assert {k: v for k, v in measured.items() if k not in how and k in example} == example
    assert set(measured) - how <= {*example, "hidden"}
