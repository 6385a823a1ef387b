"""Chances of all heads: sampling undone in closed form, chains kept, files read back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfrec.rerank.calibration_heads import HeadCalibrations, Sampling, heads_from_dict
from tfrec.rerank.calibration_probability import Isotonic, Platt, Scale, undo_sampling

KINDS = {"click": "binary", "purchase": "binary", "revenue": "spend", "rating": "rating"}
GIVEN = {"click": None, "purchase": "click", "revenue": "purchase", "rating": None}


def population(kept: float) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Means of cells of pairs: among all pairs, and among the rows that sampling leaves.

    A cell has so many observed pairs (all clicked), so many of them bought, for so much, and so
    many unobserved pairs, of which the share ``kept`` are rows.
    """
    observed = np.array([1.0, 5.0, 40.0, 300.0])
    bought = np.array([1.0, 1.0, 10.0, 20.0])
    spent = np.array([9.0, 0.5, 100.0, 900.0])
    unobserved = np.array([9999.0, 795.0, 60.0, 0.0])
    everything = {"click": observed, "purchase": bought, "revenue": spent}
    rows = observed + kept * unobserved
    stars = {"rating": np.array([4.0, 3.0, 2.0, 5.0])}
    true = {n: v / (observed + unobserved) for n, v in everything.items()}
    sampled = {n: v / rows for n, v in everything.items()}
    return true | stars, sampled | stars


@pytest.mark.parametrize("kept", [0.001, 0.2, 1.0, 3.0])
def test_sampling_is_undone_for_every_head(kept: float) -> None:
    true, sampled = population(kept)
    scores = {n: tf.constant(v, tf.float32) for n, v in sampled.items()}
    sampling = Sampling(kept, "click")
    found = HeadCalibrations().means(scores, KINDS, GIVEN, sampling)
    for name, want in true.items():
        np.testing.assert_allclose(found[name], want, rtol=1e-5, err_msg=name)
    # Of the head that all observed pairs have it is the well-known formula.
    np.testing.assert_allclose(found["click"], undo_sampling(scores["click"], kept), rtol=1e-5)
    untouched = HeadCalibrations().means(scores, KINDS, GIVEN)
    for name, value in scores.items():
        np.testing.assert_array_equal(untouched[name], value)


def test_a_head_that_some_observed_pairs_lack_stands_for_them() -> None:
    """Half of the observed pairs were clicked, in every cell alike: still exact."""
    true, sampled = population(0.1)
    scores = {"click": tf.constant(sampled["click"] / 2, tf.float32)}
    kinds: dict[str, str] = {"click": "binary"}
    found = HeadCalibrations().means(scores, kinds, {}, Sampling(0.1, "click", share=0.5))
    np.testing.assert_allclose(found["click"], true["click"] / 2, rtol=1e-5)


def test_each_head_has_its_own_calibration_and_none_beats_its_condition() -> None:
    heads = HeadCalibrations(
        {"click": Platt(1.0, 0.0), "purchase": Platt(1.0, 2.0), "revenue": Scale(0.5)}
    )
    scores = {
        "click": tf.constant([0.2, 0.8]),
        "purchase": tf.constant([0.1, 0.1]),
        "revenue": tf.constant([3.0, 8.0]),
        "rating": tf.constant([4.0, 1.0]),
    }
    found = heads.means(scores, KINDS, GIVEN)
    lifted = 1 / (1 + np.exp(-(np.log(1 / 9) + 2)))  # .451, more than the first one's click
    np.testing.assert_allclose(found["click"], [0.2, 0.8], rtol=1e-5)
    np.testing.assert_allclose(found["purchase"], [0.2, lifted], rtol=1e-5)
    np.testing.assert_allclose(found["revenue"], [1.5, 4.0], rtol=1e-6)
    np.testing.assert_array_equal(found["rating"], [4.0, 1.0])


def test_what_is_written_is_read() -> None:
    heads = HeadCalibrations(
        {"click": Platt(0.5, -0.5), "purchase": Isotonic((0.1, 0.9), (0.0, 0.7)), "m": Scale(2.0)},
        Sampling(0.01, "click", 0.9),
    )
    assert heads_from_dict(json.loads(json.dumps(heads.to_dict()))) == heads
    nothing = HeadCalibrations()
    assert heads_from_dict(json.loads(json.dumps(nothing.to_dict()))) == nothing
    # Rankers of one task were exported with their one calibration.
    old: Any = Platt(0.5, -0.5).to_dict()
    assert heads_from_dict(old) == HeadCalibrations({"score": Platt(0.5, -0.5)})


@pytest.mark.parametrize("wrong", [{"kept": 0.0}, {"kept": 0.5, "share": 1.5}])
def test_a_rate_is_a_share(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"kept is above 0 and share in 0\.\.1"):
        Sampling(**wrong)  # type: ignore[arg-type]
