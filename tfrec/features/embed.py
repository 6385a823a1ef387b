"""Embedding layers: encoded features of one side to one vector a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfrec.features.image_cnn import ImageEncoder
from tfrec.features.text_encoders import TextEncoder
from tfrec.features.token_noise import hide_tokens
from tfrec.schema import Feature


def masked_mean(vectors: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """Mean over axis -2 of the rows where ``present`` is True; zeros where none is.

    Args:
        vectors: float32 [..., n, dim].
        present: bool [..., n].
    """
    weight = tf.cast(present, vectors.dtype)[..., tf.newaxis]
    total = tf.reduce_sum(vectors * weight, axis=-2)
    return total / tf.maximum(tf.reduce_sum(weight, axis=-2), 1.0)


class _SilentTail(tf.keras.initializers.Initializer):
    """Normal values, but zeros for padding and the hashed tail.

    A value that training never met says nothing then, instead of something at random; where the
    tail does occur in training (``min_count``, ``max_vocabulary``) it learns from there.
    """

    def __init__(self, stddev: float, tail: int) -> None:
        self.stddev, self.tail = stddev, tail

    def __call__(
        self, shape: Sequence[int], dtype: tf.DType | None = None, **kwargs: object
    ) -> tf.Tensor:
        rows = tf.range(shape[0])
        kept = (rows > 0) & (rows < shape[0] - self.tail)
        values = tf.random.normal(shape, stddev=self.stddev, dtype=dtype or tf.float32)
        return values * tf.cast(kept, values.dtype)[:, tf.newaxis]


class _SilentRows(tf.keras.initializers.Initializer):
    """Of a table: zeros in the rows that ``known`` [rows], 0 or 1, denies."""

    def __init__(self, others: tf.keras.initializers.Initializer, known: np.ndarray) -> None:
        self.others, self.known = others, known

    def __call__(
        self, shape: Sequence[int], dtype: tf.DType | None = None, **kwargs: object
    ) -> tf.Tensor:
        values = self.others(shape, dtype=dtype or tf.float32)
        return values * tf.constant(self.known, values.dtype)[:, tf.newaxis]


class _SilentAbsence(tf.keras.initializers.Initializer):
    """Of a number's kernel [3, dim]: the row of its absence is zero until training meets one.

    A flag of presence would be a bias that every trained row has and a row without the number
    lacks: it would land far from all others, for no reason in the data.
    """

    def __init__(self, others: tf.keras.initializers.Initializer) -> None:
        self.others = others

    def __call__(
        self, shape: Sequence[int], dtype: tf.DType | None = None, **kwargs: object
    ) -> tf.Tensor:
        values = self.others(shape, dtype=dtype or tf.float32)
        return values * tf.constant([[1.0], [1.0], [0.0]], values.dtype)


def _projection(feature: Feature, stddev: float | None) -> tf.keras.initializers.Initializer:
    """First values of a feature's projection."""
    first: tf.keras.initializers.Initializer = tf.keras.initializers.GlorotUniform()
    if feature.kind == "text":
        # Words that begin far from each other stay so: a search finds what holds them at once.
        first = tf.keras.initializers.Orthogonal()
    if stddev is not None:
        first = tf.keras.initializers.RandomNormal(stddev=stddev)
    return _SilentAbsence(first) if feature.kind == "numeric" else first


