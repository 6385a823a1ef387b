"""Wide & deep: crosses and pooling against NumPy, planted truths, sparse updates."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.evaluation.pointwise import auc
from tfrec.models import registry
from tfrec.models.deep_part import attend, masked_mean
from tfrec.models.wide_deep import Deep, Wide, WideDeep
from tfrec.models.wide_part import MULTIPLIERS, PRIME, Column, WideLinear, cross_indices
from tfrec.schema import Feature, FeatureTable


@dataclass(frozen=True)
class Space:
    """Features and sizes: all that a ranker needs of its data."""

    features: FeatureTable
    sizes: dict[str, int] = field(default_factory=dict)


def _categories(**sizes: int) -> Space:
    """Categorical features with that many values each, one tail bucket and padding; no ids."""
    features = tuple(Feature(name=n, role="user", kind="categorical", dim=4) for n in sizes)
    known = {name: size + 2 for name, size in sizes.items()}
    return Space(FeatureTable(features=features), {"user_id": 2, "item_id": 2, **known})


def _train(
    model: WideDeep,
    inputs: dict[str, np.ndarray],
    label: np.ndarray,
    epochs: int,
    rate: float = 0.1,
    batch: int = 64,
) -> np.ndarray:
    """Fits, and returns the scores of the same rows."""
    model.compile_for(TrainConfig(learning_rate=rate))
    rows = tf.data.Dataset.from_tensor_slices((inputs, label)).batch(batch)
    model.fit(rows, epochs=epochs, verbose=0)
    return model({k: tf.constant(v) for k, v in inputs.items()}).numpy()


def _cross_oracle(
    rows: list[list[list[int]]], members: list[Column], buckets: int
) -> list[set[int]]:
    """Indices of each row by loops; ``rows`` [row][member][value]."""
    exact = math.prod(c.size for c in members) <= buckets
    found = []
    for row in rows:
        here = set()
        for values in itertools.product(*row):
            if any(v == 0 and c.sequence for v, c in zip(values, members, strict=True)):
                continue
            key = 0
            for value, column, multiplier in zip(values, members, MULTIPLIERS, strict=False):
                key = key * column.size + value if exact else (key + value * multiplier) % PRIME
            here.add(key if exact else key % buckets)
        found.append(here)
    return found


@pytest.mark.parametrize("buckets", [10_000, 97])
def test_crosses_equal_loops(buckets: int) -> None:
    members = [Column("a", 7, False), Column("b", 9, True), Column("c", 8, True)]
    rng = np.random.default_rng(0)
    inputs = {
        "a": rng.integers(0, 7, 50),
        "b": rng.integers(0, 9, (50, 3)) * (rng.random((50, 3)) < 0.7),
        "c": rng.integers(0, 8, (50, 2)),
    }
    index, kept = cross_indices({k: tf.constant(v) for k, v in inputs.items()}, members, buckets)
    rows = [
        [[int(inputs["a"][i])], inputs["b"][i].tolist(), inputs["c"][i].tolist()] for i in range(50)
    ]
    expected = _cross_oracle(rows, members, buckets)
    got = [set(i[k].tolist()) for i, k in zip(index.numpy(), kept.numpy(), strict=True)]
    assert got == expected
    assert index.shape == (50, 6)
    assert max(max(g, default=0) for g in got) < buckets


def test_a_hashed_cross_of_large_indices_does_not_overflow() -> None:
    members = [Column("a", 10**9, False), Column("b", 10**9, False)]
    values = np.array([10**9 - 1, 0, 123_456_789])
    index, _ = cross_indices({"a": tf.constant(values), "b": tf.constant(values)}, members, 1000)
    expected = [
        (int(v) * MULTIPLIERS[0] % PRIME + int(v) * MULTIPLIERS[1] % PRIME) % PRIME % 1000
        for v in values
    ]
    assert index.numpy()[:, 0].tolist() == expected


def test_hashed_crosses_spread_evenly() -> None:
    a, b = (m.ravel() for m in np.meshgrid(np.arange(300), np.arange(300)))
    members = [Column("a", 300, False), Column("b", 300, False)]
    index, _ = cross_indices({"a": tf.constant(a), "b": tf.constant(b)}, members, 9000)
    counts = np.bincount(index.numpy()[:, 0], minlength=9000)
    assert counts.max() <= 40  # mean 10
    assert (counts == 0).mean() < 0.05


def test_wide_sums_the_weights_of_what_is_there() -> None:
    columns = [Column("a", 4, False), Column("m", 5, True)]
    wide = WideLinear(columns, [columns], cross_buckets=100)
    weights = np.random.default_rng(0).normal(size=wide.size).astype(np.float32)
    wide.weight.assign(weights)
    a, m = np.array([0, 3]), np.array([[2, 4, 0], [0, 0, 0]])
    got = wide({"a": tf.constant(a), "m": tf.constant(m)}).numpy()
    first = weights[0] + weights[4 + 2] + weights[4 + 4]
    first += weights[9 + 0 * 5 + 2] + weights[9 + 0 * 5 + 4]
    np.testing.assert_allclose(got, [first, weights[3]], rtol=1e-6)


def test_pooling_ignores_padding() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 3, 4)).astype(np.float32)
    index = np.array([[5, 2, 0], [0, 0, 0]])
    query = rng.normal(size=(2, 4)).astype(np.float32)
    mean = masked_mean(tf.constant(vectors), tf.constant(index)).numpy()
    np.testing.assert_allclose(mean, [vectors[0, :2].mean(0), np.zeros(4)], atol=1e-6)
    scores = np.exp(vectors[0, :2] @ query[0] / 2.0)
    expected = (scores / scores.sum()) @ vectors[0, :2]
    attended = attend(tf.constant(query), tf.constant(vectors), tf.constant(index)).numpy()
    np.testing.assert_allclose(attended, [expected, np.zeros(4)], atol=1e-6)


def test_wide_learns_a_planted_linear_model() -> None:
    rng = np.random.default_rng(0)
    space = _categories(a=5, b=5)
    inputs = {"a": rng.integers(1, 6, 8000), "b": rng.integers(1, 6, 8000)}
    effect_a, effect_b = np.array([0, -2, -1, 0, 1, 2]), np.array([0, 1, 1, 0, -1, -1])
    logit = effect_a[inputs["a"]] + effect_b[inputs["b"]]
    label = (rng.random(8000) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    model = Wide(space, l1=0.0)
    score = _train(model, inputs, label, epochs=15)
    np.testing.assert_allclose(np.log(score / (1 - score)), logit, atol=0.3)


def test_l1_zeroes_what_explains_nothing() -> None:
    rng = np.random.default_rng(0)
    space = _categories(signal=4, noise=500)
    inputs = {"signal": rng.integers(1, 5, 4000), "noise": rng.integers(1, 501, 4000)}
    label = (rng.random(4000) < np.array([0, 0.1, 0.9, 0.1, 0.9])[inputs["signal"]]).astype(
        np.float32
    )
    share = {}
    for l1 in (0.0, 6.0):
        model = Wide(space, l1=l1)
        score = _train(model, inputs, label, epochs=3)
        assert model.wide is not None
        weights = model.wide.weight.numpy()
        signal, noise = weights[1:5], weights[6 + 1 : 6 + 501]
        assert (signal != 0).all()
        assert auc(label, score) > 0.85
        share[l1] = (noise != 0).mean()
    assert share[0.0] > 0.9
    assert share[6.0] < 0.1


def test_a_cross_memorises_what_a_narrow_deep_part_cannot() -> None:
    rng = np.random.default_rng(0)
    space = _categories(a=12, b=12)
    inputs = {"a": rng.integers(1, 13, 4000), "b": rng.integers(1, 13, 4000)}
    table = rng.random((13, 13)) < 0.5  # no structure: only a weight a combination can hold it
    label = table[inputs["a"], inputs["b"]].astype(np.float32)
    narrow: dict[str, Any] = {"hidden": [2], "embedding_dim": 1, "l1": 0.1}
    crossed: dict[str, Any] = {**narrow, "crosses": [("a", "b")]}
    reached = {
        name: auc(label, _train(cls(space, **params), inputs, label, epochs=8, rate=0.05))
        for name, cls, params in (
            ("deep", Deep, narrow),
            ("wide without cross", Wide, narrow),
            ("wide", Wide, crossed),
            ("wide_deep", WideDeep, crossed),
        )
    }
    assert reached["wide"] > 0.999
    assert reached["wide_deep"] > 0.999
    assert reached["deep"] < 0.9
    assert reached["wide without cross"] < 0.9


def test_deep_learns_an_interaction_without_a_cross() -> None:
    rng = np.random.default_rng(0)
    space = _categories(a=6, b=6)
    inputs = {"a": rng.integers(1, 7, 4000), "b": rng.integers(1, 7, 4000)}
    label = ((inputs["a"] + inputs["b"]) % 2).astype(np.float32)
    model = Deep(space, hidden=[32, 16])
    assert auc(label, _train(model, inputs, label, epochs=8, rate=0.05)) > 0.999


def _shop(task: str = "binary", **params: Any) -> tuple[WideDeep, dict[str, np.ndarray]]:
    """A ranker with every kind of feature, and some rows for it."""
    features = FeatureTable(
        features=(
            Feature(name="user_id", role="user", kind="id", dim=8),
            Feature(name="item_id", role="item", kind="id", dim=8),
            Feature(name="gender", role="user", kind="categorical", dim=4),
            Feature(name="genres", role="item", kind="multi", dim=4),
            Feature(name="title", role="item", kind="text", dim=4),
            Feature(name="price", role="item", kind="numeric", buckets=4),
            Feature(name="image", role="item", kind="embedding", dim=3),
        )
    )
    sizes = {"user_id": 32, "item_id": 22, "gender": 4, "genres": 7, "title": 12}
    rng = np.random.default_rng(1)
    inputs: dict[str, np.ndarray] = {
        "user_id": rng.integers(1, 31, 40),
        "item_id": rng.integers(1, 21, 40),
        "gender": rng.integers(0, 3, 40),
        "genres": rng.integers(0, 6, (40, 3)),
        "title": rng.integers(0, 11, (40, 4)),
        "price": rng.normal(size=40).astype(np.float32),
        "price_bucket": rng.integers(0, 5, 40),
        "image": rng.normal(size=(40, 3)).astype(np.float32),
        "history": rng.integers(0, 21, (40, 5)),
    }
    settings: dict[str, Any] = {
        "hidden": [16, 8],
        "history_length": 5,
        "crosses": [("gender", "genres"), ("history", "item_id")],
        **params,
    }
    model = WideDeep(Space(features, sizes), task=task, **settings)  # type: ignore[arg-type]
    return model, inputs


def _tensors(inputs: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in inputs.items()}


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_scores_do_not_depend_on_batch_or_padding(pooling: str) -> None:
    model, inputs = _shop(history_pooling=pooling, dots=True, l1=0.0)
    label = np.random.default_rng(0).integers(0, 2, 40).astype(np.float32)
    scores = _train(model, inputs, label, epochs=3)
    assert scores.shape == (40,)
    assert scores.dtype == np.float32
    assert scores.std() > 1e-3
    one = model(_tensors({k: v[7:8] for k, v in inputs.items()})).numpy()
    np.testing.assert_allclose(one, scores[7:8], atol=1e-6)
    padded = {**inputs, "history": np.pad(inputs["history"], [(0, 0), (0, 3)])}
    np.testing.assert_allclose(model(_tensors(padded)).numpy(), scores, atol=1e-6)


def test_only_looked_up_rows_are_updated() -> None:
    model, inputs = _shop(unknown_rate=0.0, l1=0.0)
    assert model.deep is not None
    assert model.wide is not None
    before = model.deep.tables["user_id"].numpy()
    items = model.deep.tables["item_id"].numpy()
    model.compile_for(TrainConfig(learning_rate=0.1))
    model.train_on_batch(_tensors(inputs), np.ones(40, np.float32))
    changed = np.flatnonzero((model.deep.tables["user_id"].numpy() != before).any(1))
    assert set(changed) == set(inputs["user_id"].tolist())
    # The history reads, and therefore trains, the table of the items.
    changed = np.flatnonzero((model.deep.tables["item_id"].numpy() != items).any(1))
    both = set(inputs["item_id"].tolist()) | set(inputs["history"].ravel().tolist())
    assert set(changed) == both - {0}
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model.logits(_tensors(inputs))[0])
    tables = [*model.deep.embeddings, model.wide.weight]
    assert all(isinstance(g, tf.IndexedSlices) for g in tape.gradient(total, tables))


def test_unknown_rate_trains_the_tail() -> None:
    model, inputs = _shop(unknown_rate=0.5)
    assert model.deep is not None
    assert (model.deep.tables["user_id"].numpy()[[0, 31]] == 0).all()
    tf.keras.utils.set_random_seed(0)
    _train(model, inputs, np.ones(40, np.float32), epochs=2)
    assert (model.deep.tables["user_id"].numpy()[31] != 0).any()
    assert (model.deep.tables["user_id"].numpy()[0] == 0).all()


def test_regularisation_shrinks() -> None:
    label = np.random.default_rng(0).integers(0, 2, 40).astype(np.float32)
    sizes = {}
    choices: dict[str, dict[str, Any]] = {
        "none": {},
        "l2": {"l2": 1.0},
        "embedding_l2": {"embedding_l2": 1.0},
    }
    for name, params in choices.items():
        model, inputs = _shop(**params)
        _train(model, inputs, label, epochs=20)
        assert model.deep is not None
        kernels = sum(float(tf.norm(k)) for k in model.deep.kernels)
        sizes[name] = (kernels, float(tf.norm(model.deep.tables["user_id"])))
    assert sizes["l2"][0] < 0.5 * sizes["none"][0]
    assert sizes["embedding_l2"][1] < 0.5 * sizes["none"][1]


def test_dropout_acts_in_training_alone() -> None:
    model, inputs = _shop(dropout=0.5)
    tensors = _tensors(inputs)
    _train(model, inputs, np.arange(40) % 2, epochs=1)
    still = [model(tensors, training=False).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*still)
    moving = [model(tensors, training=True).numpy() for _ in range(2)]
    assert np.abs(moving[0] - moving[1]).max() > 1e-3


def test_rating_task_starts_from_the_mean_and_learns() -> None:
    model, inputs = _shop("rating")
    model.set_prior(3.5)
    without_prior, _ = _shop("rating")
    shifted = model(_tensors(inputs)).numpy() - without_prior(_tensors(inputs)).numpy()
    np.testing.assert_allclose(shifted, 3.5, atol=1e-5)
    label = 1.0 + (inputs["user_id"] % 5).astype(np.float32)
    after = _train(model, inputs, label, epochs=60, rate=0.05)
    assert np.sqrt(np.mean((after - label) ** 2)) < 0.3 * label.std()


def test_a_step_reduces_by_the_weights_of_rows() -> None:
    label = np.array([1.0] * 20 + [0.0] * 20, np.float32)
    weight = np.array([1.0] * 20 + [0.0] * 20, np.float32)
    model, inputs = _shop()
    model.compile_for(TrainConfig(learning_rate=0.1))
    for _ in range(20):
        model.train_on_batch(_tensors(inputs), label, sample_weight=weight)
    assert model(_tensors(inputs)).numpy().mean() > 0.8  # rows of weight 0 said nothing


def test_features_without_vocabulary_are_left_out() -> None:
    model = WideDeep(_categories(a=3), hidden=[4])
    assert model({"a": tf.constant([0, 1, 4])}).shape == (3,)


def test_use_chooses_features() -> None:
    space = _categories(a=3, b=3)
    assert Wide(space, use=["b"])({"b": tf.constant([1])}).shape == (1,)
    with pytest.raises(ValueError, match=r"'use' names \['c'\]"):
        Wide(space, use=["c"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"crosses": [("a", "z")]}, r"\['z'\]"),
        ({"crosses": [("a",)]}, "2 to 4 members"),
        ({"task": "ranking"}, "'binary' or 'rating'"),
        ({"history_length": 3}, "item_id is not used"),
    ],
)
def test_bad_parameters_are_named(params: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WideDeep(_categories(a=3, b=3), **params)  # type: ignore[arg-type]


def test_registry_knows_the_three() -> None:
    space = _categories(a=3)
    for name, wide, deep in (("wide_deep", 1, 1), ("wide", 1, 0), ("deep", 0, 1)):
        assert registry.spec(name).kind == "ranking"
        model = registry.build(name, space, registry.spec(name).example)
        assert (model.wide is not None, model.deep is not None) == (bool(wide), bool(deep))
    with pytest.raises(TypeError, match="cross_bukkets"):
        registry.build("wide", space, {"cross_bukkets": 3})
