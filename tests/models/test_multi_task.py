"""The multi-task ranker: planted objectives, masked labels, MMoE against a loop, losses by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.builders import retrieval_data
from tfrec.config import ConfigError, RankingConfig, TrainConfig, parse_config
from tfrec.config.objectives import Objective
from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.models.heads import log_not, lognormal_loss
from tfrec.models.multi_task import MultiTask
from tfrec.models.multi_task_net import MultiTaskNetwork
from tfrec.training.ranking import build_ranker, evaluate_ranking, fit_ranking
from tfrec.training.ranking_rows import RankingRows

OBJECTIVES = {
    "click": Objective(),
    "purchase": Objective(given="click"),
    "rating": Objective(),
    "revenue": Objective(given="purchase"),
}
USERS, ITEMS = 30, 20


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(x, float)))


def planted(user: np.ndarray, item: np.ndarray) -> dict[str, np.ndarray]:
    """True click, purchase, mean rating and expected spend of pairs."""
    click = sigmoid(np.where((user + item) % 2 == 0, 1.2, -1.2))
    purchase = click * sigmoid(np.where(item % 3 == 0, 1.0, -1.0))
    price = 2.0 + item
    return {
        "click": click,
        "purchase": purchase,
        "rating": 1.0 + item % 5,
        "revenue": purchase * price * np.exp(0.3**2 / 2),
    }


def events(n: int, seed: int) -> Interactions:
    """Shown items with labels of all objectives."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(1, USERS + 1, n), rng.integers(1, ITEMS + 1, n)
    truth = planted(user, item)
    click = rng.random(n) < truth["click"]
    purchase = click & (rng.random(n) < truth["purchase"] / truth["click"])
    spent = np.where(purchase, (2.0 + item) * np.exp(0.3 * rng.normal(size=n)), 0)
    rated = purchase & (rng.random(n) < 0.8)
    labels = {
        "click": click.astype(float),
        "purchase": purchase.astype(float),
        "rating": np.where(rated, truth["rating"] + 0.1 * rng.normal(size=n), np.nan),
        "revenue": spent,
    }
    return Interactions.from_arrays(user, item, USERS, ITEMS, labels=labels)


def shop(n: int = 12_000) -> RetrievalData:
    pairs = [(1, 1), (USERS, ITEMS)]
    data = retrieval_data(pairs, n_users=USERS, n_items=ITEMS)
    return replace(data, train=events(n, 0), validation=events(2000, 1), test=events(6000, 2))


def section(epochs: int = 6, **changes: Any) -> RankingConfig:
    params = {
        "hidden": [32],
        "towers": [16],
        "embedding_dim": 8,
        "l1": 0.01,
    }
    values: dict[str, Any] = {
        "model": "multi_task",
        "label": "rating",
        "history_length": 0,
        "objectives": OBJECTIVES,
        "params": {**params, **changes.pop("params", {})},
        "train": TrainConfig(epochs=epochs, batch_size=256, learning_rate=0.05, patience=0),
    }
    return RankingConfig(**{**values, **changes})


@pytest.mark.parametrize(
    "params", [{}, {"experts": 3}, {"experts": 2, "gates": "shared", "loss_weights": "uncertainty"}]
)
def test_all_objectives_are_learned(params: dict[str, Any]) -> None:
    data = shop()
    model = fit_ranking(section(params=params), data).model
    rows = data.test
    inputs = {"user_id": rows.user.astype(np.int64), "item_id": rows.item.astype(np.int64)}
    got = {k: v.numpy() for k, v in model.objective_scores(inputs).items()}
    truth = planted(rows.user, rows.item)
    for name in ("click", "purchase"):
        assert np.abs(got[name] - truth[name]).mean() < 0.06, name
    assert (got["purchase"] <= got["click"]).all()
    assert np.corrcoef(got["rating"], truth["rating"])[0, 1] > 0.95
    assert np.corrcoef(got["revenue"], truth["revenue"])[0, 1] > 0.9
    assert got["revenue"].mean() == pytest.approx(truth["revenue"].mean(), rel=0.15)
    figures = evaluate_ranking(model, data, "test")
    assert figures["auc"] == figures["click/auc"] > 0.7
    assert figures["purchase/calibration"] == pytest.approx(1, abs=0.2)
    assert figures["rating/rows"] == np.isfinite(rows.labels["rating"]).sum()
    np.testing.assert_allclose(model(inputs).numpy(), got["click"], atol=1e-6)


