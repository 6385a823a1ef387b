"""Matrix factorisation: batches, one step by hand, strangers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from tests.builders import random_data, retrieval_data
from tests.models.behaviour import inputs
from tfrec.config import TrainConfig
from tfrec.models import registry
from tfrec.models.fold_in import PRIOR
from tfrec.models.pairs import NEGATIVES, pair_batches
from tfrec.schema import HISTORY, ITEM_ID, USER_ID

DATA = random_data(25, 14, 6.0, seed=2)


def test_an_epoch_holds_every_event_once_with_unobserved_items() -> None:
    batches = list(pair_batches(DATA, 16, 5, seed=1))
    pairs = np.concatenate([np.stack([b[USER_ID], b[ITEM_ID]], 1) for b in batches])
    expected = np.stack([DATA.train.user, DATA.train.item], 1)
    assert sorted(map(tuple, pairs.tolist())) == sorted(map(tuple, expected.tolist()))
    drawn = np.concatenate([b[NEGATIVES] for b in batches])
    assert drawn.shape == (len(expected), 5)
    assert drawn.min() >= 1
    assert drawn.max() <= 14
    had = set(map(tuple, expected.tolist()))
    taken = [(u, n) in had for (u, _), row in zip(pairs.tolist(), drawn, strict=True) for n in row]
    assert not any(taken)


def test_epochs_differ_and_seeds_repeat() -> None:
    first = pair_batches(DATA, 16, 2, seed=1)
    one = np.concatenate([b[NEGATIVES] for b in first])
    two = np.concatenate([b[NEGATIVES] for b in first])
    again = np.concatenate([b[NEGATIVES] for b in pair_batches(DATA, 16, 2, seed=1)])
    assert (one != two).any()
    np.testing.assert_array_equal(one, again)
    order = np.concatenate([b[USER_ID] for b in first])
    assert (order != np.concatenate([b[USER_ID] for b in first])).any()


def test_negatives_are_uniform() -> None:
    data = retrieval_data([(u, 1) for u in range(1, 101)], n_items=11)
    drawn = np.concatenate([b[NEGATIVES] for b in pair_batches(data, 50, 200, 0)])
    share = np.bincount(drawn.ravel(), minlength=12)[2:] / drawn.size
    np.testing.assert_allclose(share, 0.1, atol=0.01)


@pytest.mark.parametrize("name", ["mf_logistic", "mf_bpr"])
def test_one_step_by_hand(name: str) -> None:
    """Gradients of a batch are summed, and only its rows move."""
    model = registry.build(name, DATA, {"dim": 3, "negatives": 2, "l2": 0.1})
    model.compile_for(TrainConfig(learning_rate=0.5))
    before = [v.numpy().astype(np.float64) for v in (model.users, model.items)]
    batch = {
        USER_ID: tf.constant([4, 4], tf.int64),
        ITEM_ID: tf.constant([2, 3], tf.int64),
        NEGATIVES: tf.constant([[5, 6], [5, 2]], tf.int64),
    }
    model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)

    def sigmoid(x: float) -> float:
        return 1 / (1 + np.exp(-x))

    users, items = before
    user_step, item_step = np.zeros_like(users), np.zeros_like(items)
    for positive, negatives in ((2, (5, 6)), (3, (5, 2))):
        w = users[4]
        if name == "mf_logistic":
            pulls = {positive: [-sigmoid(-(w @ items[positive]))]}
            for n in negatives:
                pulls.setdefault(n, []).append(sigmoid(w @ items[n]))
        else:
            pulls = {}
            for n in negatives:
                pull = sigmoid(w @ (items[n] - items[positive]))
                pulls.setdefault(n, []).append(pull)
                pulls.setdefault(positive, []).append(-pull)
        for item, values in pulls.items():
            user_step[4] += sum(values) * items[item]
            item_step[item] += sum(values) * w
        for item in (positive, *negatives):
            user_step[4] += 0.1 * w
            item_step[item] += 0.1 * items[item]
    np.testing.assert_allclose(model.users, users - 0.5 * user_step, atol=1e-5)
    np.testing.assert_allclose(model.items, items - 0.5 * item_step, atol=1e-5)
    untouched = np.setdiff1d(np.arange(15), [2, 3, 5, 6])
    np.testing.assert_array_equal(model.items.numpy()[untouched], before[1][untouched])


def test_tables_start_differently() -> None:
    data = retrieval_data([(i, i) for i in range(1, 9)])
    model = registry.build("mf_logistic", data, {"dim": 4})
    assert not np.allclose(model.users, model.items)


def test_known_and_unknown_users_in_one_batch() -> None:
    model = registry.build("mf_logistic", DATA, {"dim": 4})
    told = inputs(model, [1, 26, 2], DATA)
    mixed = model.user_embedding(told).numpy()
    np.testing.assert_array_equal(mixed[[0, 2]], model.users.numpy()[[1, 2]])
    np.testing.assert_allclose(mixed[1], 0, atol=1e-6)  # a stranger without a history


def test_fold_in_comes_close_to_the_optimum() -> None:
    """The same loss, bias and prior included, minimised by SciPy."""
    model = registry.build("mf_logistic", DATA, {"dim": 4, "init": 1.0, "fold_in_steps": 80})
    random = np.random.default_rng(0)
    for table in (model.user_bias, model.item_bias):
        table.assign(random.normal(0, 1, table.shape))
    model.bias.assign(-0.7)
    model.refresh()
    users = np.concatenate([model.users, model.user_bias], axis=1)[model.user_known.numpy() > 0]
    np.testing.assert_allclose(model.average, users.mean(axis=0), atol=1e-5)
    history = [1, 5, 9]
    found = model._folded(tf.constant([history], tf.int64)).numpy()[0]
    np.testing.assert_array_equal(model.fold_in(tf.constant([history], tf.int64))[0], found[:4])
    items = np.pad(model.items.numpy().astype(np.float64), [[0, 0], [0, 1]], constant_values=1.0)
    offset = model.item_bias.numpy()[:, 0] - 0.7
    other = np.setdiff1d(np.arange(1, model.n_items + 1), history)
    factor, mean = (v.numpy().astype(np.float64) for v in (model.scatter, model.average))

    def loss(v: np.ndarray) -> float:
        logits = items @ v + offset
        weight = model.negatives * 3 / len(other)
        ridge = 0.5 * model.l2 * (1 + model.negatives) * 3 * v @ v
        prior = 0.5 * PRIOR * (np.linalg.solve(factor, v - mean) ** 2).sum()
        up = np.logaddexp(0, -logits[history]).sum()
        return float(up + weight * np.logaddexp(0, logits[other]).sum() + ridge + prior)

    best = scipy.optimize.minimize(loss, mean).fun
    assert loss(found) <= best * 1.01 < loss(mean)


def test_users_without_an_event_in_training_are_folded_in() -> None:
    data = retrieval_data([(1, 1), (1, 2), (3, 3)], n_users=3, n_items=4)
    model = registry.build("mf_logistic", data, {"dim": 3, "init": 1.0})
    model.refresh()
    told = {USER_ID: tf.constant([2, 4], tf.int64), HISTORY: tf.constant([[3], [3]], tf.int64)}
    found = model.user_embedding(told).numpy()
    np.testing.assert_allclose(found, np.tile(model.fold_in(told[HISTORY][:1]), (2, 1)), atol=1e-5)
    without = model.user_embedding({USER_ID: told[USER_ID]}).numpy()
    np.testing.assert_allclose(without, np.tile(model.users.numpy()[[1, 3]].mean(0), (2, 1)))


def test_an_unknown_item_has_no_vector() -> None:
    model = registry.build("mf_bpr", DATA, {"dim": 3})
    vectors = model.item_embedding(tf.constant([0, 1, 14, 15, 900], tf.int64)).numpy()
    assert (vectors[[0, 3, 4]] == 0).all()
    np.testing.assert_array_equal(vectors[[1, 2]], model.items.numpy()[[1, 14]])
