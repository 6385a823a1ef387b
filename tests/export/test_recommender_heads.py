"""Calibrated heads of a multi-task ranker inside the recommender, against NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.export.objective_parts import WEIGHTS, Shop, ask, config, events
from tests.tables import small_tables
from tfrec.config import ConfigError
from tfrec.export.calibrate import CALIBRATION_FILE, calibrate_trained, calibrations_of
from tfrec.export.recommender.heads import Heads
from tfrec.rerank.calibration_fit import fit_platt
from tfrec.rerank.calibration_heads import HeadCalibrations
from tfrec.training.ranking import (
    EVALUATION_BATCH,
    EVALUATION_SEED,
    build_ranker,
    predict_rows,
    scorer,
)
from tfrec.training.ranking_rows import RankingRows


def platt(score: np.ndarray, kept: dict[str, float]) -> np.ndarray:
    score = np.clip(score, 1e-7, 1 - 1e-7)
    z = kept["slope"] * (np.log(score) - np.log1p(-score)) + kept["intercept"]
    return 1 / (1 + np.exp(-z))


def test_every_head_is_calibrated_on_its_own_rows(shop: Shop) -> None:
    kept = json.loads((shop.folder / "ranking" / CALIBRATION_FILE).read_text())
    assert set(kept["calibrations"]) == {"click", "purchase", "revenue"}
    ranking = config().ranking
    rows = RankingRows(shop.data, "validation", ranking)
    batches = rows.dataset(EVALUATION_BATCH, EVALUATION_SEED, shuffle=False)
    labels, scores = predict_rows(scorer(shop.model, batches), batches)
    for at, name in enumerate(("click", "purchase")):
        want = fit_platt(scores[:, at], labels[:, at])
        assert kept["calibrations"][name]["slope"] == pytest.approx(want.slope, rel=1e-3)
    scaled = kept["calibrations"]["revenue"]["factor"] * scores[:, 3].sum()
    assert scaled == pytest.approx(labels[:, 3].sum(), rel=1e-4)


def test_the_sampling_rate_is_counted(shop: Shop) -> None:
    """Two negatives an event, out of the items that the event's user has not had by then."""
    had: dict[str, set[str]] = {}
    splits = events()
    for name in ("train", "eval"):
        for row in splits[name].to_pylist():
            had.setdefault(row["user_id"], set()).add(row["item_id"])
    users = splits["eval"].column("user_id").to_pylist()
    free = sum(20 - len(had[user]) for user in users)
    sampling = calibrations_of(shop.folder / "ranking").sampling
    assert sampling is not None
    assert sampling.kept == pytest.approx(2 * len(users) / free)
    assert (sampling.observed, sampling.share) == ("click", 1.0)


