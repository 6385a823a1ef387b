"""Encoders: raw columns in, encoded features out, as a module that an export can carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfrec.features.encode import Raw, decode_prepared, encode
from tfrec.features.fitted import FittedAnalyzer
from tfrec.features.image_prepare import image_features
from tfrec.schema import HISTORY, Feature, FeatureTable


class Encoder(Protocol):
    """What models, trainers and exports need of an encoder.

    Attributes:
        features: the feature table.
        history_length: H of ``history``.
        sizes: encoded indices (padding and tail included) of each lookup feature.
    """

    features: FeatureTable
    history_length: int
    sizes: dict[str, int]

    def __call__(self, raw: Raw) -> dict[str, tf.Tensor]:
        """Encodes the raw columns that are there; see ``tfrec.features.encode.encode``."""

    def vocabulary(self, name: str) -> np.ndarray:
        """Values of a lookup feature by index, object [V + 1]; entry 0 is ''."""


class FittedEncoder(tf.Module):
    """Encoder over statistics that ``tfrec.features.fit.fit_encoder`` wrote into a folder."""

    def __init__(self, folder: str | Path, features: FeatureTable, history_length: int) -> None:
        super().__init__(name="fitted_encoder")
        self.features = features
        self.history_length = history_length
        self.analyzer = FittedAnalyzer(folder, features)
        self.sizes = dict(self.analyzer.sizes)

    def __call__(self, raw: Raw) -> dict[str, tf.Tensor]:
        return encode(raw, self.features, self.analyzer, self.history_length)

    def vocabulary(self, name: str) -> np.ndarray:
        return self.analyzer.vocabulary(name)


class TransformEncoder(tf.Module):
    """Encoder over the graph that TFX Transform wrote (``transform_output`` is its folder)."""

    def __init__(self, transform_output: str, features: FeatureTable, history_length: int) -> None:
        super().__init__(name="transform_encoder")
        import tensorflow_transform as tft

        output = tft.TFTransformOutput(transform_output)
        self.features = features
        self.history_length = history_length
        self.layer = output.transform_features_layer()
        self._spec: Mapping[str, Any] = output.raw_feature_spec()
        self._vocabularies = {f.name: _read_vocabulary(output, f) for f in features if f.is_lookup}
        self.sizes = {
            f.name: len(self._vocabularies[f.name]) + f.oov_buckets for f in features if f.is_lookup
        }

    def __call__(self, raw: Raw) -> dict[str, tf.Tensor]:
        inputs = {
            name: self._as_transform_input(name, values)
            for name, values in raw.items()
            if name in self._spec
        }
        encoded = dict(self.layer(inputs))
        for feature in image_features(self.features):
            if feature.name in encoded:  # Transform hands prepared images on as they are
                encoded.update(decode_prepared(feature, encoded[feature.name]))
        return encoded

    def vocabulary(self, name: str) -> np.ndarray:
        return self._vocabularies[name]

    def _as_transform_input(self, name: str, values: Any) -> Any:
        """Brings a dense tensor into the layout that the transform graph was built with."""
        spec = self._spec[name]
        if isinstance(spec, tf.io.FixedLenFeature):
            if len(spec.shape) == 1 and values.shape.rank == 1:
                return values[:, tf.newaxis]
            return values
        if isinstance(values, tf.SparseTensor | tf.RaggedTensor):
            return values
        if values.shape.rank == 1:
            values = values[:, tf.newaxis]
        sparse = _present(values)
        if isinstance(spec, tf.io.RaggedFeature):
            return tf.RaggedTensor.from_sparse(sparse)
        return sparse


def _present(values: tf.Tensor) -> tf.SparseTensor:
    """The values that are there: texts other than '', and all finite numbers (0 is one)."""
    if not values.dtype.is_floating:
        return tf.sparse.from_dense(values)
    at = tf.where(tf.math.is_finite(values))
    return tf.SparseTensor(at, tf.gather_nd(values, at), tf.shape(values, tf.int64))


def _read_vocabulary(output: Any, feature: Feature) -> np.ndarray:
    values = [value.decode() for value in output.vocabulary_by_name(feature.vocabulary)]
    return np.array(["", *values], dtype=object)


def raw_specs(features: Iterable[Feature], history: bool) -> dict[str, tf.TensorSpec]:
    """Plain-tensor inputs of a signature: one named tensor a raw column.

    Strings [batch] for ids, categories and text; strings [batch, n] for multi-valued features and
    ``history``; float32 [batch] for numbers; float32 [batch, dim] for vectors.
    """
    specs: dict[str, tf.TensorSpec] = {}
    for feature in features:
        if feature.kind == "numeric":
            specs[feature.name] = tf.TensorSpec([None], tf.float32, feature.name)
        elif feature.kind == "embedding":
            specs[feature.name] = tf.TensorSpec([None, feature.dim], tf.float32, feature.name)
        elif feature.kind == "multi":
            specs[feature.name] = tf.TensorSpec([None, None], tf.string, feature.name)
        else:
            specs[feature.name] = tf.TensorSpec([None], tf.string, feature.name)
    if history:
        specs[HISTORY] = tf.TensorSpec([None, None], tf.string, HISTORY)
    return specs


def parse_examples(
    serialized: tf.Tensor, features: Iterable[Feature], history: bool
) -> dict[str, tf.Tensor]:
    """Raw columns out of serialized tf.Examples; absent values are '' and NaN.

    Args:
        serialized: string [batch].
        features: the columns to read.
        history: whether to read ``history``, a list of item ids, oldest first.
    """
    spec: dict[str, Any] = {}
    for name, tensor in raw_specs(features, history).items():
        if tensor.dtype == tf.float32:
            width = tensor.shape[1:]
            default = np.full(width, np.nan, np.float32) if width else np.nan
            spec[name] = tf.io.FixedLenFeature(width, tf.float32, default)
        elif tensor.shape.rank == 1:
            spec[name] = tf.io.FixedLenFeature([], tf.string, "")
        else:
            spec[name] = tf.io.RaggedFeature(tf.string)
    parsed = tf.io.parse_example(serialized, spec)
    return {
        name: value.to_tensor(default_value="") if isinstance(value, tf.RaggedTensor) else value
        for name, value in parsed.items()
    }
