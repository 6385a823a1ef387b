"""Training over the whole catalogue: the loss by hand, what sampling estimates, what it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.builders import checkerboard, random_data, retrieval_data
from tfrec.config import TrainConfig
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.losses.whole_catalogue import whole_catalogue_logistic
from tfrec.models.pairs import COUNTS, pair_batches, user_blocks
from tfrec.models.registry import build
from tfrec.schema import USER_ID
from tfrec.training.strategy import make_strategy

DATA = random_data(25, 14, 6.0, seed=2)
MODELS: dict[str, dict[str, Any]] = {
    "mf_logistic": {"dim": 4, "l2": 0.02, "negatives": 3},
    "gmf": {"factors": 4, "l2": 0.02, "negatives": 3},
    "mlp": {"factors": 2, "l2": 0.02, "negatives": 3},
}


def test_the_loss_weighs_unobserved_items_by_their_expected_draws() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (2, 4))
    counts = np.array([[2, 0, 1, 0], [1, 1, 1, 1]])
    found = whole_catalogue_logistic(
        tf.constant(logits, tf.float32), tf.constant(counts, tf.float32), 4.0
    )
    # User 0: 3 events, 12 draws over 2 unobserved items; user 1 has no item left to draw.
    weights = np.array([[2, 6, 1, 6], [1, 1, 1, 1]])
    labels = counts > 0
    terms = np.where(labels, np.logaddexp(0, -logits), np.logaddexp(0, logits))
    np.testing.assert_allclose(found.weights, weights)
    np.testing.assert_allclose(found.examples, [15, 4])
    np.testing.assert_allclose(found.loss, (weights * terms).sum(), rtol=1e-5)


def test_blocks_hold_every_user_once_with_all_events() -> None:
    data = retrieval_data([(1, 2), (1, 2), (3, 1), (3, 4), (4, 3)], n_users=5, n_items=4)
    batches = list(user_blocks(data, seed=0, block_users=2))
    assert [len(b[USER_ID]) for b in batches] == [2, 1]  # users 2 and 5 have no events
    counts = np.zeros((6, 4))
    for batch in batches:
        counts[batch[USER_ID].numpy()] = batch[COUNTS].numpy()
    expected = np.zeros((6, 4))
    np.add.at(expected, (data.train.user, data.train.item - 1), 1)
    np.testing.assert_array_equal(counts, expected)


def test_the_order_of_users_is_new_each_epoch_and_repeats_by_seed() -> None:
    blocks = user_blocks(DATA, 3, 4)
    first, second = (np.concatenate([b[USER_ID] for b in blocks]) for _ in range(2))
    again = np.concatenate([b[USER_ID] for b in user_blocks(DATA, 3, 4)])
    assert (first != second).any()
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", ["gmf", "mlp"])
def test_many_draws_come_near_the_whole(name: str) -> None:
    """The sampled loss and penalty of an epoch, with its negatives drawn over and over."""
    whole = build(name, DATA, {**MODELS[name], "pairs": "catalogue"})
    random = np.random.default_rng(1)
    for variable in whole.trainable_variables:
        variable.assign(random.normal(0, 0.7, variable.shape))
    loss, squares, examples = whole._whole(next(iter(user_blocks(DATA, 0, 100))))
    epochs = pair_batches(DATA, len(DATA.train), 3, seed=0).repeat(40)
    found = [[value.numpy() for value in whole._sampled(batch)] for batch in epochs]
    means = np.mean(found, axis=0)
    assert means[2] == pytest.approx(float(examples))
    np.testing.assert_allclose([loss, squares], means[:2], rtol=0.01)


def test_a_dot_product_pays_as_its_draws_do() -> None:
    """Summed over an epoch, whole and sampled loss are the same of a model that stands still."""
    model = build("mf_logistic", DATA, {**MODELS["mf_logistic"], "pairs": "catalogue"})
    model.compile_for(TrainConfig(learning_rate=1e-9))
    whole = model.fit(user_blocks(DATA, 0, 100), verbose=0).history["loss"][0]
    drawn = []
    for batch in pair_batches(DATA, len(DATA.train), 3, seed=0).repeat(40):
        scores = model.score_catalogue({USER_ID: batch["user_id"]}).numpy()
        at = np.arange(len(scores))
        positive = scores[at, batch["item_id"].numpy() - 1]
        negative = scores[at[:, None], batch["negatives"].numpy() - 1]
        drawn.append(np.logaddexp(0, -positive) + np.logaddexp(0, negative).sum(axis=1))
    assert whole == pytest.approx(np.mean(drawn), rel=0.01)


@pytest.mark.parametrize("name", list(MODELS))
def test_the_whole_catalogue_teaches_the_checkerboard(name: str) -> None:
    tf.keras.utils.set_random_seed(0)
    board = checkerboard(16)
    # A tower that ends in two rectified units loses one of them at every other start.
    size = {"mf_logistic": {"dim": 2}, "gmf": {"factors": 2}, "mlp": {"factors": 8}}[name]
    params = {**size, "l2": 0.02, "pairs": "catalogue", "block_users": 4}
    model = build(name, board, params)
    model.compile_for(TrainConfig(learning_rate=0.05))
    model.fit(user_blocks(board, 0, 4), epochs=40, verbose=0)
    assert evaluate(model, board, "test", (1,))["recall@1"] > 0.9


@pytest.mark.parametrize("name", ["mf_logistic", "gmf"])
def test_two_replicas_equal_one(name: str) -> None:
    after = []
    for replicas in (1, 2):
        strategy = make_strategy(replicas)
        tf.keras.utils.set_random_seed(7)
        with strategy.scope():
            model = build(name, DATA, {**MODELS[name], "pairs": "catalogue", "block_users": 8})
            model.compile_for(TrainConfig(learning_rate=0.05))
        model.fit(user_blocks(DATA, 1, 8), epochs=2, verbose=0)
        after.append([v.numpy() for v in model.trainable_variables])
    for one, two in zip(*after, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_scaling_a_factor_changes_neither_score_nor_penalty() -> None:
    model = build("gmf", DATA, {**MODELS["gmf"], "pairs": "catalogue"})
    batch = next(iter(user_blocks(DATA, 0, 100)))
    before = [value.numpy() for value in model._whole(batch)]
    part = model.parts[0]
    for table in (part.users, part.items):
        table.assign(3.0 * table)
    part.head.assign(part.head / 9.0)
    np.testing.assert_allclose([v.numpy() for v in model._whole(batch)], before, rtol=1e-4)


def test_neumf_takes_a_gmf_of_the_whole_catalogue() -> None:
    board = checkerboard(16)
    params = {"factors": 2, "layers": 2, "pretrain_epochs": [40, 1], "gmf_pairs": "catalogue"}
    params |= {"gmf_l2": 0.02}
    params |= {"gmf_learning_rate": 0.05, "alpha": 1.0, "finetune_learning_rate": 1e-6}
    model = build("neumf", board, {**params, "block_users": 4})
    train = TrainConfig(epochs=1, batch_size=60, learning_rate=0.001, patience=0)
    model.compile_for(train)
    gmf, mlp = model._stages()
    assert (gmf.pairs, mlp.pairs, model.pairs) == ("catalogue", "sampled", "sampled")
    assert float(gmf.optimizer.learning_rate) == pytest.approx(0.05)
    model.fit(model.training_data(board, train), verbose=0)
    assert evaluate(model, board, "test", (1,))["recall@1"] > 0.9


@pytest.mark.parametrize("name", list(MODELS))
def test_another_way_of_pairs_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="pairs is one of sampled, catalogue; got 'all'"):
        build(name, DATA, {"pairs": "all"})
