"""Rating models on two replicas: the same step as on one, and the averages still answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.rated import rated_data
from tfrec.config import TrainConfig
from tfrec.models import registry
from tfrec.training.fit import fit_retrieval
from tfrec.training.rating import fit_rating
from tfrec.training.strategy import make_strategy

DATA = rated_data(16, 12, extra_users=0, extra_items=0)
ONE_STEP = TrainConfig(epochs=1, batch_size=64, patience=0)


def after_one_step(name: str, params: dict[str, Any], replicas: int) -> list[np.ndarray]:
    """Matrices of weights, 1 everywhere, after one step of plain gradient descent on all rows."""
    with make_strategy(replicas).scope():
        model = registry.build(name, DATA, params)
        model.compile(optimizer=tf.keras.optimizers.legacy.SGD(0.1))
    weights = [w for w in model.trainable_variables if len(w.shape) > 1]
    for weight in weights:
        weight.assign(tf.ones_like(weight))
    model.fit(model.training_data(DATA, ONE_STEP), verbose=0)
    return [weight.numpy() for weight in weights]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("autorec", {"hidden": [4], "l2": 8.0}),
        ("rbm", {"hidden": 4, "weight_decay": 8.0}),
        ("cf_nade", {"hidden": [4], "l2": 8.0, "polyak": None}),
        ("rbm_purchases", {"hidden": 4, "weight_decay": 8.0}),
    ],
)
@pytest.mark.parametrize("replicas", [1, 2])
def test_weights_decay_once_however_many_replicas(
    name: str, params: dict[str, Any], replicas: int
) -> None:
    """A step of .1 against a decay of 8 leaves a fifth of each weight, give or take the ratings'
    own gradient; losses of replicas add, so a decay in each of two would leave -.6."""
    decayed = [np.mean(weight) for weight in after_one_step(name, params, replicas)]
    biases = 1  # AutoRec's and CF-NADE's matrix of biases is not decayed
    assert sum(abs(mean - 0.2) < 0.3 for mean in decayed) >= len(decayed) - biases
    assert min(decayed) > -0.1


def test_averages_answer_after_training_on_two_replicas() -> None:
    train = TrainConfig(epochs=2, batch_size=8, patience=0)
    strategy = make_strategy(2)
    model = fit_rating("cf_nade", {"hidden": [4]}, train, DATA, strategy=strategy).model
    assert model["in"] is model._averages["in"]


@pytest.mark.parametrize("replicas", [1, 2])
def test_dbn_pretrains_under_a_mirrored_strategy(replicas: int) -> None:
    """One replica on a GPU is a mirrored strategy, too."""
    mirrored = tf.distribute.MirroredStrategy
    strategy = make_strategy(2) if replicas == 2 else mirrored(["/cpu:0"])
    train = TrainConfig(epochs=1, batch_size=8, learning_rate=1e-6, patience=0)
    params = {"hidden": [4], "pretrain_epochs": 20, "pretrain_rate": 0.05}
    result = fit_retrieval("dbn", params, train, DATA, metric="rmse", strategy=strategy)
    # Weights start at the same numbers in all nets: those of pre-training are far away from them.
    start = registry.build("dbn", DATA, params)["w0"].numpy()
    assert np.abs(result.model["w0"].numpy() - start).max() > 1e-2