def test_a_missing_label_trains_without_its_head() -> None:
    data = shop(800)
    none = np.full(len(data.train), np.nan, np.float32)
    lacking = replace(data.train, labels={**data.train.labels, "rating": none})
    data = replace(data, train=lacking)
    ranking = section(epochs=1)
    before = build_ranker(ranking, data)
    rows = RankingRows(data, "train", ranking)
    before.set_priors(rows.labels, rows.rows_an_event)
    tower = before.deep.towers[2][-1].kernel.numpy()
    result = fit_ranking(ranking, data)
    np.testing.assert_array_equal(result.model.deep.towers[2][-1].kernel.numpy(), tower)
    assert np.abs(result.model.deep.towers[0][-1].kernel.numpy()).max() > 0
    figures = evaluate_ranking(result.model, data, "train")
    assert figures["rating/rows"] == 0
    assert "rating/rmse" not in figures
    assert all(np.isfinite(w).all() for w in result.model.get_weights())


def test_the_gradient_ignores_rows_without_a_label() -> None:
    data = shop(400)
    model = build_ranker(section(), data)
    inputs = {"user_id": tf.constant([1, 2], tf.int64), "item_id": tf.constant([3, 4], tf.int64)}
    labels = tf.constant([[1.0, 1.0, np.nan, 5.0], [0.0, 0.0, np.nan, np.nan]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.losses_of(model.logits(inputs)[0], labels))
    gradients = tape.gradient(loss, [model.bias, model.deep.towers[2][-1].kernel])
    assert np.isfinite(loss.numpy())
    bias = gradients[0].numpy()
    assert np.isfinite(bias).all()
    assert bias[2] == 0  # the rating's
    assert (np.abs(bias[[0, 1, 3]]) > 0).all()
    assert (gradients[1].numpy() == 0).all()


def test_losses_by_hand() -> None:
    data = shop(50)
    model = build_ranker(section(), data)
    logits = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    labels = np.array([[1, 1, 4, 7.5], [1, 0, np.nan, 0], [0, 0, np.nan, 0]], np.float32)
    got = model.objective_losses(tf.constant(logits), tf.constant(labels)).numpy()
    click, both = sigmoid(logits[:, 0]), sigmoid(logits[:, 0]) * sigmoid(logits[:, 1])
    np.testing.assert_allclose(got[:, 0], -np.log(np.where(labels[:, 0], click, 1 - click)), 1e-5)
    np.testing.assert_allclose(got[:, 1], -np.log(np.where(labels[:, 1], both, 1 - both)), 1e-5)
    np.testing.assert_allclose(got[:, 2], [(logits[0, 2] - 4) ** 2, 0, 0], 1e-5)
    sigma = np.log1p(np.exp(logits[0, 4]))
    want = (np.log(7.5) - logits[0, 3]) ** 2 / (2 * sigma**2) + np.log(sigma)
    np.testing.assert_allclose(got[:, 3], [want, 0, 0], rtol=1e-5)
    spend = model.predictions(tf.constant(logits))["revenue"].numpy()
    sigmas = np.log1p(np.exp(logits[:, 4]))
    np.testing.assert_allclose(spend, both * np.exp(logits[:, 3] + sigmas**2 / 2), rtol=1e-5)


def test_log_not_is_exact_at_both_ends() -> None:
    log_p = np.array([-1e-5, -0.1, -0.69, -0.7, -5.0, -60.0])
    got = log_not(tf.constant(log_p, tf.float32)).numpy()
    np.testing.assert_allclose(got, np.log1p(-np.exp(log_p)), rtol=2e-3)
    at = tf.constant([0.0, -1e-9, -100.0])
    with tf.GradientTape() as tape:
        tape.watch(at)
        total = tf.reduce_sum(log_not(at) + lognormal_loss(at, at, tf.constant([0.0, 1, 2])))
    assert np.isfinite(total.numpy())
    assert np.isfinite(tape.gradient(total, at).numpy()).all()


def test_fixed_and_uncertain_weights() -> None:
    data = shop(50)
    weights = {"click": 1.0, "purchase": 0.0, "rating": 2.0, "revenue": 0.5}
    objectives = {
        n: o.model_copy(update={"loss_weight": weights[n]}) for n, o in OBJECTIVES.items()
    }
    logits = tf.constant(np.random.default_rng(1).normal(size=(4, 5)), tf.float32)
    labels = tf.constant([[1, 1, 4, 7], [1, 0, np.nan, 0], [0, 0, np.nan, 0], [np.nan] * 4])
    fixed = build_ranker(section(objectives=objectives), data)
    each = fixed.objective_losses(logits, labels).numpy()
    want = each @ np.array(list(weights.values()))
    np.testing.assert_allclose(fixed.losses_of(logits, labels), want, rtol=1e-5)
    kendall = build_ranker(section(params={"loss_weights": "uncertainty"}), data)
    s = np.array([0.3, -0.2, 1.0, 0.5], np.float32)
    kendall.log_variance.assign(s)
    known = np.isfinite(labels.numpy())
    want = (each * np.exp(-s) * [1, 1, 0.5, 1] + known * s / 2).sum(1)
    np.testing.assert_allclose(kendall.losses_of(logits, labels), want, rtol=1e-5)
    assert want[3] == 0


@pytest.mark.parametrize(("experts", "gates"), [(0, "task"), (3, "task"), (3, "shared")])
def test_mixture_equals_a_loop(experts: int, gates: str) -> None:
    data = shop(50)
    net = MultiTaskNetwork(
        {
            "features": tuple(data.features),
            "sizes": data.sizes,
            "history_length": 0,
            "history_pooling": "mean",
            "dots": False,
            "embedding_dim": 3,
            "embedding_stddev": 0.1,
        },
        outputs=[1, 2],
        hidden=[5, 4],
        experts=experts,
        gates=gates,  # type: ignore[arg-type]
        towers=[],
        dropout=0.0,
        seed=1,
    )
    x = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    got = net.mixtures(tf.constant(x))
    outputs = []
    for e in range(max(experts, 1)):
        h = x
        for layer in net.bottom:
            h = np.maximum(h @ layer.kernel.numpy()[e] + layer.offset.numpy()[e], 0)
        outputs.append(h)
    for head in range(2):
        want = outputs[0]
        if experts:
            gate = net.gates[0 if gates == "shared" else head]
            raw = x @ gate.kernel.numpy() + gate.bias.numpy()
            share = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
            want = sum(share[:, [e]] * outputs[e] for e in range(experts))
        np.testing.assert_allclose(got[head].numpy(), want, atol=1e-5)
    assert len(net.gates) == {(0, "task"): 0, (3, "task"): 2, (3, "shared"): 1}[experts, gates]


def test_priors_give_the_means() -> None:
    data = shop(3000)
    ranking = section(params={"embedding_stddev": 0.0})
    model = build_ranker(ranking, data)
    rows = RankingRows(data, "train", ranking)
    model.set_priors(rows.labels, rows.rows_an_event)
    inputs = {"user_id": tf.constant([1], tf.int64), "item_id": tf.constant([1], tf.int64)}
    got = {k: float(v[0]) for k, v in model.objective_scores(inputs).items()}
    means = dict(zip(OBJECTIVES, np.nanmean(rows.labels, axis=0), strict=True))
    for name in ("click", "purchase", "rating"):
        assert got[name] == pytest.approx(means[name], rel=1e-3), name
    assert got["revenue"] == pytest.approx(means["revenue"], rel=0.1)  # a log-normal has its mean


def test_sampled_items_have_no_rating_and_no_click() -> None:
    data = shop(300)
    ranking = section(label="purchase", negatives=2)
    rows = RankingRows(data, "train", ranking)
    _, label = rows.batch(tf.constant([0, 5], tf.int64), tf.constant([1, 2]))
    label = label.numpy()
    assert label.shape == (6, 4)
    np.testing.assert_array_equal(label[[0, 3]], rows.labels[[0, 5]])
    np.testing.assert_array_equal(label[[1, 2, 4, 5]], np.tile([0, 0, np.nan, 0], (4, 1)))


def test_what_is_wrong_is_said() -> None:
    data = shop(50)
    with pytest.raises(ValueError, match="there are none; write"):
        MultiTask(data)
    with pytest.raises(ValueError, match="for model multi_task; got 'wide_deep'"):
        build_ranker(section(model="wide_deep"), data)
    with pytest.raises(ValueError, match="at least 2; got 1"):
        MultiTask(data, objectives=OBJECTIVES, experts=1)
    bare = replace(data, train=replace(data.train, labels={}))
    with pytest.raises(ValueError, match=r"lacks \['click'"):
        RankingRows(bare, "train", section())


@pytest.mark.parametrize(
    ("objectives", "more", "message"),
    [
        ({"sale": {}}, {}, "needs 'kind'"),
        ({"click": {"given": "purchase"}, "purchase": {"given": "click"}}, {}, "in a circle"),
        ({"click": {"given": "rating"}, "rating": {}}, {}, "one of the binary objectives"),
        ({"revenue": {}}, {}, "which task 'binary' is not"),
        ({"click": {}}, {"primary": "purchase"}, "got 'purchase'"),
        ({"score": {"kind": "binary"}}, {}, "that is not 'score'"),
        ({}, {"primary": "click"}, "there are no 'objectives'"),
        ({"click": {}, "rating": {"given": "click"}}, {}, "leave 'given' out"),
    ],
)
def test_configurations_are_checked(
    objectives: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    values = {
        "name": "x",
        "data": {"format": "synthetic"},
        "ranking": {"model": "multi_task", "objectives": objectives, **more},
    }
    with pytest.raises(ConfigError, match=message):
        parse_config(values)