def test_without_calibration_the_rate_of_training_is_kept(shop: Shop, tmp_path: Path) -> None:
    report = calibrate_trained(shop.model, shop.data, config().ranking, "none", tmp_path)
    assert report is not None
    kept = RankingRows(shop.data, "train", config().ranking).negatives_kept
    assert (report.heads, report.kept) == ({}, kept)
    assert not calibrations_of(tmp_path).calibrations
    stars = config(
        ranking={"objectives": {}, "primary": None, "model": "wide_deep", "task": "rating"},
        utility={},
    ).ranking
    assert calibrate_trained(shop.model, shop.data, stars, "platt", tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_heads_become_the_parts_of_the_utility(shop: Shop) -> None:
    got = ask(shop.live(config()), 1, 8)
    items = got["item_id"][0]
    ranker = tf.saved_model.load(str(shop.folder / "ranking"))
    n = len(items)
    asked = {"user_id": ["u1"] * n, "age": [""] * n, "device": [""] * n, "history": [[""]] * n}
    told = {name: tf.constant(v) for name, v in asked.items()}
    rank = ranker.signatures["rank"](**told, item_id=tf.constant(items))
    score = {name: v.numpy().astype(np.float64) for name, v in rank.items()}
    file = json.loads((shop.folder / "ranking" / CALIBRATION_FILE).read_text())
    kept = file["calibrations"]
    click = platt(score["click"], kept["click"])
    purchase = np.minimum(platt(score["purchase"], kept["purchase"]), click)
    factor = 1 / (click + (1 - click) / file["sampling"]["kept"])
    want = {
        "click": click * factor,
        "purchase": purchase * factor,
        "revenue": kept["revenue"]["factor"] * score["revenue"] * factor,
        "rating": score["rating"],
    }
    for name, value in want.items():
        np.testing.assert_allclose(
            got[f"part_{name}"][0], WEIGHTS[name] * value, rtol=1e-3, err_msg=name
        )
    total = sum(WEIGHTS[name] * value for name, value in want.items())
    np.testing.assert_allclose(got["score"][0], total, rtol=1e-3)
    assert (np.diff(got["score"][0]) <= 1e-6).all()
    np.testing.assert_allclose(got["relevance"][0], score["purchase"], rtol=1e-4)


def test_other_names_and_columns_in_place_of_heads(shop: Shop) -> None:
    """A click counts as the purchase, and its price is the column's."""
    utility = {
        "weights": {"purchase": 1.0, "revenue": 1.0},
        "heads": {"purchase": "click", "revenue": None},
        "price": "price",
    }
    got = ask(shop.live(config(utility=utility)), 1, 8)
    price = {r["item_id"]: r["price"] or 0.0 for r in small_tables()[2].to_pylist()}
    prices = np.array([price[i.decode()] for i in got["item_id"][0]])
    np.testing.assert_allclose(got["part_revenue"][0], got["part_purchase"][0] * prices, rtol=1e-5)


def test_of_one_task_the_score_is_the_chance(shop: Shop, tmp_path: Path) -> None:
    """p / (p + (1 - p) / kept) of the calibrated score; a given rate goes before the counted."""
    single = {"model": "wide_deep", "objectives": {}, "primary": None, "params": {"hidden": [8]}}
    ranking = config(single, utility={}).ranking
    model = build_ranker(ranking, shop.data)
    report = calibrate_trained(model, shop.data, ranking, "platt", tmp_path)
    assert report is not None
    assert list(report.heads) == ["score"]
    known = calibrations_of(tmp_path)
    assert known.sampling is not None
    assert (known.sampling.observed, known.sampling.share) == ("score", 1.0)
    score = np.array([[0.05, 0.3, 0.9]])
    kept = json.loads((tmp_path / CALIBRATION_FILE).read_text())["calibrations"]["score"]
    p = platt(score, kept)
    for undo, rate in (("none", 1.0), (0.02, 0.02), ("auto", known.sampling.kept)):
        settings = config(single, utility={"weights": {"purchase": 1.0}, "undo_sampling": undo})
        parts = Heads(settings, ["score"], known).parts({"score": tf.constant(score, tf.float32)})
        np.testing.assert_allclose(parts["p_purchase"], p / (p + (1 - p) / rate), rtol=1e-4)
        np.testing.assert_allclose(parts["relevance"], score, rtol=1e-6)
    # An export of before says nothing of its sampling; a rate that is given will do.
    Heads(config(single, utility={"undo_sampling": 0.02}), ["score"], HeadCalibrations())
    with pytest.raises(ValueError, match="how the ranker's negatives were sampled"):
        Heads(config(single, utility={"undo_sampling": "auto"}), ["score"], HeadCalibrations())


def test_what_is_conditional_moves_with_a_drawn_score() -> None:
    """A drawn click moves purchases and revenue in proportion, a drawn purchase no click."""
    rows = {"click": [0.5], "purchase": [0.1], "revenue": [3.0], "rating": [4.0]}
    for primary, want in {
        "click": {"click": 0.25, "purchase": 0.05, "revenue": 1.5, "rating": 4.0},
        "purchase": {"click": 0.5, "purchase": 0.25, "revenue": 7.5, "rating": 4.0},
    }.items():
        heads = Heads(
            config({"primary": primary}, utility={}),
            [*rows, "score"],
            HeadCalibrations(),
        )
        scores = {n: tf.constant([v]) for n, v in {**rows, "score": rows[primary]}.items()}
        moved = heads.drawn(scores, tf.constant([[0.25]]))
        for name, value in {**want, "score": 0.25}.items():
            assert float(moved[name][0, 0]) == pytest.approx(value), (primary, name)


@pytest.mark.parametrize(
    ("utility", "message"),
    [
        ({"weights": {"profit": 1.0}}, r"weights\.profit needs 'margin'.*kind 'spend'"),
        (
            {"weights": {"rating": 1.0}, "heads": {"rating": None}},
            r"weights\.rating needs a ranker that predicts 'rating'",
        ),
        (
            {"weights": {"click": 1.0}, "heads": {"click": "revenue"}},
            r"heads\.click names 'revenue', which is none of the binary objectives",
        ),
        ({"undo_sampling": 1.5}, "undo_sampling"),
    ],
)
def test_goals_that_nothing_feeds_are_told_at_once(
    utility: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config(utility=utility, recommender={"enabled": True})


def test_a_ranker_of_other_objectives_is_refused(shop: Shop) -> None:
    objectives = {"click": {"events": ["click", "purchase"]}, "order": {"kind": "binary"}}
    other = config({"objectives": objectives, "primary": "click"}, utility={})
    with pytest.raises(ValueError, match=r"\['order'\] is not among its outputs"):
        shop.module(other)
