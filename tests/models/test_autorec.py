"""AutoRec: unrated entries are neither input nor target; the stack of RBMs as its start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.rated import rated_data
from tfrec.config import TrainConfig
from tfrec.models.autorec import AutoRec
from tfrec.models.dbn_rating import DBNRating

NETS: dict[str, dict[str, Any]] = {
    "rating": {},
    "levels": {"units": "levels"},
    "shared levels": {"units": "levels", "share_levels": True},
}
of_each_net = pytest.mark.parametrize("params", NETS.values(), ids=NETS)


@pytest.fixture(scope="module")
def data():  # type: ignore[no-untyped-def]
    return rated_data(30, 12, seed=5)


@of_each_net
def test_unrated_entries_leave_no_gradient(data, params: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
    model = AutoRec(data, "user", [4], l2=0.0, **params)
    code = np.zeros((2, model.n_columns), np.int32)
    code[0, [1, 4]], code[1, [4, 7]] = [2, 5], [1, 3]
    with tf.GradientTape() as tape:
        loss, _ = model.objective(tf.constant(code))
    weights = [model["w0"], model["out"], model["out_bias"]]
    inward, outward, bias = (tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, weights))
    inward = np.abs(inward.reshape(model.n_columns, -1)).max(axis=1)
    rated = np.isin(np.arange(model.n_columns), [1, 4, 7])
    for found in (inward, np.abs(outward).max(axis=(1, 2)), np.abs(bias).max(axis=1)):
        assert (found[rated] > 0).all()
        assert (found[~rated] == 0).all()


@of_each_net
def test_loss_is_the_mean_squared_error_of_rated_entries(data, params: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
    model = AutoRec(data, "user", [4], l2=0.0, **params)
    code = np.random.default_rng(0).integers(0, 6, (5, model.n_columns)).astype(np.int32)
    hidden = model.encode(tf.constant(code))
    weights, biases = model.output()
    rows = model.link(tf.einsum("bd,nkd->bnk", hidden, weights) + biases).numpy()
    levels = np.array([0, 1, 2, 3, 4, 5])
    expected = np.mean((rows - levels[code])[code > 0] ** 2)
    assert float(model.objective(tf.constant(code))[0]) == pytest.approx(expected, rel=1e-4)


@of_each_net
def test_without_row_bias_the_net_is_the_papers(data, params: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
    code = tf.constant([[5] * 6 + [0] * 7, [1] * 6 + [0] * 7])
    for own in (True, False):
        model = AutoRec(data, "user", [4], row_bias=own, **params)
        assert bool(np.abs(model.encode(code)[:, 4:]).max() > 0.1) is own


def test_shared_levels_are_the_same_net_by_other_weights(data) -> None:  # type: ignore[no-untyped-def]
    """A level's weights in the plain net are the sum of those of all levels up to it."""
    plain, shared = (AutoRec(data, "user", [4], "levels", share_levels=s) for s in (False, True))
    for name in ("w0", "out"):
        plain[name].assign(tf.cumsum(shared[name], axis=1))
    code = np.random.default_rng(0).integers(0, 6, (5, plain.n_columns)).astype(np.int32)
    losses = [float(model.objective(tf.constant(code))[1]["rmse"]) for model in (plain, shared)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_deep_net_is_a_mirror(data) -> None:  # type: ignore[no-untyped-def]
    model = AutoRec(data, "item", [6, 3])
    assert model.sizes == [6, 3, 6]
    assert model["w1"].shape == (6, 3)
    assert model["w2"].shape == (3, 6)
    assert model["out"].shape == (data.n_users, 1, 6)


def reconstruction(model: AutoRec, rows: tf.data.Dataset) -> float:
    """Mean squared error of the rated entries."""
    return float(np.mean([model.objective(batch["code"])[1]["rmse"] ** 2 for batch in rows]))


@pytest.mark.parametrize(
    ("hidden", "shared"),
    [([8], False), ([8, 6], False), ([8], True)],
    ids=["one layer", "two layers", "shared levels"],
)
def test_pretraining_lowers_the_reconstruction_error(  # type: ignore[no-untyped-def]
    data, hidden: list[int], shared: bool
) -> None:
    """The unrolled stack, before any back-propagation, restores ratings better than its start."""
    train = TrainConfig(epochs=1, batch_size=10)
    tf.keras.utils.set_random_seed(0)
    model = DBNRating(
        data,
        "user",
        hidden,
        share_levels=shared,
        pretrain_epochs=60,
        pretrain_rate=0.02,
        weight_decay=1e-4,
    )
    rows = model.training_data(data, train)
    before = reconstruction(model, rows)
    model.pretrain(rows)
    after = reconstruction(model, rows)
    assert after < 0.95 * before


def test_fit_pretrains_once(data) -> None:  # type: ignore[no-untyped-def]
    train = TrainConfig(epochs=1, batch_size=30, learning_rate=1e-6)
    model = DBNRating(data, "user", [4], pretrain_epochs=3, pretrain_rate=0.05)
    model.compile_for(train)
    start = model["w0"].numpy()
    rows = model.training_data(data, train)
    model.fit(rows, verbose=0)
    pretrained = model["w0"].numpy()
    assert np.abs(pretrained - start).max() > 1e-2
    model.fit(rows, verbose=0)
    assert np.abs(model["w0"].numpy() - pretrained).max() < 1e-4


def test_bad_parameters_are_refused(data) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="units is 'rating' or 'levels'"):
        AutoRec(data, units="stars")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="activation is one of"):
        AutoRec(data, activation="step")
    with pytest.raises(ValueError, match="it goes with units 'levels'"):
        AutoRec(data, share_levels=True)
    with pytest.raises(ValueError, match="pretrain_epochs"):
        DBNRating(data, pretrain_epochs=-1)
