"""Encoded images to vectors: a small network trained with the model, or a projection of a pooled
vector that a frozen network made in preparation; items without an image share a learned vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfrec.schema import Feature

FILTERS = (16, 32, 64)  # of the strided 3 x 3 convolutions
POOL_BLOCK = 512  # images that ``pool_catalogue`` takes at a time


def present_name(feature: Feature) -> str:
    """Encoded column that says whether an item has the image: int64 [batch], 1 or 0."""
    return f"{feature.name}_present"


def vector_name(feature: Feature) -> str:
    """Input that may stand for the image: its vector of an ``ImageEncoder``, [batch, dim]."""
    return f"{feature.name}_vector"


class ImageEncoder(tf.keras.layers.Layer):
    """One image feature to vectors of width ``feature.dim``.

    Pixels pass three strided convolutions (3 x 3, ReLU) and the mean over all places; a pooled
    vector of a frozen application is scaled to unit length. A linear layer follows. No batch
    normalisation: an item's vector does not depend on who shares its batch.

    Args:
        feature: of kind ``image``.
    """

    def __init__(self, feature: Feature, **kwargs: object) -> None:
        super().__init__(name=f"{feature.name}_image", **kwargs)
        self.feature = feature

    def build(self, input_shape: object) -> None:
        self._convolutions: list[tf.keras.layers.Conv2D] = []
        shape = tf.TensorShape([None, *self.feature.image_shape])
        if self.feature.application is None:
            for filters in FILTERS:
                layer = tf.keras.layers.Conv2D(
                    filters, 3, 2, "same", activation="relu", kernel_initializer="he_uniform"
                )
                layer.build(shape)
                shape = layer.compute_output_shape(shape)
                self._convolutions.append(layer)
        self._project = tf.keras.layers.Dense(self.feature.dim)
        self._project.build([None, shape[-1]])
        self._missing = self.add_weight(
            name="missing", shape=[self.feature.dim], initializer="zeros"
        )
        super().build(input_shape)

    def call(self, images: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """Vectors float32 [batch, dim].

        Args:
            images: uint8 [batch, height, width, 3], or float32 [batch, length] of an application.
            present: int64 [batch]; where 0 the image does not count.
        """
        if self.feature.application is None:
            hidden = tf.cast(images, tf.float32) / 127.5 - 1.0
            for layer in self._convolutions:
                hidden = layer(hidden)
            hidden = tf.reduce_mean(hidden, axis=[1, 2])
        else:
            hidden = tf.math.l2_normalize(tf.cast(images, tf.float32), axis=-1)
        there = tf.cast(present, tf.float32)[:, tf.newaxis]
        return there * self._project(hidden) + (1.0 - there) * self._missing

    def of(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Vectors of encoded inputs; a ready-made vector (``vector_name``) goes through."""
        if vector_name(self.feature) in inputs:
            return inputs[vector_name(self.feature)]
        return self(inputs[self.feature.name], inputs[present_name(self.feature)])

    def pool_catalogue(self, rows: Mapping[str, np.ndarray | tf.Tensor]) -> tf.Tensor:
        """Vectors of many items, float32 [row, dim], a block at a time.

        Args:
            rows: the encoded feature and its presence for every row.
        """
        images, present = rows[self.feature.name], rows[present_name(self.feature)]
        blocks = [
            self(images[at : at + POOL_BLOCK], present[at : at + POOL_BLOCK])
            for at in range(0, int(present.shape[0]), POOL_BLOCK)
        ]
        return tf.concat(blocks, axis=0)


def no_image(feature: Feature, batch: tf.Tensor) -> dict[str, tf.Tensor]:
    """The encoded columns of ``batch`` items without the image."""
    kind = tf.uint8 if feature.application is None else tf.float32
    return {
        feature.name: tf.zeros([batch, *feature.image_shape], kind),
        present_name(feature): tf.zeros([batch], tf.int64),
    }
