"""The deep belief net on bars: patterns that a generative model must draw, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfrec.models.dbn import DeepBeliefNet

SIDE = 4


def bars(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of one full row (label 0) or one full column (label 1), float32 [n, 16]."""
    random = np.random.default_rng(seed)
    label, at = random.integers(0, 2, n), random.integers(0, SIDE, n)
    pictures = np.zeros((n, SIDE, SIDE), np.float32)
    pictures[np.arange(n), at, :] = 1.0
    pictures[label == 1] = pictures[label == 1].transpose(0, 2, 1)
    return pictures.reshape(n, -1), label


def distance(pictures: np.ndarray, label: int) -> np.ndarray:
    """Squared distance of each picture to the nearest bar of a label."""
    one, kind = bars(200)
    every = np.unique(one[kind == label], axis=0)
    return ((pictures[:, None, :] - every[None]) ** 2).sum(axis=2).min(axis=1)


@pytest.fixture(scope="module")
def trained() -> DeepBeliefNet:
    pictures, labels = bars(400)
    net = DeepBeliefNet([16, 24, 32], n_labels=2)
    start = net.reconstruction_error(pictures)
    net.pretrain(pictures, labels, epochs=60, batch_size=40, learning_rate=0.1)
    assert net.reconstruction_error(pictures) < 0.5 * start
    net.up_down(pictures, labels, epochs=20, batch_size=40, learning_rate=0.02)
    return net


def test_draws_the_class_it_is_asked_for(trained: DeepBeliefNet) -> None:
    for label in (0, 1):
        drawn = trained.generate(np.full(60, label), steps=200)
        mine, other = distance(drawn, label), distance(drawn, 1 - label)
        assert (mine < other).mean() > 0.8
        assert mine.mean() < 1.5


def test_draws_more_than_one_picture(trained: DeepBeliefNet) -> None:
    drawn = trained.generate(np.zeros(60, int), steps=200)
    assert len(np.unique(drawn.reshape(-1, SIDE, SIDE).sum(axis=2).argmax(axis=1))) >= 3


def test_tells_the_classes_apart(trained: DeepBeliefNet) -> None:
    pictures, labels = bars(100, seed=9)
    assert (trained.classify(pictures) == labels).mean() > 0.9


def test_up_down_unties_the_weights(trained: DeepBeliefNet) -> None:
    assert np.abs(trained.layers[0].w.numpy() - trained.down_w[0].numpy()).max() > 1e-3


def surprise(bits: tf.Tensor, scores: tf.Tensor) -> float:
    """Mean cross-entropy of units given the scores of their chances."""
    return float(tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(bits, scores)))


def test_up_down_teaches_either_pass_by_the_other() -> None:
    """Forgotten weights down are learned from states going up, forgotten weights up from dreams."""
    pictures, labels = bars(400)
    tuning = {"epochs": 10, "batch_size": 40, "learning_rate": 0.03}
    net = DeepBeliefNet([16, 24, 32], n_labels=2)
    net.pretrain(pictures, labels, epochs=30, batch_size=40)
    layer, kept = net.layers[0], tf.identity(net.layers[0].w)

    states = net.up(tf.constant(pictures), sample=True)

    def down() -> tf.Tensor:
        return tf.matmul(states, net.down_w[0], transpose_b=True) + layer.b

    net.down_w[0].assign(tf.zeros_like(kept))
    before = surprise(pictures, down())
    net.up_down(pictures, labels, **tuning)  # type: ignore[arg-type]
    assert surprise(pictures, down()) < 0.8 * before

    net.down_w[0].assign(kept)
    classes = tf.constant(labels, tf.int32)
    dreamt = net.top_gibbs(net._with_labels(states, classes), 20)[:, :24]
    dreams = tf.round(tf.sigmoid(tf.matmul(dreamt, kept, transpose_b=True) + layer.b))

    def up() -> tf.Tensor:
        return tf.matmul(dreams, layer.w) + layer.c

    layer.w.assign(tf.zeros_like(kept))
    before = surprise(dreamt, up())
    net.up_down(pictures, labels, **tuning)  # type: ignore[arg-type]
    assert surprise(dreamt, up()) < 0.8 * before


def test_net_without_labels_draws_freely() -> None:
    pictures, _ = bars(80)
    net = DeepBeliefNet([16, 8])
    gaps = net.pretrain(pictures, epochs=2, batch_size=40)
    assert len(gaps) == 1
    assert len(gaps[0]) == 2
    assert net.generate(n=5, steps=3).shape == (5, 16)
    with pytest.raises(TypeError, match="no labels"):
        net.classify(pictures)


def test_bad_data_is_refused() -> None:
    pictures, labels = bars(8)
    with pytest.raises(ValueError, match="at least two layers"):
        DeepBeliefNet([16])
    net = DeepBeliefNet([16, 8], n_labels=2)
    with pytest.raises(ValueError, match="chances in"):
        net.pretrain(pictures * 2, labels)
    with pytest.raises(ValueError, match="pass labels exactly"):
        net.pretrain(pictures)
    with pytest.raises(ValueError, match=r"data is \[row, 16\]"):
        net.pretrain(pictures[:, :4], labels)
