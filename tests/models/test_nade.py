"""CF-NADE: a proper distribution over ratings, and the costs of the paper, by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.rated import rated_data
from tfrec.models.nade import CFNADE

LEVELS, ITEMS = 3, 3


def tiny(**params: object) -> CFNADE:
    data = rated_data(10, ITEMS, (1.0, 2.0, 4.0), 1.0, extra_users=0, extra_items=0)
    model = CFNADE(data, "user", polyak=None, **params)  # type: ignore[arg-type]
    assert model.n_levels == LEVELS
    random = np.random.default_rng(1)
    for weight in model._weights.values():
        weight.assign(random.normal(0, 0.7, weight.shape))
    return model


@pytest.mark.parametrize(
    "params",
    [
        {"hidden": [4]},
        {"hidden": [4, 3]},
        {"hidden": [4], "factors": 2},
        {"hidden": [4], "common": True},
    ],
    ids=["one layer", "two layers", "factored", "common"],
)
def test_likelihood_sums_to_one_over_all_rating_vectors(params: dict) -> None:  # type: ignore[type-arg]
    """In every order, with all columns rated and with one that is not."""
    model = tiny(**params)
    full = np.array(list(itertools.product(range(1, LEVELS + 1), repeat=ITEMS)), np.int32)
    part = full[full[:, 1] == 1].copy()
    part[:, 1] = 0
    for order in ([0, 1, 2], [2, 0, 1]):
        for rows in (full, part):
            total = tf.reduce_sum(tf.exp(model.log_likelihood(tf.constant(rows), order)))
            assert float(total) == pytest.approx(1.0, abs=1e-5)


def test_a_conditional_sees_only_what_came_before() -> None:
    """The first column's chance is one number however the later ones are rated."""
    model = tiny(hidden=[4])
    rows = np.array([[2, 1, 1], [2, 3, 2], [2, 0, 0]], np.int32)
    only = np.where(np.arange(ITEMS) == 0, rows, 0).astype(np.int32)
    first = model.log_likelihood(tf.constant(only), [0, 1, 2]).numpy()
    assert np.ptp(first) < 1e-6
    whole = model.log_likelihood(tf.constant(rows), [0, 1, 2]).numpy()
    assert (whole[:2] < first[:2]).all()


def test_hidden_layer_shares_weights_of_lower_ratings() -> None:
    """Equation 12, summed by hand."""
    model = tiny(hidden=[4])
    w, c = model["in"].numpy(), model["c0"].numpy()
    code = np.array([[3, 0, 2]], np.int32)
    by_hand = np.tanh(c + w[0, 0] + w[0, 1] + w[0, 2] + w[2, 0] + w[2, 1])
    np.testing.assert_allclose(model.coded(tf.constant(code))[0], by_hand, atol=1e-6)


def test_the_part_in_common_counts_once_for_each_level() -> None:
    model = tiny(hidden=[4], common=True)
    w, c = model["in"].numpy(), model["c0"].numpy()
    code = np.array([[3, 0, 2]], np.int32)
    levels = w[0, :3].sum(axis=0) + w[2, :2].sum(axis=0)
    by_hand = np.tanh(c + levels + 3 * w[0, 3] + 2 * w[2, 3])
    np.testing.assert_allclose(model.coded(tf.constant(code))[0], by_hand, atol=1e-6)
    weights, _ = model.output()
    out = model["out"].numpy()
    np.testing.assert_allclose(weights[:, 1, :4], out[:, 1] + out[:, 3], atol=1e-6)


def test_row_odds_by_hand() -> None:
    """Three ratings of a row against five of all: what is given alone."""
    model = tiny(hidden=[4])
    code = np.array([[3, 0, 3], [0, 0, 0]], np.int32)
    shares = (np.array([0.0, 0.0, 2.0]) + 5 * model.odds.shares) / 7
    found = model.odds(tf.constant(code)).numpy()
    np.testing.assert_allclose(found[0], np.log(shares / model.odds.shares), atol=1e-5)
    np.testing.assert_allclose(found[1], 0, atol=1e-6)


def test_without_row_odds_the_net_is_the_papers() -> None:
    """With weights of 0 nothing is left but the columns' biases, whatever a row's ratings are."""
    code = tf.constant([[3, 3, 0], [1, 1, 0]])
    at = tf.constant([[0, 2], [1, 2]], tf.int64)
    for odds in (True, False):
        model = tiny(hidden=[4], row_odds=odds)
        model["out"].assign(tf.zeros_like(model["out"]))
        scores = model._scores(code, at).numpy()
        assert np.allclose(scores[0], scores[1]) is not odds
        np.testing.assert_array_equal(model.encode(code)[:, 4:] != 0, odds)


