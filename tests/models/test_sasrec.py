"""Sequential models: their losses against NumPy, order, the future, replicas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tests.builders import retrieval_data
from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.data.sequences import TARGET, TARGET_WEIGHT
from tfrec.evaluation import evaluate
from tfrec.losses.next_item import gbce_beta
from tfrec.models.registry import build
from tfrec.schema import HISTORY
from tfrec.training.fit import fit_retrieval
from tfrec.training.strategy import make_strategy

TRAIN = TrainConfig(epochs=1, batch_size=8, learning_rate=0.01, patience=0)
SMALL = {"dim": 8, "history_length": 6, "dropout": 0.0}


def walks(users: int = 24, items: int = 12, events: int = 7) -> RetrievalData:
    """Every user walks round the catalogue from its own start: what comes next is the next item."""
    rows = [[(u % items + t) % items + 1 for t in range(events)] for u in range(users)]
    train = [(u + 1, i) for u, row in enumerate(rows) for i in row[:-2]]
    validation, test = ([(u + 1, row[at]) for u, row in enumerate(rows)] for at in (-2, -1))
    return retrieval_data(train, validation, test, users, items)


DATA = walks()
# Users of different length: replicas get different numbers of targets.
UNEVEN = replace(DATA, train=DATA.train.select(DATA.train.timestamp % 3 + DATA.train.user % 4 > 0))


def batch(size: int = 8) -> dict[str, tf.Tensor]:
    model = build("sasrec", DATA, SMALL)
    train = TRAIN.model_copy(update={"batch_size": size})
    return next(iter(model.training_data(DATA, train)))


@pytest.mark.parametrize(("name", "loss"), [("sasrec", "softmax"), ("sasrec", "gbce"),
                                            ("gru4rec", "sampled_softmax")])  # fmt: skip
def test_learns_the_next_item_of_a_walk(name: str, loss: str) -> None:
    train = TRAIN.model_copy(update={"epochs": 30, "learning_rate": 0.03})
    params = {**SMALL, "dim": 16, "loss": loss, "negatives": 6}
    model = fit_retrieval(name, params, train, DATA, evaluate_every=100).model
    assert evaluate(model, DATA, "test", (1,))["recall@1"] > 0.9


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_states_do_not_see_the_future(name: str) -> None:
    model = build(name, DATA, {**SMALL, "history_length": 6})
    one = tf.constant([[1, 2, 3, 4, 5, 6]], tf.int64)
    other = tf.constant([[1, 2, 3, 9, 9, 9]], tf.int64)
    states, changed = (model._states(h, training=False)[0].numpy() for h in (one, other))
    np.testing.assert_allclose(states[:, :4], changed[:, :4], atol=1e-6)
    assert np.abs(states[:, 4:] - changed[:, 4:]).max() > 1e-4


def states_and_targets(model, told):  # type: ignore[no-untyped-def]
    states = model._states(told[HISTORY], training=False)[0].numpy()
    return states, told[TARGET].numpy(), told[TARGET_WEIGHT].numpy() > 0


def test_softmax_loss_is_the_cross_entropy_over_the_catalogue() -> None:
    model, told = build("sasrec", DATA, SMALL), batch()
    model.compile_for(TRAIN)
    model.items.assign(tf.random.stateless_normal(model.items.shape, [0, 1]))
    total, mine, everyone = model.batch_loss(told, training=False)
    states, targets, there = states_and_targets(model, told)
    expected = 0.0
    for state, target in zip(states[there], targets[there], strict=True):
        logits = model.items.numpy()[1:] @ state
        expected += np.log(np.exp(logits).sum()) - logits[target - 1]
    np.testing.assert_allclose(total, expected, rtol=1e-4)
    assert float(mine) == float(everyone) == there.sum()


@pytest.mark.parametrize("loss", ["gbce", "bce"])
def test_binary_losses_against_a_loop(loss: str) -> None:
    params = {**SMALL, "loss": loss, "negatives": 5, "calibration": 0.75}
    model, told = build("sasrec", DATA, params), batch()
    model.compile_for(TRAIN)
    model.items.assign(tf.random.stateless_normal(model.items.shape, [0, 1]))
    total = float(model.batch_loss(told, training=False)[0])
    drawn = tf.random.stateless_uniform([8, 5], [0, 0], 1, 13, tf.int64).numpy()
    table = model.items.numpy()
    alpha = 5 / 11
    power = alpha * (0.75 * (1 - 1 / alpha) + 1 / alpha) if loss == "gbce" else 1.0
    expected = 0.0
    states, targets, there = states_and_targets(model, told)
    for row, position in np.argwhere(there):
        state, target = states[row, position], targets[row, position]
        expected -= np.log((1 / (1 + np.exp(-table[target] @ state))) ** power)
        for negative in drawn[row]:
            if negative != target:
                expected -= np.log(1 - 1 / (1 + np.exp(-table[negative] @ state)))
    np.testing.assert_allclose(total, expected, rtol=1e-4)


def test_calibration_runs_from_plain_bce_to_the_sampling_rate() -> None:
    assert gbce_beta(256, 3416, 0.0) == pytest.approx(1.0)
    assert gbce_beta(256, 3416, 1.0) == pytest.approx(256 / 3415)
    assert gbce_beta(9, 5, 0.5) == pytest.approx(1.0)  # more negatives than items: all of them
    with pytest.raises(ValueError, match=r"calibration is in 0\.\.1; got 1.5"):
        gbce_beta(9, 5, 1.5)


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax"])
def test_two_replicas_equal_one(loss: str) -> None:
    after = []
    for replicas in (1, 2):
        strategy = make_strategy(replicas)
        assert strategy.num_replicas_in_sync == replicas
        tf.keras.utils.set_random_seed(7)
        with strategy.scope():
            model = build("sasrec", UNEVEN, {**SMALL, "loss": loss, "negatives": 4})
            model.compile_for(TRAIN)
        model.fit(model.training_data(UNEVEN, TRAIN), epochs=1, verbose=0)
        after.append([v.numpy() for v in model.trainable_variables])
    for one, two in zip(*after, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-5)


def test_binary_negatives_of_two_replicas_differ() -> None:
    strategy = make_strategy(2)
    with strategy.scope():
        model = build("sasrec", DATA, {**SMALL, "loss": "gbce", "negatives": 50})
        model.compile_for(TRAIN)

    @tf.function
    def seeds() -> tf.Tensor:
        return strategy.run(lambda: model._step_seed(each_replica=True))

    one, other = strategy.experimental_local_results(seeds())
    assert one.numpy()[0] != other.numpy()[0]
    assert one.numpy()[1] == other.numpy()[1] == 0


def test_bad_parameters_say_what_to_mend() -> None:
    with pytest.raises(ValueError, match=r"loss is one of .*got 'hinge'"):
        build("sasrec", DATA, {"loss": "hinge"})
    with pytest.raises(ValueError, match="dim is a multiple of heads; got dim 9, heads 2"):
        build("sasrec", DATA, {"dim": 9})
    with pytest.raises(ValueError, match="negatives are from 1"):
        build("gru4rec", DATA, {"negatives": 0})
