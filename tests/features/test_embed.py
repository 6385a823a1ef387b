"""FeatureEmbedding: ids without training say nothing, and what is new adds nothing random."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.features.embed import FeatureEmbedding
from tfrec.schema import ITEM_ID, Feature

ID = Feature(name=ITEM_ID, role="item", kind="id", oov_buckets=2)
GENRE = Feature(name="genre", role="item", kind="categorical", dim=3)
SIZES = {ITEM_ID: 6, "genre": 4}  # padding, items 1..3, a tail of two; padding, two genres, a tail


def layer(**options: object) -> FeatureEmbedding:
    made = FeatureEmbedding([ID, GENRE], SIZES, 4, **options)  # type: ignore[arg-type]
    made({ITEM_ID: tf.constant([1], tf.int64), "genre": tf.constant([1], tf.int64)})
    return made


def rows(made: FeatureEmbedding, items: list[int], genre: int) -> np.ndarray:
    genres = tf.fill([len(items)], tf.constant(genre, tf.int64))
    return made({ITEM_ID: tf.constant(items, tf.int64), "genre": genres}).numpy()


def test_unknown_ids_have_the_vector_of_their_features() -> None:
    made = layer(trained=np.array([False, True, True, False]))
    found = rows(made, [1, 2, 3, 0, 4, 5, 6, 99], genre=2)
    content = made._tables["genre"].numpy()[2] @ made._projections["genre"].kernel.numpy()
    for row in found[2:]:  # untrained, padding, tail, and behind it
        np.testing.assert_allclose(row, content, atol=1e-6)
    own = made._tables[ITEM_ID].numpy()[1:3]
    np.testing.assert_allclose(found[:2], own + content, atol=1e-6)
    assert np.abs(own).min() > 0


def test_a_hidden_id_learns_nothing_and_the_features_do() -> None:
    made = layer(id_dropout=1.0)
    inputs = {ITEM_ID: tf.constant([1, 2], tf.int64), "genre": tf.constant([1, 2], tf.int64)}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(made(inputs, training=True) ** 2)
    tables = [made._tables[ITEM_ID], made._tables["genre"]]
    ids, genres = (tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, tables))
    assert np.abs(ids).max() == 0
    assert np.abs(genres[1:3]).max() > 0


def test_tables_are_named_by_their_vocabulary() -> None:
    made = layer()
    tables = made.vocabulary_tables()
    assert set(tables) == {ITEM_ID, "genre"}
    assert [tuple(v.shape) for v in tables[ITEM_ID]] == [(6, 4), (6,)]
    assert made.id_known.numpy().tolist() == [0, 1, 1, 1, 0, 0]


def test_a_value_that_training_never_met_says_nothing() -> None:
    made = layer()
    nothing = rows(made, [0], genre=0)
    np.testing.assert_array_equal(rows(made, [0], genre=3), nothing)  # the hashed tail
    assert np.abs(rows(made, [0], genre=1) - nothing).max() > 1e-3


def test_the_absence_of_a_number_says_nothing_until_it_is_met() -> None:
    price = Feature(name="price", role="item", kind="numeric")
    made = FeatureEmbedding([price], {}, 4)

    def vector(value: float, bucket: int) -> np.ndarray:
        inputs = {"price": tf.constant([value]), "price_bucket": tf.constant([bucket], tf.int64)}
        return made(inputs).numpy()[0]

    np.testing.assert_array_equal(vector(0.0, 0), 0.0)
    np.testing.assert_array_equal(vector(0.0, 3), 0.0)  # the mean
    kernel = made._projections["price"].kernel
    np.testing.assert_allclose(vector(2.0, 3), 2 * kernel[0] + 4 * kernel[1], atol=1e-6)
    kernel.assign(tf.ones_like(kernel))
    np.testing.assert_array_equal(vector(0.0, 0), 1.0)  # what training learned of missing prices