@pytest.mark.parametrize("common", [False, True])
def test_catalogue_and_training_score_alike(common: bool) -> None:
    """``output`` and ``encode``, which answer, against ``_scores``, which trains."""
    model = tiny(hidden=[4], factors=2, common=common)
    code = tf.constant(np.array([[3, 0, 2], [1, 2, 0]], np.int32))
    weights, biases = model.output()
    raw = tf.einsum("bd,nkd->bnk", model.encode(code), weights) + biases
    at = np.array([[0, 1], [1, 2], [1, 0]])
    expected = tf.gather_nd(tf.cumsum(raw, axis=-1), at)
    np.testing.assert_allclose(model._scores(code, tf.constant(at)), expected, atol=1e-5)


def test_ordinal_cost_by_hand() -> None:
    """Equations 15 to 19, written as the product of choices."""
    model = tiny(hidden=[4], ordinal=1.0)
    scores = np.random.default_rng(0).normal(size=(LEVELS, LEVELS)).astype(np.float32)
    code = np.arange(1, LEVELS + 1, dtype=np.int32)
    expected = []
    for s, k in zip(scores, code, strict=True):
        e, product = np.exp(s), 1.0
        for j in range(k, 0, -1):
            product *= e[j - 1] / e[:j].sum()
        for j in range(k, LEVELS + 1):
            product *= e[j - 1] / e[j - 1 :].sum()
        expected.append(-np.log(product))
    np.testing.assert_allclose(model.cost(scores, code), expected, rtol=1e-5)
    model.ordinal = 0.0
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        model.cost(scores, code), -np.log(softmax[np.arange(3), code - 1]), rtol=1e-5
    )


def test_objective_is_the_mean_cost_over_random_orders() -> None:
    """The sampled cost of a row, averaged, is the mean over all orders of the cost of the row."""
    model = tiny(hidden=[4], ordinal=0.0, l2=0.0)
    row = np.array([[2, 3, 1]], np.int32)
    orders = [list(o) for o in itertools.permutations(range(ITEMS))]
    exact = -np.mean([model.log_likelihood(tf.constant(row), o).numpy()[0] for o in orders])
    tf.random.set_seed(0)
    rows = tf.constant(np.repeat(row, 40_000, axis=0))
    sampled = float(model.objective(rows)[0]) * ITEMS
    assert sampled == pytest.approx(exact, rel=0.02)


def test_least_given_asks_few_and_weighs_them_alike() -> None:
    """With a chance of at least 0.8, 0.9 on average, a tenth is asked; weighed by ten."""
    model = tiny(hidden=[4], ordinal=0.0, l2=0.0, least_given=0.8)
    row = np.array([[2, 3, 1]], np.int32)
    rows = tf.constant(np.repeat(row, 60_000, axis=0))
    tf.random.set_seed(0)
    sampled = float(model.objective(rows)[0]) * ITEMS
    chances = np.linspace(0.8, 1.0, 1001)
    exact = 0.0
    for given in itertools.product([False, True], repeat=ITEMS):
        share = np.mean(np.prod([chances if g else 1 - chances for g in given], axis=0))
        shown = tf.constant(np.where(given, row, 0).astype(np.int32))
        for column in np.flatnonzero(~np.array(given)):
            at = tf.constant([[0, column]], tf.int64)
            logs = tf.nn.log_softmax(model._scores(shown, at)).numpy()[0]
            exact -= 10 * share * logs[row[0, column] - 1]
    assert sampled == pytest.approx(exact, rel=0.03)


def test_averages_answer_and_forget_the_start() -> None:
    data = rated_data(20, 10)
    model = CFNADE(data, "user", [4], polyak=0.5)
    with model.live():
        assert model["in"] is model._weights["in"]
    assert model["in"] is model._averages["in"]
    model.compile(optimizer=tf.keras.optimizers.legacy.SGD(0.0))
    model._weights["in"].assign_add(tf.ones_like(model["in"]))
    start = model._averages["in"].numpy()
    code = tf.ones([2, model.n_columns], tf.int32)
    for _ in range(30):
        model.train_step({"code": code})
    np.testing.assert_allclose(model._averages["in"], start + 1, atol=1e-3)


def test_bad_parameters_are_refused() -> None:
    data = rated_data(10, 5)
    with pytest.raises(ValueError, match="ordinal a share"):
        CFNADE(data, ordinal=2.0)
    with pytest.raises(ValueError, match="least_given is a chance"):
        CFNADE(data, least_given=1.0)
    with pytest.raises(ValueError, match="layer sizes from 1"):
        CFNADE(data, hidden=[])