class FeatureEmbedding(tf.keras.layers.Layer):
    """Sums the projections of all features of one side.

    Each lookup feature has a table of width ``feature.dim`` (values of a row averaged), each number
    enters as itself, its square and its absence, each vector as it is, each image by an
    ``ImageEncoder``; all are projected to ``dim`` and added. A sum, not a concatenation: a feature
    can be left out, or be missing for a row, without changing the scale of the rest.

    A text is encoded as its feature says (``TextEncoder``). One that shares another text's
    vocabulary is read by that text's encoder and projection, on this side or in ``shared``: equal
    words lie in equal places of both towers from the start, so a query finds a title that no
    training event ever brought together with it.

    An id counts only where training gives it a meaning: padding, the hashed tail, indices behind
    it (items added to an exported catalogue) and ids that ``trained`` denies have a vector of
    zeros, so that the attributes alone place them. A tail row of random numbers would not.

    Args:
        features: the side's features, ids included.
        sizes: encoded indices of each lookup feature.
        dim: width of the result.
        id_dropout: share of rows whose id is hidden (as if unknown) in training, so that
            attributes alone learn to place users and items never seen (DropoutNet, Volkovs 2017).
        trained: bool [rows], which id indices have training events; rows behind it have none. None
            takes all of the vocabulary.
        projection_stddev: of the projections' first values; None is Glorot's uniform.
        shared: another side, built before this one, whose texts this side's features may share.
        token_dropout: share of the tokens of each text that are left out in training, so that no
            text is known by one of its words alone.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        sizes: Mapping[str, int],
        dim: int,
        id_dropout: float = 0.0,
        trained: np.ndarray | None = None,
        projection_stddev: float | None = None,
        shared: FeatureEmbedding | None = None,
        token_dropout: float = 0.0,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.features = tuple(features)
        self.dim = dim
        self.id_dropout, self.token_dropout = id_dropout, token_dropout
        self._trained, self._stddev = trained, projection_stddev
        self._size = dict(sizes)
        self._tables: dict[str, tf.Variable] = {}
        self._texts: dict[str, TextEncoder] = {}
        self._projections: dict[str, tf.keras.layers.Dense] = {}
        self.images: dict[str, ImageEncoder] = {}
        # Behind a function, or Keras would count the other side's weights as this side's too.
        self._shared = lambda: shared

    def _owner(self, feature: Feature) -> FeatureEmbedding:
        """The side that holds a feature's encoder and projection."""
        other = self._shared()
        names = () if other is None else [f.name for f in other.features]
        return other if other is not None and feature.shares in names else self

    def _kept_as(self, feature: Feature) -> str:
        """Under which name they are kept there."""
        names = [f.name for f in self._owner(feature).features]
        return feature.shares if feature.shares in names else feature.name

    def build(self, input_shape: object) -> None:
        for feature in self.features:
            if self._owner(feature) is not self or self._kept_as(feature) != feature.name:
                continue
            if feature.kind == "text":
                self._texts[feature.name] = TextEncoder.of(
                    feature, self._size[feature.name], name=f"{feature.name}_text"
                )
            elif feature.kind == "image":
                self.images[feature.name] = ImageEncoder(feature)
                self.images[feature.name].build(None)
            elif feature.is_lookup:
                # An id is a vector of the tower's own width and needs no projection.
                width = self.dim if feature.kind == "id" else feature.dim
                first: tf.keras.initializers.Initializer
                first = _SilentTail(width**-0.5, feature.oov_buckets)
                if feature.kind == "id":
                    known = self._known(feature)
                    # A later training that starts from these weights may come to know such an id.
                    first = _SilentRows(first, known)
                self._tables[feature.name] = self.add_weight(
                    name=f"{feature.name}_table",
                    shape=[self._size[feature.name], width],
                    initializer=first,
                )
            if feature.kind == "id":
                self.id_known = self.add_weight(
                    name=f"{feature.name}_known",
                    shape=[self._size[feature.name]],
                    initializer=tf.keras.initializers.Constant(known),
                    trainable=False,
                )
            else:
                self._projections[feature.name] = tf.keras.layers.Dense(
                    self.dim,
                    use_bias=False,
                    kernel_initializer=_projection(feature, self._stddev),
                    name=f"{feature.name}_projection",
                )
        super().build(input_shape)

    def _known(self, feature: Feature) -> np.ndarray:
        """One where an id has a vector of its own, float32 [size]."""
        known = np.ones(self._size[feature.name], np.float32)
        known[0] = 0.0
        known[len(known) - feature.oov_buckets :] = 0.0
        if self._trained is not None:
            rows = min(len(known), len(self._trained))
            known[:rows] *= self._trained[:rows]
            known[rows:] = 0.0
        return known

    def vocabulary_tables(self) -> dict[str, list[tf.Variable]]:
        """Variables whose rows are the indices of a vocabulary, by the feature's name."""
        tables = {name: [table] for name, table in self._tables.items()}
        tables |= {name: [text.table] for name, text in self._texts.items()}
        for feature in self.features:
            if feature.kind == "id":
                tables[feature.name].append(self.id_known)
        return tables

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Encoded features [..., n for multi and text] to float32 [..., dim]."""
        return tf.add_n([self._one(f, inputs, training) for f in self.features])

    def _one(self, feature: Feature, inputs: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        if feature.kind == "image":
            vectors = self.images[feature.name].of(inputs)
            return self._projections[feature.name](vectors)
        values = inputs[feature.name]
        if feature.kind == "id":
            # The last row is of the tail, which is never known.
            values = tf.minimum(values, self._size[feature.name] - 1)
            vectors = tf.gather(self._tables[feature.name], values)
            known = tf.gather(self.id_known, values)
            if training and self.id_dropout:
                keep = tf.random.uniform(tf.shape(values)) >= self.id_dropout
                known *= tf.cast(keep, tf.float32)
            return vectors * known[..., tf.newaxis]
        if feature.kind == "text":
            owner, name = self._owner(feature), self._kept_as(feature)
            if training and self.token_dropout:
                values = hide_tokens(values, self.token_dropout)
            return owner._projections[name](owner._texts[name](values))
        if feature.is_lookup:
            vectors = tf.gather(self._tables[feature.name], values)
            if feature.is_sequence:
                vectors = masked_mean(vectors, values > 0)
            else:
                vectors *= tf.cast(values > 0, tf.float32)[..., tf.newaxis]
        elif feature.kind == "numeric":
            absent = tf.cast(tf.equal(inputs[f"{feature.name}_bucket"], 0), tf.float32)
            # Changes nothing but numbers of transform ``none``, which come as they are.
            bounded = tf.clip_by_value(values, -feature.clip, feature.clip)
            vectors = tf.stack([bounded, tf.square(bounded), absent], axis=-1)
        else:
            vectors = values
        return self._projections[feature.name](vectors)
