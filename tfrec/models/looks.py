"""What a model sees of items: their embedding and image features as one vector an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.features.image_cnn import ImageEncoder, present_name, vector_name
from tfrec.models.item_tower import missing
from tfrec.schema import ITEM_ID, Feature

KINDS = ("embedding", "image")


class Looks(tf.keras.layers.Layer):
    """Features seen of an item, side by side, float32 [item, width].

    Vectors (brought by the user, or pooled by a frozen application) lose their mean over the items
    that have one and are scaled to a mean square length of 1, so that one learning rate fits all;
    an item without one is at the mean, which is 0. Images without an application pass an
    ``ImageEncoder`` that is trained with the model; its vector ``v`` is kept inside the unit ball,
    ``v / sqrt(1 + |v|^2)``, or it would grow as fast as regularisation shrinks what reads it.

    Args:
        data: the catalogue.
        names: features to see; None takes all of kind ``embedding`` and ``image``.

    Raises:
        ValueError: a name is no such feature of items.
    """

    def __init__(self, data: RetrievalData, names: Sequence[str] | None) -> None:
        super().__init__(name="looks")
        there = {f.name: f for f in data.features.of("item") if f.kind in KINDS}
        wrong = [name for name in names or () if name not in there]
        if wrong:
            raise ValueError(
                f"'visual' names item features of kind embedding or image; got {wrong}; there are "
                f"{sorted(there)}"
            )
        self.features: tuple[Feature, ...] = tuple(there[name] for name in names or there)
        self.images: dict[str, ImageEncoder] = {}
        self.moments: dict[str, tuple[tf.Variable, tf.Variable]] = {}
        self.width = 0
        for feature in self.features:
            if feature.kind == "image" and feature.application is None:
                self.images[feature.name] = ImageEncoder(feature)
                self.images[feature.name].build(None)
                self.width += feature.dim
                continue
            mean, scale = _moments(data.items[feature.name][1 : data.n_items + 1])
            self.moments[feature.name] = (
                self._fixed(f"{feature.name}_mean", mean),
                self._fixed(f"{feature.name}_scale", scale),
            )
            self.width += len(mean)
        names_kept = [n for f in self.features for n in (f.name, present_name(f))]
        rows = {
            n: tf.constant(data.items[n][: data.n_items + 1]) for n in names_kept if n in data.items
        }
        # Behind a function: constants, which neither Keras nor a SavedModel shall keep.
        self._rows = lambda: rows

    def _fixed(self, name: str, value: np.ndarray) -> tf.Variable:
        start = tf.keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=value.shape, initializer=start, trainable=False)

    def known(self, items: tf.Tensor) -> tf.Tensor:
        """Of catalogue items int64 [item], 0..n_items."""
        if not self.features:
            return tf.zeros([tf.shape(items)[0], 0])
        return self({name: tf.gather(values, items) for name, values in self._rows().items()})

    def described(self, items: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Of items given by encoded features (and ``item_id``); those not given are missing."""
        batch = tf.shape(items[ITEM_ID])[0]
        for feature in self.features:
            if feature.name not in items and vector_name(feature) not in items:
                items = {**items, **missing(feature, batch)}
        if not self.features:
            return tf.zeros([batch, 0])
        return self(items)

    def call(self, rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """From encoded features [item, ...]."""
        return tf.concat([self._one(feature, rows) for feature in self.features], axis=1)

    def _one(self, feature: Feature, rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
        if feature.name in self.images:
            vectors = self.images[feature.name].of(rows)
            squares = tf.reduce_sum(vectors**2, axis=1, keepdims=True)
            return vectors * tf.math.rsqrt(1.0 + squares)
        values = rows[feature.name]
        mean, scale = self.moments[feature.name]
        there = tf.reduce_any(tf.not_equal(values, 0.0), axis=1, keepdims=True)
        return tf.where(there, (values - mean) * scale, 0.0)


def _moments(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [dim] and one over the root mean square length about it [], of rows that are not 0."""
    there = vectors[(vectors != 0).any(axis=1)].astype(np.float64)
    if not len(there):
        return np.zeros(vectors.shape[1], np.float32), np.ones((), np.float32)
    mean = there.mean(axis=0)
    length = np.sqrt(((there - mean) ** 2).sum(axis=1).mean())
    return mean.astype(np.float32), np.array(1.0 / max(length, 1e-6), np.float32)
