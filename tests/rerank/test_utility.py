"""Utility: the money adds up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfrec.config import UtilityConfig
from tfrec.rerank import boost_factor, boosted, expected_value, request_weights
from tfrec.rerank.utility import availability, freshness

NAN = float("nan")
PARTS = {
    "relevance": [[0.3, -0.2]],
    "p_click": [[0.10, 0.20]],
    "p_purchase": [[0.02, 0.01]],
    "price": [[50.0, 200.0]],
    "margin": [[10.0, 20.0]],
    "age": [[0.0, 60.0]],
}
WEIGHTS = {
    "relevance": 2.0,
    "click": 0.5,
    "purchase": 3.0,
    "revenue": 0.1,
    "profit": 1.0,
    "freshness": 0.04,
}


def tensors(**more: object) -> dict[str, tf.Tensor]:
    return {name: tf.constant(v, tf.float32) for name, v in {**PARTS, **more}.items()}


def test_every_goal_adds_its_money() -> None:
    utility, shares = expected_value(tensors(), WEIGHTS)
    expected: dict[str, Any] = {
        "relevance": [0.6, -0.4],
        "click": [0.05, 0.10],
        "purchase": [0.06, 0.03],
        "revenue": [0.1, 0.2],
        "profit": [0.2, 0.2],
        "freshness": [0.04, 0.01],
    }
    for goal, values in expected.items():
        np.testing.assert_allclose(shares[goal][0], values, rtol=1e-6, err_msg=goal)
    np.testing.assert_allclose(utility[0], np.array([*expected.values()]).sum(axis=0), rtol=1e-5)


def test_weights_by_row() -> None:
    parts = {name: tf.repeat(v, 3, axis=0) for name, v in tensors().items()}
    found, _ = expected_value(parts, {"click": tf.constant([0.0, 1.0, 2.0]), "revenue": 1.0})
    np.testing.assert_allclose(found, [[1.0, 2.0], [1.1, 2.2], [1.2, 2.4]], rtol=1e-6)


def test_stock_and_seller() -> None:
    settings = UtilityConfig(stock="stock", low_stock=10)
    parts = {"relevance": tf.ones([1, 5])}
    stock = tf.constant([[0.0, -3.0, 5.0, 40.0, NAN]])
    seller = tf.constant([[2.0, 2.0, 2.0, 0.5, NAN]])
    utility, shares = expected_value(
        {**parts, "stock": stock, "seller_boost": seller}, {"relevance": 1.0}, settings
    )
    gone = -np.inf
    np.testing.assert_array_equal(utility, np.array([[gone, gone, 1.0, 0.5, 1.0]], np.float32))
    np.testing.assert_array_equal(shares["relevance"], np.array([[0, 0, 1.0, 0.5, 1.0]]))
    np.testing.assert_array_equal(availability(stock), np.array([[0, 0, 1.0, 1.0, 1.0]]))


def test_a_seller_of_factor_zero_is_worth_nothing_but_may_be_shown() -> None:
    utility, _ = expected_value(
        tensors(seller_boost=[[0.0, 1.0]]), {"click": 1.0, "freshness": 1.0}
    )
    np.testing.assert_allclose(utility, [[0.0, 0.45]], rtol=1e-6)


def test_unknown_values_add_nothing() -> None:
    parts = tensors(price=[[NAN, 200.0]], age=[[NAN, -5.0]], p_click=[[NAN, np.inf]])
    _, shares = expected_value(parts, WEIGHTS)
    np.testing.assert_allclose(shares["revenue"], [[0, 0.2]], rtol=1e-6)
    np.testing.assert_allclose(shares["freshness"], [[0, 0.04]], rtol=1e-6)
    np.testing.assert_array_equal(shares["click"], np.array([[0.0, 0.0]]))


def test_a_half_life_halves() -> None:
    found = freshness(tf.constant([0.0, 7.0, 14.0, 70000.0]), 7.0)
    np.testing.assert_allclose(found, [1, 0.5, 0.25, 0.0], atol=1e-7)


def test_request_weights_fall_back_to_the_configuration() -> None:
    settings = UtilityConfig(weights={"click": 0.5, "relevance": 2.0})
    found = request_weights({"click": tf.constant([NAN, 0.0, 3.0])}, settings)
    np.testing.assert_array_equal(found["click"], [0.5, 0.0, 3.0])
    assert float(found["relevance"]) == 2.0
    with pytest.raises(ValueError, match=r"goals in utility.weights, .*; got \['revenue'\]"):
        request_weights({"revenue": tf.constant(1.0)}, settings)


def test_errors_say_the_rule_and_what_came() -> None:
    with pytest.raises(ValueError, match=r"missing by goal: \{'revenue': \['price'\]\}"):
        expected_value({"p_purchase": tf.ones([1, 2])}, {"revenue": 1.0})
    with pytest.raises(ValueError, match=r"got \['clicks'\]"):
        expected_value(tensors(), {"clicks": 1.0})
    with pytest.raises(ValueError, match=r"got \['prices'\]"):
        expected_value(tensors(prices=[[1.0, 2.0]]), {"click": 1.0})
    with pytest.raises(ValueError, match="at least one weighted goal"):
        expected_value(tensors(), {})


def test_boosts_hold_in_their_window_and_multiply() -> None:
    matches = tf.constant([[[True, True], [True, False], [False, False]]] * 3)
    found = boost_factor(
        matches,
        now=tf.constant([99, 100, 200], tf.int64),
        start=tf.constant([100, 0], tf.int64),
        end=tf.constant([200, 150], tf.int64),
        factor=tf.constant([2.0, 0.5]),
    )
    np.testing.assert_array_equal(found, [[0.5, 1, 1], [1, 2, 1], [1, 1, 1]])
    with pytest.raises(ValueError, match=r"matches is bool \[batch, candidate, campaign\]"):
        boost_factor(matches[0], 1, [0], [1], [1.0])


def test_a_boost_raises_whatever_the_sign() -> None:
    worth = tf.constant([[2.0, -2.0, -np.inf]])
    found = boosted(worth, tf.constant([[1.5, 1.5, 2.0]]))
    np.testing.assert_array_equal(found, [[3.0, -1.0, -np.inf]])
    np.testing.assert_array_equal(boosted(worth, 0.5 * tf.ones([1, 3]))[0, :2], [1.0, -3.0])
