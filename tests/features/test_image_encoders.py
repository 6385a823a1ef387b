"""Images to vectors: the small network, frozen applications, and items without an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.pictures import LOOK, picture, shop
from tfrec.features.embed import FeatureEmbedding
from tfrec.features.image_cnn import ImageEncoder, no_image
from tfrec.features.image_frozen import pool_images
from tfrec.schema import APPLICATION_WIDTHS, Feature

FROZEN: dict[str, Any] = {
    "application": "MobileNetV2",
    "weights": "random",
    "height": 32,
    "width": 32,
}
PIXELS = np.stack([picture(i % 2, i) for i in range(6)])


def test_vectors_do_not_depend_on_the_batch() -> None:
    encoder = ImageEncoder(Feature(**LOOK))
    together = encoder(PIXELS, np.ones(6, np.int64)).numpy()
    alone = [encoder(PIXELS[i : i + 1], np.ones(1, np.int64)).numpy()[0] for i in range(6)]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.ptp(together, axis=0).max() > 1e-3
    rows = {"look": PIXELS, "look_present": np.ones(6, np.int64)}
    np.testing.assert_allclose(encoder.pool_catalogue(rows), together, atol=1e-6)
    np.testing.assert_array_equal(encoder.of({"look_vector": together}), together)


def test_a_missing_image_has_a_learned_vector() -> None:
    encoder = ImageEncoder(Feature(**LOOK))
    present = tf.constant([1, 0, 1, 0, 1, 1], tf.int64)
    with tf.GradientTape() as tape:
        out = encoder(PIXELS, present)
        total = tf.reduce_sum(out)
    missing = encoder._missing
    np.testing.assert_array_equal(tape.gradient(total, missing), np.full(4, 2.0))
    missing.assign([1.0, 2.0, 3.0, 4.0])
    out = encoder(PIXELS, present).numpy()
    np.testing.assert_allclose(out[[1, 3]], [[1, 2, 3, 4]] * 2)
    # What the pixels of a missing image hold does not matter.
    np.testing.assert_allclose(encoder(255 - PIXELS, present).numpy()[1], [1, 2, 3, 4])


def test_the_sum_of_a_side_holds_the_image() -> None:
    feature = Feature(**LOOK)
    side = FeatureEmbedding([feature], {}, 3)
    inputs = {"look": tf.constant(PIXELS), "look_present": tf.ones([6], tf.int64)}
    found = side(inputs)
    vectors = side.images["look"].of(inputs)
    np.testing.assert_allclose(found, side._projections["look"](vectors), atol=1e-6)
    assert len(side.trainable_variables) == 2 * 3 + 2 + 1 + 1
    absent = side(no_image(feature, tf.constant(2)))
    np.testing.assert_allclose(
        absent,
        side._projections["look"](side.images["look"]._missing[None]).numpy().repeat(2, 0),
        atol=1e-6,
    )


def test_a_frozen_application_pools_and_reads_weights(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    network = tf.keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    path = tmp_path / "net.h5"
    network.save_weights(str(path))
    feature = Feature(**{**LOOK, **FROZEN, "weights": str(path)})
    expected = network(pixels.astype(np.float32) / 127.5 - 1.0, training=False)
    found = pool_images(pixels, feature)
    assert found.shape == (3, *feature.image_shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    missing = Feature(**{**LOOK, **FROZEN, "weights": str(tmp_path / "none.h5")})
    with pytest.raises(ValueError, match=r"include_top=False.*nothing is fetched"):
        pool_images(pixels, missing)
    other = Feature(**{**LOOK, **FROZEN, "application": "MobileNet", "weights": str(path)})
    with pytest.raises(ValueError, match="holds no weights of MobileNet"):
        pool_images(pixels, other)


def test_a_frozen_application_is_an_embedding_from_preparation_on(tmp_path: Path) -> None:
    data, _ = shop(tmp_path, n_users=12, n_items=24, n_cold=4, lacking=(3,), **FROZEN)
    looks = data.items["look"]
    assert looks.shape == (26, 1280)
    assert looks.dtype == np.float32
    there = data.items["look_present"] > 0
    assert there.sum() == 23
    assert (np.abs(looks[there]).sum(axis=1) > 0).all()
    assert not looks[~there].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(APPLICATION_WIDTHS))
def test_widths_of_the_applications(name: str) -> None:
    feature = Feature(
        **{**LOOK, "application": name, "weights": "random", "height": 96, "width": 96}
    )
    assert pool_images(np.zeros((1, 96, 96, 3), np.uint8), feature).shape[1:] == feature.image_shape
