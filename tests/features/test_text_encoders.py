"""Text encoders: against a loop over words, blind to padding, silent without words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfrec.features.embed import FeatureEmbedding
from tfrec.features.text_encoders import WIDTHS, TextEncoder
from tfrec.schema import Feature

KINDS = ["mean", "gru", "conv"]
TOKENS = np.array([[3, 1, 4, 1, 5], [2, 0, 0, 0, 0], [0, 0, 0, 0, 0], [9, 2, 6, 0, 0]])


def encoder(kind: str) -> TextEncoder:
    tf.keras.utils.set_random_seed(3)
    layer = TextEncoder(kind, size=12, tail=2, dim=4)
    layer(tf.constant(TOKENS))
    return layer


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind: str) -> None:
    layer = encoder(kind)
    short = layer(tf.constant(TOKENS)).numpy()
    longer = layer(tf.constant(np.pad(TOKENS, [[0, 0], [0, 30]]))).numpy()
    alone = np.concatenate([layer(tf.constant(row[row > 0][None])) for row in TOKENS[[0, 1, 3]]])
    np.testing.assert_allclose(longer, short, atol=1e-6)
    np.testing.assert_allclose(alone, short[[0, 1, 3]], atol=1e-6)
    assert not short[2].any()
    assert np.abs(short[[0, 1, 3]]).sum(axis=1).min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_leading_axes_are_kept(kind: str) -> None:
    layer = encoder(kind)
    cube = np.stack([TOKENS, TOKENS[::-1], TOKENS * 0])
    found = layer(tf.constant(cube)).numpy()
    assert found.shape == (3, 4, layer.width)
    np.testing.assert_allclose(found[0], layer(tf.constant(TOKENS)), atol=1e-6)
    np.testing.assert_allclose(found[1], found[0][::-1], atol=1e-6)
    assert layer(tf.zeros([0, 5], tf.int64)).shape == (0, layer.width)
    assert not layer(tf.zeros([2, 5], tf.int64)).numpy().any()


def test_mean_is_the_mean() -> None:
    layer = encoder("mean")
    table = layer.table.numpy()
    expected = [table[row[row > 0]].mean(axis=0) if row.any() else np.zeros(4) for row in TOKENS]
    np.testing.assert_allclose(layer(tf.constant(TOKENS)), expected, atol=1e-6)


def test_convolution_is_the_largest_answer_of_each_filter() -> None:
    layer = encoder("conv")
    table = layer.table.numpy()
    for row in TOKENS[[0, 1, 3]]:
        vectors = table[row[row > 0]]
        best = []
        for span, conv in zip(WIDTHS, layer._filters, strict=True):
            kernel, bias = (w.numpy() for w in conv.weights)
            left = (span - 1) // 2
            padded = np.pad(vectors, [[left, span - 1 - left], [0, 0]])
            answers = [
                np.einsum("sd,sdf->f", padded[i : i + span], kernel) + bias
                for i in range(len(vectors))
            ]
            best.append(np.maximum(np.max(answers, axis=0), 0))
        np.testing.assert_allclose(
            layer(tf.constant(row[None]))[0], np.concatenate(best), atol=1e-5
        )


def test_order_matters_to_gru_and_convolution_alone() -> None:
    one, other = tf.constant([[1, 2, 3]]), tf.constant([[3, 1, 2]])
    np.testing.assert_allclose(encoder("mean")(one), encoder("mean")(other), atol=1e-6)
    for kind in ("gru", "conv"):
        assert np.abs(encoder(kind)(one) - encoder(kind)(other)).max() > 1e-3


def test_the_tail_and_padding_start_silent_and_learn() -> None:
    layer = encoder("mean")
    assert not layer.table.numpy()[[0, 10, 11]].any()
    assert layer.table.numpy()[1:10].all(axis=1).all()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.constant([[10, 0]])))
    assert tape.gradient(loss, layer.table).indices.numpy().max() == 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_graph_answers_the_same(kind: str, tmp_path: Path) -> None:
    layer = encoder(kind)
    module = tf.Module()
    module.weights = layer.weights
    module.encode = tf.function(
        lambda tokens: layer(tokens),  # noqa: PLW0108 - Keras signs no layer
        input_signature=[tf.TensorSpec([None, 5], tf.int64)],
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    tokens = tf.constant(TOKENS, tf.int64)
    np.testing.assert_allclose(loaded.encode(tokens), layer(tokens), atol=1e-6)


def texts(**changes: Any) -> tuple[Feature, Feature]:
    shape: dict[str, Any] = {"kind": "text", "dim": 4, "max_length": 5, **changes}
    return (
        Feature(name="title", role="item", **shape),
        Feature(name="query", role="context", shares="title", **shape),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_text_lies_in_the_same_place_of_both_sides(kind: str) -> None:
    title, query = texts(encoder=kind)
    sizes = {"title": 12, "query": 12}
    items = FeatureEmbedding([title], sizes, 8)
    asked = FeatureEmbedding([query], sizes, 8, shared=items)
    item = items({"title": tf.constant(TOKENS)})
    np.testing.assert_allclose(asked({"query": tf.constant(TOKENS)}), item, atol=1e-6)
    assert not asked.weights
    alone = FeatureEmbedding([query], sizes, 8)
    alone({"query": tf.constant(TOKENS)})
    assert len(alone.weights) == len(items.weights)
    both = FeatureEmbedding([title, query], sizes, 8)
    twice = both({"title": tf.constant(TOKENS), "query": tf.constant(TOKENS)})
    once = both({"title": tf.constant(TOKENS), "query": tf.constant(TOKENS * 0)})
    np.testing.assert_allclose(twice, 2 * once, atol=1e-5)


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="a text's encoder is mean, gru or conv; got 'bert'"):
        TextEncoder("bert", 3, 1, 2)
