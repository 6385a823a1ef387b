"""The closed-form models against their equations written out slowly."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.builders import random_data, retrieval_data
from tests.models.behaviour import inputs, stranger
from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.models import registry
from tfrec.models.als import ALS
from tfrec.models.closed_form import event_batches
from tfrec.models.history_set import history_marks, history_times, once
from tfrec.schema import HISTORY, ITEM_ID, USER_ID, WEIGHT
from tfrec.training.fit import fit_retrieval

DATA = random_data(25, 14, 6.0, seed=2)
USERS = np.arange(1, 26)


def fit(name: str, data: RetrievalData = DATA, **params: object):  # type: ignore[no-untyped-def]
    return fit_retrieval(name, params, TrainConfig(), data).model


def known_matrix(data: RetrievalData) -> np.ndarray:
    """What users have had before the test, float [n_users, n_items]."""
    return data.train.join(data.validation).matrix().toarray()


def test_event_batches_hold_every_event_once() -> None:
    batches = list(event_batches(DATA, 16))
    for name, expected in (
        (USER_ID, DATA.train.user),
        (ITEM_ID, DATA.train.item),
        (WEIGHT, DATA.train.weight),
    ):
        np.testing.assert_array_equal(np.concatenate([b[name] for b in batches]), expected)


def test_popular_counts_users_not_repeats() -> None:
    data = retrieval_data([(1, 1), (1, 1), (1, 1), (1, 2), (2, 2), (2, 3)])
    model = fit("popular", data)
    assert model.counts.numpy().tolist() == [1, 2, 1]
    found, _ = model.recommend(inputs(model, [1], data), 3)
    assert found.numpy().tolist() == [[2, 1, 3]]  # equal counts by lower index


def test_ease_solves_its_problem() -> None:
    """Each column is the ridge regression of an item on all others: no other choice is better."""
    model = fit("ease", l2=3.0)
    x = DATA.train.matrix().toarray().astype(np.float64)
    weights = model.item_item.numpy()
    for item in range(14):
        others = np.delete(np.arange(14), item)
        gram = x[:, others].T @ x[:, others] + 3.0 * np.eye(13)
        expected = np.linalg.solve(gram, x[:, others].T @ x[:, item])
        np.testing.assert_allclose(weights[others, item], expected, atol=1e-5)
        assert weights[item, item] == 0
    scores = model.score_catalogue(inputs(model, USERS, DATA))
    np.testing.assert_allclose(scores, known_matrix(DATA) @ weights, atol=1e-5)


def test_ease_says_where_the_ridge_is_lost_in_rounding() -> None:
    """Items 1 and 2 go together: without a ridge weights of 1e14 came out."""
    data = retrieval_data([(u, i) for u in (1, 2, 3) for i in (1, 2)] + [(3, 3), (4, 3)])
    with pytest.raises(ValueError, match="not invertible with l2 = 1e-17; raise l2"):
        fit("ease", data, l2=1e-17)
    assert np.abs(fit("ease", data, l2=1e-6).item_item).max() < 2


def test_item_knn_equals_loops() -> None:
    model = fit("item_knn", neighbours=3, shrinkage=2.0)
    x = DATA.train.matrix().toarray()
    counts = x.sum(0)
    similarity = np.zeros((14, 14))
    for i in range(14):
        for j in range(14):
            if i != j:
                together = (x[:, i] * x[:, j]).sum()
                similarity[i, j] = together / (np.sqrt(counts[i] * counts[j]) + 2.0)
    expected = np.zeros((25, 14))
    for i in range(14):
        nearest = np.argsort(-similarity[i], kind="stable")[:3]
        for j in nearest:
            expected[:, i] += similarity[i, j] * known_matrix(DATA)[:, j]
    found = model.score_catalogue(inputs(model, USERS, DATA))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def loss(model: ALS, users: np.ndarray, items: np.ndarray) -> float:
    """The objective, pair by pair."""
    x = DATA.train.matrix().toarray()
    total = 0.0
    for u in range(25):
        for i in range(14):
            score = users[u] @ items[i]
            total += x[u, i] * (1 - score) ** 2 + model.alpha * score**2
    for u in range(25):
        terms = x[u].sum() + model.alpha * 14
        total += model.l2 * terms**model.nu * users[u] @ users[u]
    for i in range(14):
        terms = x[:, i].sum() + model.alpha * 25
        total += model.l2 * terms**model.nu * items[i] @ items[i]
    return total


@pytest.mark.parametrize("nu", [0.0, 1.0])
def test_als_user_vectors_are_the_minimum_given_the_items(nu: float) -> None:
    model = fit("als", dim=3, sweeps=2, unobserved_weight=0.4, l2=0.05, nu=nu)
    users, items = model.users.numpy().astype(float), model.items.numpy().astype(float)
    best = loss(model, users, items)
    random = np.random.default_rng(0)
    for _ in range(20):
        assert loss(model, users + random.normal(0, 1e-2, users.shape), items) > best
    gradient = np.zeros_like(users)
    for at in np.ndindex(users.shape):
        step = np.zeros_like(users)
        step[at] = 1e-4
        gradient[at] = loss(model, users + step, items) - loss(model, users - step, items)
    np.testing.assert_allclose(gradient / 2e-4, 0, atol=1e-3)


def test_als_sweeps_lower_the_loss() -> None:
    losses = []
    for sweeps in (1, 2, 4, 8):
        model = fit("als", sweeps=sweeps, dim=4, unobserved_weight=0.4, l2=0.05)
        losses.append(loss(model, model.users.numpy(), model.items.numpy()))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_als_fold_in_of_the_training_history_is_the_trained_vector() -> None:
    model = fit("als", dim=4, sweeps=3)
    history = DATA.train.histories(USERS, 14).astype(np.int64)
    np.testing.assert_allclose(model.fold_in(history), model.users, atol=1e-5)
    doubled = np.concatenate([history, history], axis=1)  # repeats count once
    np.testing.assert_allclose(model.fold_in(doubled), model.users, atol=1e-5)


def test_als_long_histories_go_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit("als", dim=4, sweeps=2)
    monkeypatch.setattr("tfrec.models.als.CHUNK", 3)
    monkeypatch.setattr("tfrec.models.als.BLOCK_BYTES", 2000)
    parts = fit("als", dim=4, sweeps=2)
    np.testing.assert_allclose(parts.items, whole.items, atol=1e-5)


def test_history_as_a_set() -> None:
    history = tf.constant([[3, 1, 3, 0, 9], [0, 0, 0, 0, 0], [2, 2, 2, 2, 2]], tf.int64)
    assert [sorted(set(row) - {0}) for row in once(history, 4).numpy().tolist()] == [
        [1, 3],
        [],
        [2],
    ]
    dense = tf.sparse.to_dense(history_marks(history, 4)).numpy()
    expected = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_array_equal(dense, expected)
    weights = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    np.testing.assert_allclose(history_times(history, tf.constant(weights)), expected @ weights)
    # Many full rows take the dense way; it must agree.
    many = np.random.default_rng(1).integers(0, 5, (50, 4))
    marks = np.zeros((50, 5))
    marks[np.arange(50)[:, None], many] = 1
    np.testing.assert_allclose(
        history_times(tf.constant(many), tf.constant(weights)), marks[:, 1:] @ weights, atol=1e-5
    )


def test_whole_history_is_read_unless_capped() -> None:
    counts = DATA.train.user_counts() + DATA.validation.user_counts()
    assert fit("ease").history_length == counts.max()
    capped = fit("ease", history_length=2)
    assert capped.history_length == 2
    told = stranger(capped, [1, 2, 3], DATA)
    assert told[HISTORY].numpy().tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("ease", {"l2": 0.0}, "positive ridge"),
        ("ease", {"history_length": 0}, "from 1"),
        ("item_knn", {"neighbours": 0}, "neighbours is from 1"),
        ("als", {"dim": 0}, "from 1"),
        ("als", {"l2": 0.0}, "singular"),
        ("mf_bpr", {"negatives": 0}, "negatives"),
    ],
)
def test_bad_parameters(name: str, params: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        registry.build(name, DATA, params)


def test_ease_refuses_a_catalogue_that_cannot_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfrec.models.ease.LARGEST", 10)
    with pytest.raises(ValueError, match="min_item_events"):
        registry.build("ease", DATA)
