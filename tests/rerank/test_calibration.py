"""Calibration: known curves are found, errors are those of the definition, graphs agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.rerank.calibration_error import expected_calibration_error
from tfrec.rerank.calibration_fit import (
    Method,
    cross_fitted,
    error_before_after,
    fit,
    fit_isotonic,
    fit_platt,
)
from tfrec.rerank.calibration_probability import Isotonic, Platt, from_dict, undo_sampling

METHODS: tuple[Method, ...] = ("platt", "isotonic")


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def overconfident(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores twice as sure of themselves as they should be, and shifted; labels; the truth."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-1.0, 1.5, n)
    truth = sigmoid(z)
    return sigmoid(2.0 * z + 1.0), (rng.random(n) < truth).astype(float), truth


def test_platt_finds_the_planted_line() -> None:
    score, label, _ = overconfident(200_000)
    found = fit_platt(score, label)
    assert found.slope == pytest.approx(0.5, abs=0.01)
    assert found.intercept == pytest.approx(-0.5, abs=0.02)
    assert not found.logits


def test_platt_is_the_minimum_of_its_loss() -> None:
    """No neighbour of the fitted line has a smaller loss with Platt's targets."""
    score, label, _ = overconfident(500)
    found = fit_platt(score, label)
    z = np.log(score) - np.log1p(-score)
    high, low = (label.sum() + 1) / (label.sum() + 2), 1 / ((1 - label).sum() + 2)
    target = np.where(label > 0, high, low)

    def loss(slope: float, intercept: float) -> float:
        p = sigmoid(slope * z + intercept)
        return float(-(target * np.log(p) + (1 - target) * np.log1p(-p)).mean())

    best = loss(found.slope, found.intercept)
    for step in (1e-3, 1e-4):
        for a, b in ((step, 0), (-step, 0), (0, step), (0, -step), (step, step), (-step, -step)):
            assert loss(found.slope + a, found.intercept + b) > best


def test_platt_of_logits_and_of_hopeless_scores() -> None:
    score, label, truth = overconfident(50_000)
    logits = np.log(score) - np.log1p(-score)
    found = fit_platt(logits, label)
    assert found.logits
    np.testing.assert_allclose(found(tf.constant(logits)), truth, atol=0.02)
    constant = fit_platt(np.full(100, 0.9), np.r_[np.ones(25), np.zeros(75)])
    assert float(constant(tf.constant(0.9))) == pytest.approx(0.25, abs=0.01)
    one_class = fit_platt(np.linspace(0.1, 0.9, 98), np.zeros(98))
    assert 0 < float(one_class(tf.constant(0.5))) < 0.02
    parted = fit_platt(np.linspace(0, 1, 10), np.repeat([0.0, 1.0], 5))
    assert np.isfinite([parted.slope, parted.intercept]).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(2, 12), coarse=st.booleans())
def test_isotonic_is_the_best_rising_curve(seed: int, n: int, coarse: bool) -> None:
    """Min-max formula of isotonic regression (Robertson et al. 1988), by all intervals."""
    rng = np.random.default_rng(seed)
    score = rng.random(n).astype(np.float32).astype(float)
    score = np.round(score, 1).astype(np.float32).astype(float) if coarse else score
    label = (rng.random(n) < 0.5).astype(float)
    levels = np.unique(score)

    def mean(low: float, high: float) -> float:
        return float(label[(score >= low) & (score <= high)].mean())

    expected = [
        max(min(mean(a, b) for b in levels if b >= x) for a in levels if a <= x) for x in levels
    ]
    found = fit_isotonic(score, label)
    np.testing.assert_allclose(found(tf.constant(levels, tf.float32)), expected, atol=1e-6)


def test_isotonic_is_straight_between_its_knots_and_level_outside() -> None:
    curve = Isotonic((0.2, 0.4, 0.8), (0.1, 0.3, 0.5))
    asked = np.array([[-5.0, 0.2, 0.3], [0.6, 0.8, np.inf]], np.float32)
    np.testing.assert_allclose(curve(asked), [[0.1, 0.1, 0.2], [0.4, 0.5, 0.5]], rtol=1e-6)
    assert np.isnan(curve(np.float32(np.nan)))
    np.testing.assert_array_equal(Isotonic((0.5,), (0.2,))(np.ones(2)), np.full(2, 0.2, np.float32))


