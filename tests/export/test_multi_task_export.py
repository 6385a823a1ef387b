"""The multi-task SavedModel: one output an objective; draws of the last layer by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tests.tables import FEATURES, small_tables
from tfrec.config import RankingConfig, TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.export.ranking import export_ranking
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.models.last_layer import LastLayer, fit_last_layer, information
from tfrec.rerank.random import normal
from tfrec.training.ranking import fit_ranking
from tfrec.training.ranking_rows import RankingRows

RANKING = RankingConfig.model_validate(
    {
        "model": "multi_task",
        "negatives": 2,
        "history_length": 3,
        "primary": "purchase",
        "last_layer_prior": 1.0,
        "objectives": {
            "click": {"events": ["click", "purchase"]},
            "purchase": {"events": ["purchase"], "given": "click"},
            "revenue": {"events": ["purchase"], "column": "price", "given": "purchase"},
        },
        "params": {"hidden": [8], "experts": 2, "towers": [6]},
        "train": TrainConfig(epochs=2, batch_size=64, learning_rate=0.05),
    }
)
NAMES = ("click", "purchase", "revenue")
Trained = tuple[Any, RetrievalData, Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    splits, users, items = small_tables()
    for name, table in splits.items():
        kinds = ["click", "purchase"] * (table.num_rows // 2 + 1)
        splits[name] = table.append_column("event", pa.array(kinds[: table.num_rows]))
    encoder = fit_encoder(
        splits["train"], users, items, FEATURES, tmp_path_factory.mktemp("vocabularies"), 3
    )
    data = retrieval_data(splits, users, items, encoder, RANKING.objectives, RANKING.window)
    model = fit_ranking(RANKING, data).model
    folder = tmp_path_factory.mktemp("export") / "1"
    export_ranking(model, data, encoder, folder)
    return model, data, tf.saved_model.load(str(folder))


def requests(n: int = 4) -> dict[str, tf.Tensor]:
    return {
        "user_id": tf.constant([f"u{i % 2}" for i in range(n)]),
        "item_id": tf.constant([f"i{i}" for i in range(n)]),
        "history": tf.constant([["i1", "i2"]] * n),
        "age": tf.constant(["a1"] * n),
        "device": tf.constant(["phone"] * n),
    }


def test_every_objective_is_an_output(trained: Trained) -> None:
    model, data, loaded = trained
    rank = loaded.signatures["rank"]
    assert set(rank.structured_outputs) == {"score", *NAMES}
    assert set(loaded.signatures["serving_default"].structured_outputs) == {"score", *NAMES}
    got = {k: v.numpy() for k, v in rank(**requests()).items()}
    np.testing.assert_array_equal(got["score"], got["purchase"])
    assert (got["purchase"] <= got["click"]).all()
    assert (got["revenue"] > 0).all()
    index = {item: at for at, item in enumerate(data.item_ids)}
    user = {u: at for at, u in enumerate(data.user_ids)}
    items = np.array([index[f"i{i}"] for i in range(4)])
    users = np.array([user[f"u{i % 2}"] for i in range(4)])
    inputs = {name: tf.constant(values[items]) for name, values in data.items.items()}
    vocabulary = {"phone": 0, "desk": 0}
    rows = RankingRows(data, "train", RANKING)
    device = rows.events.context["device"]
    assert set(np.unique(device)) == {1, 2}
    inputs |= {
        "user_id": tf.constant(users, tf.int64),
        "item_id": tf.constant(items, tf.int64),
        "history": tf.constant([[index["i1"], index["i2"], 0]] * 4, tf.int64),
    }
    for phone in (1, 2):  # whichever index the vocabulary gave it
        age = data.users["age"]
        same = {**inputs, "device": tf.fill([4], tf.constant(phone, tf.int64))}
        answers = []
        for a in np.unique(age[age > 0]):
            same["age"] = tf.fill([4], tf.constant(a, tf.int64))
            answers.append(model.objective_scores(same)["revenue"].numpy())
        vocabulary["phone"] += any(np.allclose(x, got["revenue"], rtol=1e-4) for x in answers)
    assert vocabulary["phone"] >= 1


def test_draws_follow_the_seed_and_the_posterior(trained: Trained) -> None:
    model, _, loaded = trained
    sample, asked = loaded.signatures["rank_sample"], requests()

    def draw(seed: list[int], n: int) -> np.ndarray:
        got = sample(**asked, seed=tf.constant(seed, tf.int64), draws=tf.constant(n))
        return got["score"].numpy()

    once, again = draw([5, 5, 5, 6], 3), draw([5, 5, 5, 6], 3)
    assert once.shape == (4, 3)
    np.testing.assert_array_equal(once, again)
    one_row = {k: v[:1] for k, v in asked.items()}
    alone = sample(**one_row, seed=tf.constant([5], tf.int64), draws=tf.constant(3))["score"]
    np.testing.assert_allclose(alone[0], once[0], rtol=1e-5)
    assert (draw([7, 5, 5, 6], 3)[0] != once[0]).all()
    many = draw([1, 1, 1, 1], 4000)
    score = loaded.signatures["rank"](**asked)
    logit = np.log(many) - np.log(score["click"].numpy()[:, None] - many)
    mean = score["score"].numpy() / score["click"].numpy()
    np.testing.assert_allclose(logit.mean(1), np.log(mean / (1 - mean)), atol=0.1)
    # Candidates of one seed share their weights: what is alike moves alike.
    twice = {k: tf.repeat(v[:1], 2, axis=0) for k, v in asked.items()}
    for seeds, alike in (([5, 5], True), ([5, 6], False)):
        got = sample(**twice, seed=tf.constant(seeds, tf.int64), draws=tf.constant(3))["score"]
        assert (np.abs(got[0].numpy() - got[1].numpy()) < 1e-6).all() == alike
    assert isinstance(model.posterior, LastLayer)


def test_posterior_is_bayesian_linear_regression() -> None:
    """Against the textbook formula, for a model that is its own last layer."""
    rng = np.random.default_rng(0)
    h = rng.normal(size=(500, 3)).astype(np.float32)
    y = (h @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=500)).astype(np.float32)

    class Linear:
        task = "rating"

        def last_layer_inputs(self, inputs: dict[str, tf.Tensor]) -> Any:
            logit = tf.linalg.matvec(inputs["h"], tf.constant([1.0, -2.0, 0.5]))
            return logit, inputs["h"], tf.ones_like(logit)

    batches = tf.data.Dataset.from_tensor_slices(({"h": h}, y)).batch(64)
    posterior = fit_last_layer(Linear(), batches, prior=2.0)
    x = np.concatenate([h, np.ones((500, 1))], 1)
    noise = np.mean((y - h @ np.array([1.0, -2.0, 0.5])) ** 2)
    covariance = np.linalg.inv(x.T @ x / noise + 2.0 * np.eye(4))
    factor = posterior.factor.numpy()
    np.testing.assert_allclose(factor @ factor.T, covariance, rtol=1e-3, atol=1e-7)
    want = np.sqrt(np.einsum("ni,ij,nj->n", x, covariance, x))
    np.testing.assert_allclose(posterior.deviation(tf.constant(h)), want, rtol=1e-3)
    ones = tf.ones([500])
    seed = tf.fill([500], tf.constant(3, tf.int64))
    drawn = posterior.draws(tf.zeros([500]), tf.constant(h), ones, seed, tf.constant(2)).numpy()
    z = normal(seed[:1], 8).numpy().reshape(2, 4)
    np.testing.assert_allclose(drawn, x @ factor @ z.T, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="above 0"):
        fit_last_layer(Linear(), batches, prior=0.0)


def test_information_is_the_curvature() -> None:
    """Fisher information by numerical differentiation of log p and log(1 - p)."""
    for logit, given in ((0.3, 1.0), (-1.2, 0.4), (2.0, 0.9)):
        p = lambda x, g=given: g / (1 + np.exp(-x))  # noqa: E731
        slope = (p(logit + 1e-5) - p(logit - 1e-5)) / 2e-5
        want = slope**2 / (p(logit) * (1 - p(logit)))
        assert information(np.array(logit), np.array(given)) == pytest.approx(want, rel=1e-5)


def test_the_linear_model_alone_has_no_posterior(trained: Trained) -> None:
    _, data, _ = trained
    wide = RANKING.model_copy(update={"model": "wide", "objectives": {}, "params": {}})
    with pytest.raises(TypeError, match="no hidden layer"):
        fit_ranking(wide.model_copy(update={"primary": None}), data)


def test_wide_deep_samples_too(trained: Trained, tmp_path: Path) -> None:
    _, data, _ = trained
    plain = RANKING.model_copy(
        update={"model": "wide_deep", "objectives": {}, "primary": None, "params": {"hidden": [8]}}
    )
    model = fit_ranking(plain, data).model
    rows = RankingRows(data, "test", plain)
    inputs, _ = next(iter(rows.dataset(32, 0, shuffle=False)))
    logit, hidden, given = model.last_layer_inputs(inputs)
    np.testing.assert_allclose(tf.sigmoid(logit), model(inputs), atol=1e-6)
    last = model.deep.hidden[-1]
    wide = model.logits(inputs)[0] - (last(hidden)[:, 0] + model.bias)
    np.testing.assert_allclose(wide, model.wide(inputs), atol=1e-5)
    assert (given.numpy() == 1).all()
