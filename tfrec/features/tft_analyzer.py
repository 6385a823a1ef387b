"""Vocabularies and moments found by Beam: encoding inside TFX Transform.

The only file of the room that touches tensorflow_transform, and only when called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tfrec.features.encode import dense_strings, encode
from tfrec.features.image_prepare import image_features
from tfrec.schema import Feature, FeatureTable


class TftAnalyzer:
    """An ``Analyzer`` of Transform's deferred tensors; each vocabulary is found once."""

    def __init__(self) -> None:
        import tensorflow_transform as tft

        self._tft = tft
        self._vocabularies: dict[str, Any] = {}

    def lookup(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        if feature.shares is None and feature.name not in self._vocabularies:
            self._vocabularies[feature.name] = self._tft.vocabulary(
                tf.reshape(values, [-1]),
                top_k=feature.max_vocabulary,
                frequency_threshold=feature.min_count if feature.min_count > 1 else None,
                vocab_filename=feature.name,
            )
        indices = self._tft.apply_vocabulary(
            values,
            self._vocabularies[feature.vocabulary],
            num_oov_buckets=feature.oov_buckets,
        )
        indices = tf.cast(indices, tf.int64) + 1
        return tf.where(tf.equal(values, ""), tf.zeros_like(indices), indices)

    def moments(self, feature: Feature, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        present = tf.boolean_mask(values, tf.math.is_finite(values))
        mean, variance = self._tft.mean(present), self._tft.var(present)
        # A column without a single number has NaN moments; it encodes as 0 all the same.
        mean = tf.where(tf.math.is_finite(mean), mean, 0.0)
        variance = tf.where(tf.math.is_finite(variance), variance, 1.0)
        return tf.cast(mean, tf.float32), tf.cast(tf.sqrt(variance), tf.float32)

    def boundaries(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        present = tf.boolean_mask(values, tf.math.is_finite(values))
        found = self._tft.quantiles(present, feature.buckets, epsilon=0.001)
        return tf.reshape(found, [-1])


def preprocessing_fn(
    features: FeatureTable, history_length: int, passed: Mapping[str, tf.DType] | None = None
) -> Callable[[dict[str, Any]], dict[str, tf.Tensor]]:
    """Transform's ``preprocessing_fn`` for a feature table.

    Args:
        features: the feature table.
        history_length: H of the ``history`` column; 0 where there is none.
        passed: columns handed on as they are (label, timestamp), with their dtypes.
    """

    def run(inputs: dict[str, Any]) -> dict[str, tf.Tensor]:
        # The item ids of ``item_id`` come first: they make the vocabulary that history uses.
        images = {f.name for f in image_features(features)}
        others = {name: values for name, values in inputs.items() if name not in images}
        outputs = encode(others, features, TftAnalyzer(), history_length)
        # Examples hold no uint8: prepared images stay bytes until they are read.
        for name in sorted(images & set(inputs)):
            outputs[name] = dense_strings(inputs[name], None)
        for name, dtype in (passed or {}).items():
            values = inputs[name]
            if isinstance(values, tf.SparseTensor):
                values = tf.sparse.to_dense(values)
            if values.shape.rank == 2:
                values = values[:, 0]
            outputs[name] = tf.cast(values, dtype)
        return outputs

    return run