def test_isotonic_of_many_rows_keeps_few_knots_and_finds_the_curve() -> None:
    rng = np.random.default_rng(1)
    score = rng.random(100_000)
    label = (rng.random(100_000) < score**3).astype(float)
    found = fit_isotonic(score, label)
    assert len(found.score) <= 200
    assert (np.diff(found.score) > 0).all()
    assert (np.diff(found.probability) >= 0).all()
    grid = np.linspace(0.02, 0.98, 97)
    np.testing.assert_allclose(found(tf.constant(grid)), grid**3, atol=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_the_error_falls_on_rows_held_out(method: Method) -> None:
    score, label, _ = overconfident(20_000)
    before, after = error_before_after(method, score, label)
    assert before > 0.05
    assert after < 0.015


def test_held_out_rows_are_not_seen_by_their_calibration() -> None:
    """Labels of pure chance: on its own rows isotonic looks right, held out it cannot."""
    rng = np.random.default_rng(0)
    score, label = rng.random(400), (rng.random(400) < 0.5).astype(float)
    own = fit("isotonic", score, label)(tf.constant(score)).numpy().astype(float)
    held = cross_fitted("isotonic", score, label)
    assert np.square(label - own).mean() < 0.25 < np.square(label - held).mean()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 60), bins=st.integers(1, 20))
def test_calibration_error_is_that_of_its_definition(seed: int, n: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    p, label = rng.permutation(np.linspace(0, 1, n)), (rng.random(n) < 0.3).astype(float)
    width = 0.0
    for b in range(bins):
        inside = (p >= b / bins) & ((p < (b + 1) / bins) | (b == bins - 1))
        width += abs((label - p)[inside].mean()) * inside.mean() if inside.any() else 0.0
    assert expected_calibration_error(p, label, bins, equal_mass=False) == pytest.approx(width)
    mass = 0.0
    order = np.argsort(p)
    for b in range(bins):
        rows = [order[i] for i in range(n) if i * bins // n == b]
        mass += abs((label - p)[rows].mean()) * len(rows) / n if rows else 0.0
    assert expected_calibration_error(p, label, bins) == pytest.approx(mass)


def test_sampled_negatives_are_undone() -> None:
    """A thousand rows of which 10 are positive; one negative in 99 is kept: 10 against 10."""
    assert float(undo_sampling(tf.constant(0.5), 10 / 990)) == pytest.approx(0.01, rel=1e-5)
    np.testing.assert_allclose(undo_sampling(tf.constant([0.0, 0.3, 1.0]), 1.0), [0, 0.3, 1.0])


@pytest.mark.parametrize("method", METHODS)
def test_json_and_a_saved_model_keep_it(method: Method, tmp_path: Path) -> None:
    score, label, _ = overconfident(3000)
    fitted = fit(method, score, label)
    again = from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    asked = tf.constant(score[:60].reshape(6, 10), tf.float32)
    module = tf.Module()
    module.calibrated = tf.function(
        fitted, input_signature=[tf.TensorSpec([None, None], tf.float32)], autograph=False
    )
    tf.saved_model.save(module, str(tmp_path))
    served: Any = tf.saved_model.load(str(tmp_path))
    np.testing.assert_array_equal(served.calibrated(asked), fitted(asked))
    assert served.calibrated(asked).shape == (6, 10)


def test_errors_say_the_rule_and_what_came() -> None:
    good = np.array([0.1, 0.9])
    with pytest.raises(ValueError, match=r"two rows at least; got \(2,\) and \(3,\)"):
        fit("platt", good, np.zeros(3))
    with pytest.raises(ValueError, match="finite; got 1 that are not"):
        fit("isotonic", np.array([0.1, np.nan]), good.round())
    with pytest.raises(ValueError, match=r"labels are 0 or 1; got \[3\. 4\.\]"):
        fit("platt", good, np.array([4.0, 3.0]))
    with pytest.raises(ValueError, match="'platt' or 'isotonic'; got 'beta'"):
        fit("beta", good, good.round())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 'beta'"):
        from_dict({"method": "beta"})
    with pytest.raises(ValueError, match=r"in 0\.\.1; got -1\.0 to 0\.5"):
        expected_calibration_error(np.array([-1.0, 0.5]), good)
    with pytest.raises(ValueError, match="bins is at least 1"):
        expected_calibration_error(good, good.round(), 0)
    with pytest.raises(ValueError, match="folds are from 2"):
        cross_fitted("platt", good, good.round(), folds=3)


def test_platt_is_a_rising_curve_of_probabilities() -> None:
    assert Platt(1.0, 0.0)(tf.constant([0.25])).numpy() == pytest.approx(0.25)
    edge = Platt(1.0, 0.0)(tf.constant([0.0, 1.0])).numpy()
    assert 0 <= edge[0] < 1e-6 < 1 - 1e-6 < edge[1] <= 1
