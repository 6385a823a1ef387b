"""Token noise: what stays is in order and closed up, every part of a text comes as often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from tfrec.features.embed import FeatureEmbedding
from tfrec.features.token_noise import hide_tokens, random_span
from tfrec.schema import Feature

TEXT = np.array([3, 1, 4, 8, 5, 0, 0])


@pytest.fixture(autouse=True)
def _seed() -> None:
    tf.keras.utils.set_random_seed(5)


def kept(row: np.ndarray) -> list[int]:
    """The tokens of a row; fails where padding stands between them."""
    filled = int((row > 0).sum())
    assert (row[:filled] > 0).all()
    return list(row[:filled])


def test_hidden_tokens_close_up_and_go_at_the_stated_rate() -> None:
    texts = np.tile(TEXT, (4000, 1))
    found = hide_tokens(tf.constant(texts), 0.3).numpy()
    lists = [kept(row) for row in found]
    order = list(TEXT)
    assert all(
        [order.index(t) for t in row] == sorted(order.index(t) for t in row) for row in lists
    )
    share = np.mean([len(row) for row in lists]) / 5
    assert share == pytest.approx(0.7, abs=0.015)
    counts = Counter(int(t) for row in lists for t in row)
    assert set(counts) == {1, 3, 4, 5, 8}
    assert min(counts.values()) > 0.66 * 4000


def test_a_text_keeps_a_token_and_an_empty_one_stays_empty() -> None:
    texts = np.array([[7, 0, 0], [2, 9, 0], [0, 0, 0]])
    found = hide_tokens(tf.constant(np.tile(texts, (500, 1))), 0.99).numpy().reshape(500, 3, 3)
    assert (found[:, 0] == [7, 0, 0]).all()
    assert all(len(kept(row)) >= 1 for row in found[:, 1])
    assert {2, 9} == set(found[:, 1, 0])
    assert not found[:, 2].any()


def test_rate_zero_and_leading_axes_change_nothing() -> None:
    cube = np.stack([np.tile(TEXT, (2, 1)), np.tile(TEXT * 0, (2, 1))])
    np.testing.assert_array_equal(hide_tokens(tf.constant(cube), 0.0), cube)
    assert hide_tokens(tf.constant(cube), 0.5).shape == (2, 2, 7)


def test_every_span_of_a_text_comes() -> None:
    found = random_span(tf.constant(np.tile(TEXT, (6000, 1))), 3).numpy()
    assert found.shape == (6000, 3)
    spans = Counter(tuple(kept(row)) for row in found)
    words = [int(t) for t in TEXT[:5]]
    possible = {tuple(words[i : i + n]) for n in (1, 2, 3) for i in range(5 - n + 1)}
    assert set(spans) == possible
    for length in (1, 2, 3):
        of_length = [c for span, c in spans.items() if len(span) == length]
        assert sum(of_length) == pytest.approx(2000, abs=150)
        assert min(of_length) > 0.7 * max(of_length)


def test_spans_of_short_and_empty_texts() -> None:
    found = random_span(tf.constant([[6, 0, 0], [0, 0, 0]], tf.int64), 8).numpy()
    np.testing.assert_array_equal(found, [[6] + [0] * 7, [0] * 8])


def test_an_embedding_hides_tokens_in_training_alone() -> None:
    feature = Feature(name="title", role="item", kind="text", dim=4)
    layer = FeatureEmbedding([feature], {"title": 12}, 3, token_dropout=0.5)
    texts = {"title": tf.constant(np.tile(TEXT, (200, 1)))}
    still = layer(texts).numpy()
    np.testing.assert_allclose(still, np.tile(still[:1], (200, 1)), atol=1e-6)
    moved = layer(texts, training=True).numpy()
    assert len(np.unique(moved.round(4), axis=0)) > 5
    # A part of the same words: never the whole sum, often near it.
    table = layer.vocabulary_tables()["title"][0].numpy()
    kernel = layer._projections["title"].kernel.numpy()
    subsets = [np.array(s) for s in ([3, 1, 4, 8, 5], [3, 1, 4], [8, 5], [4])]
    expected = np.stack([table[s].mean(axis=0) @ kernel for s in subsets])
    assert np.abs(moved[:, None] - expected[None]).max(axis=2).min(axis=0).max() < 1e-5
