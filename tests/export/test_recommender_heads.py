"""Calibrated heads of a multi-task ranker inside the recommender, against NumPy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.export.objective_parts import WEIGHTS, Shop, ask, config, events, write_shop
from tests.tables import small_tables
from tfrec.config import ConfigError
from tfrec.export.calibrate import CALIBRATION_FILE, calibrate_trained, calibrations_of
from tfrec.rerank.calibration_fit import fit_platt
from tfrec.training.ranking import EVALUATION_BATCH, EVALUATION_SEED, predict_rows, scorer
from tfrec.training.ranking_rows import RankingRows


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return write_shop(tmp_path_factory.mktemp("shop"))


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


def test_a_given_rate_goes_before_that_of_training(tmp_path: Path) -> None:
    """Of one task: p / (p + (1 - p) / kept) of the calibrated score."""
    single = {"model": "wide_deep", "objectives": {}, "primary": None, "params": {"hidden": [8]}}
    weights = {"relevance": 0.0, "purchase": 1.0}

    def settings(undo: object) -> object:
        return {"weights": weights, "calibration": "platt", "undo_sampling": undo}

    own = write_shop(tmp_path / "single", config(single, utility=settings("none")))
    answers = {}
    for undo in ("none", 0.02, "auto"):
        answers[undo] = ask(own.live(config(single, utility=settings(undo))), 1, 8)
    p = answers["none"]["part_purchase"].astype(np.float64)
    sampling = calibrations_of(own.folder / "ranking").sampling
    assert sampling is not None
    for undo, kept in ((0.02, 0.02), ("auto", sampling.kept)):
        np.testing.assert_array_equal(answers[undo]["item_id"], answers["none"]["item_id"])
        want = p / (p + (1 - p) / kept)
        np.testing.assert_allclose(answers[undo]["part_purchase"], want, rtol=1e-4)
    # An export of before says nothing of its sampling.
    shutil.copytree(own.folder, tmp_path / "before", symlinks=True)
    (tmp_path / "before" / "ranking" / CALIBRATION_FILE).unlink()
    before = Shop(tmp_path / "before", None, own.data)
    with pytest.raises(ValueError, match="how the ranker's negatives were sampled"):
        before.module(config(single, utility=settings("auto")))


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
