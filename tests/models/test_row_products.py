"""The large products: dense and sparse are one, by value, gradient and whole training steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.rated import rated_data
from tfrec.config import TrainConfig
from tfrec.models import registry
from tfrec.models.autorec import AutoRec
from tfrec.models.row_products import (
    DENSE_FROM,
    choose,
    level_marks,
    rows_in,
    rows_out,
    thermometer_marks,
    units_in,
    value_marks,
)

ROWS, COLUMNS, LEVELS, DIM = 4, 6, 3, 5
MARKS = {
    "levels": level_marks(LEVELS),
    "thermometer": thermometer_marks(LEVELS),
    "value": value_marks(np.array([1.0, 2.5, 4.0], np.float32)),
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "autorec": ("autorec", {"by": "item", "hidden": [6]}),
    "autorec-levels": ("autorec", {"by": "user", "hidden": [6, 4], "units": "levels"}),
    "autorec-shared": (
        "autorec",
        {"by": "user", "hidden": [6], "units": "levels", "share_levels": True},
    ),
    "rbm": ("rbm", {"by": "user", "hidden": 6, "conditional": True}),
    "rbm-factored": ("rbm", {"by": "item", "hidden": 6, "factors": 3}),
    "rbm-shared": ("rbm", {"by": "user", "hidden": 6, "factors": 3, "share_levels": True}),
    "nade": ("cf_nade", {"by": "item", "hidden": [6, 6]}),
    "nade-factored": ("cf_nade", {"by": "user", "hidden": [6], "factors": 3}),
    "nade-common": ("cf_nade", {"by": "item", "hidden": [6], "common": True}),
}


@pytest.fixture(scope="module")
def code() -> np.ndarray:
    random = np.random.default_rng(0)
    code = random.integers(0, LEVELS + 1, (ROWS, COLUMNS)).astype(np.int32)
    code[2] = 0  # a row without a rating
    return code


@pytest.mark.parametrize("marks", MARKS.values(), ids=MARKS)
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_rows_in_is_the_sum_over_units(code: np.ndarray, marks: np.ndarray, kind: Any) -> None:
    weights = np.random.default_rng(1).normal(size=(COLUMNS, marks.shape[1], DIM))
    expected = np.zeros((ROWS, DIM))
    for row, column in np.argwhere(code > 0):
        for k, mark in enumerate(marks[code[row, column]]):
            expected[row] += mark * weights[column, k]
    found = rows_in(tf.constant(code), marks, tf.constant(weights, tf.float32), kind)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_rows_out_is_the_product_at_the_entries(code: np.ndarray, kind: Any) -> None:
    random = np.random.default_rng(2)
    weights, hidden = random.normal(size=(COLUMNS, LEVELS, DIM)), random.normal(size=(ROWS, DIM))
    at = np.argwhere(code > 0)
    expected = [weights[column] @ hidden[row] for row, column in at]
    given = (tf.constant(hidden, tf.float32), tf.constant(weights, tf.float32), tf.constant(at))
    np.testing.assert_allclose(rows_out(*given, kind), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_units_in_is_the_sum_over_entries(code: np.ndarray, kind: Any) -> None:
    random = np.random.default_rng(3)
    at = np.argwhere(code > 0)
    weights, units = random.normal(size=(COLUMNS, LEVELS, DIM)), random.random((len(at), LEVELS))
    expected = np.zeros((ROWS, DIM))
    for (row, column), unit in zip(at, units, strict=True):
        expected[row] += unit @ weights[column]
    given = (tf.constant(at), tf.constant(units, tf.float32), tf.constant(ROWS, tf.int64))
    np.testing.assert_allclose(
        units_in(*given, tf.constant(weights, tf.float32), kind), expected, atol=1e-5
    )


def test_marks_of_a_code() -> None:
    np.testing.assert_array_equal(MARKS["levels"], [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    below = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    np.testing.assert_array_equal(MARKS["thermometer"], below)
    np.testing.assert_array_equal(MARKS["value"], [[0], [1], [2.5], [4]])


def trained(name: str, products: str, steps: int = 3) -> list[np.ndarray]:
    """The weights after some steps on the same rows with the same random numbers."""
    kind, params = MODELS[name]
    data = rated_data(30, 12)
    tf.keras.utils.set_random_seed(1)
    model = registry.build(kind, data, {**params, "products": products})
    train = TrainConfig(batch_size=64, learning_rate=1e-2)
    model.compile(optimizer=tf.keras.optimizers.legacy.SGD(0.05))
    model.training_data(data, train)
    batch = next(iter(model.training_data(data, train)))
    order = np.argsort(batch["row"].numpy())
    batch = {key: tf.gather(value, order) for key, value in batch.items()}
    step = tf.function(model.train_step, autograph=False)
    tf.random.set_seed(3)
    for _ in range(steps):
        step(batch)
    return [w.numpy() for w in model._weights.values()]


@pytest.mark.parametrize("name", MODELS)
def test_models_train_alike_dense_and_sparse(name: str) -> None:
    dense, sparse = trained(name, "dense"), trained(name, "sparse")
    start = trained(name, "dense", steps=0)
    for a, b in zip(dense, sparse, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert max(float(np.abs(a - s).max()) for a, s in zip(dense, start, strict=True)) > 1e-3


def test_rounded_training_is_close_and_its_answers_are_not_rounded() -> None:
    exact, rounded = trained("autorec", "dense"), trained("autorec", "bfloat16")
    moved = [a - s for a, s in zip(exact, trained("autorec", "dense", steps=0), strict=True)]
    for a, b, step in zip(exact, rounded, moved, strict=True):
        assert 0 < float(np.linalg.norm(a - b)) < 0.05 * float(np.linalg.norm(step))
    data = rated_data(30, 12)
    models = [AutoRec(data, "user", [4], products=p) for p in ("dense", "bfloat16")]
    code = tf.constant(np.random.default_rng(0).integers(0, 6, (5, 13)).astype(np.int32))
    np.testing.assert_array_equal(*(m.encode(code).numpy() for m in models))
    with models[1].live():
        assert np.abs(models[1].encode(code) - models[0].encode(code)).max() > 0


def test_auto_goes_by_the_share_rated() -> None:
    assert choose("auto", DENSE_FROM) == "dense"
    assert choose("auto", DENSE_FROM / 2) == "sparse"
    assert choose("bfloat16", 0.0) == "bfloat16"
    with pytest.raises(ValueError, match="products is one of"):
        choose("fast", 0.1)  # type: ignore[arg-type]
    assert AutoRec(rated_data(30, 12), "user", [4]).products == "dense"
    thin = rated_data(200, 60, density=0.01)
    assert AutoRec(thin, "user", [4]).products == "sparse"


def test_cosine_ends_at_nothing() -> None:
    data = rated_data(30, 12)
    model = AutoRec(data, "user", [4], schedule="cosine")
    model.compile_for(TrainConfig(epochs=5, batch_size=10, learning_rate=0.1))
    rate = model.optimizer._decayed_lr(tf.float32)
    assert float(rate) == pytest.approx(0.1)
    steps = 5 * 3  # 30 users with ratings in batches of 10
    model.optimizer.iterations.assign(steps)
    assert float(model.optimizer._decayed_lr(tf.float32)) == pytest.approx(0.0, abs=1e-6)
    model.optimizer.iterations.assign(steps - 3)
    assert float(model.optimizer._decayed_lr(tf.float32)) > 1e-3
    with pytest.raises(ValueError, match="schedule is one of"):
        AutoRec(data, schedule="step")  # type: ignore[arg-type]
