"""Frozen Keras applications: pixels to pooled vectors, once, in preparation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.schema import Feature

BLOCK = 32  # images a step


def pool_images(pixels: np.ndarray, feature: Feature) -> np.ndarray:
    """Pooled vectors of a feature's application.

    Args:
        pixels: uint8 [image, height, width, 3].
        feature: of kind ``image`` with ``application`` and ``weights``.

    Returns:
        float32 [image, length], the mean over places of the network's last feature map.

    Raises:
        ValueError: the weights file is missing or belongs to another network, or the network
            takes no images of this size.
    """
    out = np.zeros((len(pixels), *feature.image_shape), np.float32)
    run = _network(feature.application, feature.weights, feature.height, feature.width)
    for at in range(0, len(pixels), BLOCK):
        out[at : at + BLOCK] = run(tf.constant(pixels[at : at + BLOCK])).numpy()
    return out


def _application(name: str) -> tuple[Callable[..., Any], Callable[[tf.Tensor], tf.Tensor]]:
    """The constructor of an application, and what its pixels go through first.

    ``preprocess_input`` lies in the network's module. Not every module holds the constructor, too
    (MobileNetV3's does not), so the module is found by the constructor and not the other way.
    """
    build = getattr(tf.keras.applications, name, None)
    module = getattr(tf.keras.applications, getattr(build, "__module__", "").split(".")[-1], None)
    if build is None or module is None:
        raise ValueError(
            f"tf.keras.applications has no {name!r}; update TensorFlow or choose another"
        )
    return build, module.preprocess_input


@functools.lru_cache(maxsize=2)
def _network(name: str, weights: str, height: int, width: int) -> Any:
    """A traced function from uint8 [image, height, width, 3] to float32 [image, length]."""
    if weights != "random" and not Path(weights).is_file():
        raise ValueError(
            f"weights of {name} are a local file made with include_top=False (as "
            f"model.save_weights writes it); {weights!r} is none; nothing is fetched"
        )
    build, preprocess = _application(name)
    if weights == "random":
        tf.keras.utils.set_random_seed(0)
    try:
        network = build(
            include_top=False, weights=None, input_shape=(height, width, 3), pooling="avg"
        )
    except ValueError as error:
        raise ValueError(
            f"{name} takes no images of {height} x {width}: {error}; mend 'height' and 'width'"
        ) from None
    if weights != "random":
        try:
            network.load_weights(weights)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(
                f"{weights!r} holds no weights of {name} without its top: {error}"
            ) from None

    @tf.function(input_signature=[tf.TensorSpec([None, height, width, 3], tf.uint8)])
    def run(pixels: tf.Tensor) -> tf.Tensor:
        return network(preprocess(tf.cast(pixels, tf.float32)), training=False)

    return run
