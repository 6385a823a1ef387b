"""The distinct-candidate softmax against slow, obvious computations."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.sampled_softmax import (
    batch_candidates,
    dot_softmax,
    inclusion_log_q,
    sampled_softmax,
    with_correction,
)


def oracle(logits: np.ndarray, items: list[int], candidates: list[int], log_q: np.ndarray) -> list:
    losses = []
    for row, item in zip(logits, items, strict=True):
        corrected = row - log_q
        own = candidates.index(item)
        losses.append(np.log(np.exp(corrected).sum()) - corrected[own])
    return losses


def test_candidates_are_the_distinct_items_without_padding() -> None:
    items = tf.constant([7, 0, 3, 7, 0, 9], tf.int64)
    assert batch_candidates(items, 0, 10).numpy().tolist() == [3, 7, 9]


def test_candidates_without_padding_keep_the_first() -> None:
    assert batch_candidates(tf.constant([5, 2, 5], tf.int64), 0, 10).numpy().tolist() == [2, 5]


def test_uniform_candidates_lie_in_the_catalogue_and_repeat_by_seed() -> None:
    items = tf.constant([1], tf.int64)
    first = batch_candidates(items, 500, 20, tf.constant([1, 2])).numpy()
    assert first.tolist() == list(range(1, 21))
    some = [
        batch_candidates(items, 5, 1000, tf.constant([1, s])).numpy().tolist() for s in (3, 3, 4)
    ]
    assert some[0] == some[1] != some[2]


def test_log_q_is_the_chance_of_being_in_the_batch() -> None:
    p = np.array([0.0, 0.5, 0.3, 0.2])
    log_miss = tf.constant(np.log1p(-p), tf.float32)
    n, uniform = 6, 4
    found = inclusion_log_q(
        log_miss, tf.constant([1, 2, 3], tf.int64), tf.constant(6.0), uniform, 3
    )
    rng = np.random.default_rng(0)
    draws = rng.choice(4, p=p, size=(40_000, n))
    drawn = rng.integers(1, 4, size=(40_000, uniform))
    for i, value in zip((1, 2, 3), np.exp(found.numpy()), strict=True):
        share = ((draws == i).any(1) | (drawn == i).any(1)).mean()
        assert value == pytest.approx(share, abs=0.01)


def test_loss_matches_the_oracle() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(5, 4)).astype(np.float32)
    candidates, items = [2, 3, 5, 8], [3, 8, 2, 3, 5]
    log_q = np.log(rng.uniform(0.1, 1, 4)).astype(np.float32)
    found = sampled_softmax(
        tf.constant(logits), tf.constant(items, tf.int64), tf.constant(candidates, tf.int64), log_q
    )
    np.testing.assert_allclose(found, oracle(logits, items, candidates, log_q), rtol=1e-5)


def test_blocked_candidates_do_not_count_but_the_own_item_does() -> None:
    logits = tf.constant([[1.0, 2.0, 3.0]])
    candidates = tf.constant([1, 2, 3], tf.int64)
    blocked = tf.constant([[True, True, False]])
    found = sampled_softmax(logits, tf.constant([1], tf.int64), candidates, None, blocked)
    assert found.numpy()[0] == pytest.approx(np.log(np.exp(1) + np.exp(3)) - 1, rel=1e-5)


def test_hard_negatives_keep_only_the_hardest() -> None:
    logits = tf.constant([[1.0, 5.0, 3.0, 4.0]])
    candidates = tf.constant([1, 2, 3, 4], tf.int64)
    found = sampled_softmax(logits, tf.constant([3], tf.int64), candidates, None, hard_negatives=2)
    assert found.numpy()[0] == pytest.approx(np.log(np.exp([3, 5, 4]).sum()) - 3, rel=1e-5)


def test_corrected_loss_recovers_the_full_softmax() -> None:
    """The gradient-free check of logQ: at the corrected optimum logits are log-probabilities."""
    rng = np.random.default_rng(2)
    p = np.array([0.7, 0.2, 0.07, 0.03])
    items = rng.choice(4, p=p, size=(3000, 8)) + 1
    log_miss = tf.constant(np.concatenate([[0], np.log1p(-p)]), tf.float32)
    scores = tf.Variable(tf.zeros([5]))

    @tf.function
    def step(batch: tf.Tensor, rate: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            candidates = batch_candidates(batch, 0, 4)
            logits = tf.tile(tf.gather(scores, candidates)[None], [8, 1])
            log_q = inclusion_log_q(log_miss, candidates, tf.constant(8.0), 0, 4)
            loss = tf.reduce_mean(sampled_softmax(logits, batch, candidates, log_q))
        scores.assign_sub(rate * tf.convert_to_tensor(tape.gradient(loss, scores)))

    for i, batch in enumerate(items):
        step(tf.constant(batch, tf.int64), tf.constant(1.0 / (1 + i / 100)))
    learned = tf.nn.softmax(scores[1:]).numpy()
    np.testing.assert_allclose(learned, p, atol=0.03)


def test_correction_rides_along_as_a_dimension() -> None:
    rng = np.random.default_rng(3)
    users, items, log_q = rng.normal(size=(4, 3)), rng.normal(size=(6, 3)), rng.normal(size=6)
    given = [tf.constant(x, tf.float32) for x in (users, items, log_q)]
    left, right = with_correction(given[0], given[1], 0.1, given[2])
    np.testing.assert_allclose(left @ tf.transpose(right), users @ items.T / 0.1 - log_q, rtol=1e-4)
    left, right = with_correction(given[0], given[1], 0.1, None)
    np.testing.assert_allclose(left @ tf.transpose(right), users @ items.T / 0.1, rtol=1e-4)


def test_dot_softmax_equals_tensorflows_own_loss_and_gradients() -> None:
    rng = np.random.default_rng(4)
    users = tf.constant(rng.normal(size=(7, 3)) * 4, tf.float32)
    items = tf.constant(rng.normal(size=(5, 3)) * 4, tf.float32)
    labels = tf.constant([0, 4, 4, 1, 2, 0, 3])
    weight = tf.constant(rng.uniform(0, 2, 7), tf.float32)
    found = []
    for loss in (
        dot_softmax,
        lambda u, v, own: tf.nn.sparse_softmax_cross_entropy_with_logits(
            own, tf.matmul(u, v, transpose_b=True)
        ),
    ):
        with tf.GradientTape() as tape:
            tape.watch([users, items])
            each = loss(users, items, labels)
            total = tf.reduce_sum(each * weight)
        found.append([each, *tape.gradient(total, [users, items])])
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4, rtol=1e-4)
