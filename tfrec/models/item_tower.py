"""The item tower of the two-tower model: item indices, or described items, to unit vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfrec.features.embed import FeatureEmbedding
from tfrec.features.image_cnn import no_image, present_name, vector_name
from tfrec.features.image_prepare import image_features
from tfrec.schema import ITEM_ID, Feature


class Residual(tf.keras.layers.Layer):
    """Hidden layers around a skip: ``x + Dense(relu(Dense(x)))`` for each width."""

    def __init__(self, widths: Sequence[int], dropout: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._widths = tuple(widths)
        self._drop = tf.keras.layers.Dropout(dropout)

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = int(input_shape[-1])
        self._inner = [tf.keras.layers.Dense(w, activation="relu") for w in self._widths]
        self._outer = [tf.keras.layers.Dense(dim) for _ in self._widths]
        super().build(input_shape)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        for inner, outer in zip(self._inner, self._outer, strict=True):
            x += self._drop(outer(inner(x)), training=training)
        return x


class ItemTower(tf.keras.layers.Layer):
    """Item indices to vectors; the encoded item features are looked up in the catalogue inside.

    The catalogue's variables have an unknown number of rows: an export can be given new items.
    Of images it holds their vectors (``pool_images`` brings them up to date); training alone reads
    the images themselves, which stay outside of weights and exports.

    Args:
        trained: bool [n_items + 1], items whose id has a vector; the others have none.
        token_dropout: share of the tokens of each text that are left out in training.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        sizes: Mapping[str, int],
        catalogue: Mapping[str, np.ndarray],
        dim: int,
        hidden: Sequence[int],
        dropout: float,
        id_dropout: float,
        trained: np.ndarray,
        token_dropout: float = 0.0,
    ) -> None:
        super().__init__(name="item_tower")
        images = image_features(features)
        of_images = [n for f in images for n in (f.name, present_name(f))]
        self.catalogue = {
            name: tf.Variable(
                values[: len(trained)],
                trainable=False,
                shape=[None, *values.shape[1:]],
                name=f"catalogue_{name}",
            )
            for name, values in catalogue.items()
            if name != ITEM_ID and name not in of_images
        }
        for feature in images:
            name = vector_name(feature)
            self.catalogue[name] = tf.Variable(
                tf.zeros([len(trained), feature.dim]),
                trainable=False,
                shape=[None, feature.dim],
                name=f"catalogue_{name}",
            )
        # Behind a function: constants, which neither Keras nor a SavedModel shall keep.
        pixels = {name: tf.constant(catalogue[name][: len(trained)]) for name in of_images}
        self._pixels = lambda: pixels
        self.features = tuple(features)
        self._trained_rows = len(trained)
        self.embed = FeatureEmbedding(
            features,
            sizes,
            dim,
            id_dropout,
            trained,
            token_dropout=token_dropout,
            name="item_features",
        )
        self._hidden = Residual(hidden, dropout, name="item_hidden")

    def represent(self, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Vectors as the history encoder reads them, float32 [item, dim]."""
        rows: dict[str, tf.Tensor] = {}
        for name, values in self.catalogue.items():
            # An item that the catalogue does not hold lacks every feature, as padding does.
            inside = items < tf.shape(values, items.dtype)[0]
            rows[name] = tf.gather(values, tf.where(inside, items, tf.zeros_like(items)))
        if training and self._pixels():
            for feature in image_features(self.features):
                del rows[vector_name(feature)]
            known = tf.where(items < self._trained_rows, items, tf.zeros_like(items))
            rows |= {name: tf.gather(values, known) for name, values in self._pixels().items()}
        rows[ITEM_ID] = items
        return self.embed(rows, training=training)

    def pool_images(self) -> None:
        """Computes the catalogue's image vectors anew from the images; rows added later stay."""
        for feature in image_features(self.features):
            pooled = self.embed.images[feature.name].pool_catalogue(self._pixels())
            kept = self.catalogue[vector_name(feature)]
            kept.assign(tf.concat([pooled, kept[self._trained_rows :]], axis=0))

    def call(self, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Unit vectors, float32 [item, dim], of item indices int64 [item]."""
        return self.finish(self.represent(items, training), training)

    def finish(self, represented: tf.Tensor, training: bool = False) -> tf.Tensor:
        """From what the history encoder reads to unit vectors, both float32 [item, dim]."""
        vectors = self._hidden(represented, training=training)
        return tf.math.l2_normalize(vectors, axis=-1)

    def catalogue_rows(self, items: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Rows of ``catalogue`` for items described by encoded features [batch, ...].

        Features that are not given are missing.
        """
        items, vectors = self._completed(items), {}
        for feature in image_features(self.features):
            vectors[vector_name(feature)] = self.embed.images[feature.name].of(items)
        return {name: {**items, **vectors}[name] for name in self.catalogue}

    def described(self, items: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Unit vectors float32 [batch, dim] of encoded features; those not given are missing."""
        return self.finish(self.embed(self._completed(items)))

    def _completed(self, items: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        batch = tf.shape(items[ITEM_ID])[0]
        for feature in self.features:
            if feature.name not in items and vector_name(feature) not in items:
                items = {**items, **missing(feature, batch)}
        return items


def missing(feature: Feature, batch: tf.Tensor) -> dict[str, tf.Tensor]:
    """The encoded columns of a feature that nobody gave, for ``batch`` rows."""
    if feature.is_lookup:
        shape = [batch, feature.max_length] if feature.is_sequence else [batch]
        return {feature.name: tf.zeros(shape, tf.int64)}
    if feature.kind == "numeric":
        return {
            feature.name: tf.zeros([batch]),
            f"{feature.name}_bucket": tf.zeros([batch], tf.int64),
        }
    if feature.kind == "image":
        return no_image(feature, batch)
    return {feature.name: tf.zeros([batch, feature.dim])}
