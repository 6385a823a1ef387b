"""Raw columns to encoded features: the one place of feature code, training and serving alike.

The same function runs inside TFX Transform (vocabularies found by Beam), in a notebook
(vocabularies found by Arrow) and inside every exported model. What differs is only the analyzer,
which supplies vocabularies and moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf

from tfrec.features.image_cnn import present_name
from tfrec.features.text import tokens
from tfrec.schema import HISTORY, ITEM_ID, Feature, FeatureTable

Raw = Mapping[str, tf.Tensor | tf.SparseTensor | tf.RaggedTensor]

# Smallest spread that a z-score divides by: a constant column becomes 0, not infinity.
MIN_STD = 1e-6


class Analyzer(Protocol):
    """What encoding has to know of the whole training data."""

    def lookup(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        """Indices of strings, int64 of the same shape: '' is 0, known 1..V, unknown behind."""

    def moments(self, feature: Feature, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and standard deviation of the present values of a number, scalars float32."""

    def boundaries(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        """Inner quantile boundaries of a number, float32 [<= buckets - 1], ascending."""


def dense_strings(values: Any, width: int | None) -> tf.Tensor:
    """Strings in any layout as a dense tensor, '' where nothing is.

    Args:
        values: string [batch], [batch, 1] or [batch, n], dense, sparse or ragged.
        width: None for one value a row, else the number of values to cut or pad a row to.

    Returns:
        string [batch], or [batch, width].
    """
    if isinstance(values, tf.SparseTensor):
        values = tf.sparse.to_dense(values, default_value="")
    elif isinstance(values, tf.RaggedTensor):
        values = values.to_tensor(default_value="")
    values = tf.convert_to_tensor(values)
    if values.dtype != tf.string:
        values = tf.strings.as_string(values)
    if width is None:
        if values.shape.rank == 2:
            # A row without the value is '' even where the whole batch lacks it.
            values = tf.pad(values, [[0, 0], [0, 1]], constant_values="")[:, 0]
        return values
    if values.shape.rank == 1:
        values = values[:, tf.newaxis]
    values = tf.pad(values[:, :width], [[0, 0], [0, width]], constant_values="")[:, :width]
    return tf.ensure_shape(values, [None, width])


def recent(values: tf.Tensor, width: int) -> tf.Tensor:
    """The last ``width`` entries of each row that hold something, moved to the front.

    Args:
        values: string (empty is '') or int (empty is 0) [batch, n], oldest first.
        width: columns of the result.

    Returns:
        [batch, width], what is empty behind.
    """
    empty = tf.zeros([], values.dtype)  # '' for strings
    absent = tf.equal(values, empty)
    front = tf.argsort(tf.cast(absent, tf.int32), axis=1, stable=True)
    values = tf.gather(values, front, batch_dims=1)
    skip = tf.maximum(tf.reduce_sum(tf.cast(~absent, tf.int32), axis=1) - width, 0)
    padded = tf.pad(values, [[0, 0], [0, width]], constant_values=empty)
    at = skip[:, tf.newaxis] + tf.range(width)[tf.newaxis, :]
    return tf.ensure_shape(tf.gather(padded, at, batch_dims=1), [None, width])


def dense_numbers(values: Any) -> tf.Tensor:
    """Numbers in any layout as float32 [batch], NaN where nothing is."""
    if isinstance(values, tf.SparseTensor):
        values = tf.sparse.to_dense(tf.cast(values, tf.float32), default_value=float("nan"))
    elif isinstance(values, tf.RaggedTensor):
        values = tf.cast(values, tf.float32).to_tensor(default_value=float("nan"))
    values = tf.cast(tf.convert_to_tensor(values), tf.float32)
    if values.shape.rank == 2:
        values = tf.pad(values, [[0, 0], [0, 1]], constant_values=float("nan"))[:, 0]
    return values


def _multi(feature: Feature, values: Any) -> tf.Tensor:
    if feature.separator is not None:
        values = _cut(values, feature.separator)
    return dense_strings(values, feature.max_length)


def _cut(values: Any, separator: str) -> tf.RaggedTensor:
    """Strings cut at a separator, trimmed, empty ones left out; lists may be cut already.

    Canonical tables hold lists (``tfrec.data.convert``), requests and a notebook's tables strings.
    """
    if isinstance(values, tf.SparseTensor):
        values = tf.RaggedTensor.from_sparse(values)
    if not isinstance(values, tf.RaggedTensor):
        values = tf.convert_to_tensor(values)
        values = values[:, tf.newaxis] if values.shape.rank == 1 else values
        values = tf.RaggedTensor.from_tensor(values)
    parts = tf.strings.split(values.flat_values, separator)
    parts = parts.with_flat_values(tf.strings.strip(parts.flat_values))
    present = parts.with_flat_values(tf.not_equal(parts.flat_values, ""))
    return values.with_flat_values(tf.ragged.boolean_mask(parts, present)).merge_dims(1, 2)


def _numeric(feature: Feature, values: Any, analyzer: Analyzer) -> dict[str, tf.Tensor]:
    number = dense_numbers(values)
    present = tf.math.is_finite(number)
    filled = tf.where(present, number, 0.0)
    if feature.transform == "log":
        filled = tf.math.log1p(tf.maximum(filled, 0.0))
    kept = tf.where(present, filled, float("nan"))
    boundaries = analyzer.boundaries(feature, kept)
    bucket = 1 + tf.searchsorted(boundaries, filled, side="right", out_type=tf.int64)
    if feature.transform != "none":
        mean, std = analyzer.moments(feature, kept)
        filled = (filled - mean) / tf.maximum(std, MIN_STD)
        filled = tf.clip_by_value(filled, -feature.clip, feature.clip)  # outliers stay bounded
    return {
        feature.name: tf.where(present, filled, 0.0),
        f"{feature.name}_bucket": tf.where(present, bucket, 0),
    }


def decode_prepared(feature: Feature, prepared: tf.Tensor) -> dict[str, tf.Tensor]:
    """Prepared images (``tfrec.features.image_prepare``) as tensors.

    Args:
        feature: of kind ``image``.
        prepared: string [batch]; '' (and bytes of another length) where there is no image.

    Returns:
        ``<name>``: uint8 [batch, height, width, 3], or float32 [batch, length] where the feature
        names an application, zeros where there is no image; ``<name>_present``: int64 [batch].
    """
    present = tf.equal(tf.strings.length(prepared), feature.image_bytes)
    nothing = tf.constant(bytes(feature.image_bytes), tf.string)
    filled = tf.where(present, prepared, nothing)
    kind = tf.uint8 if feature.application is None else tf.float32
    flat = tf.io.decode_raw(filled, kind, fixed_length=feature.image_bytes)
    return {
        feature.name: tf.reshape(flat, [-1, *feature.image_shape]),
        present_name(feature): tf.cast(present, tf.int64),
    }


def encode_one(feature: Feature, values: Any, analyzer: Analyzer) -> dict[str, tf.Tensor]:
    """One raw column to its encoded feature(s), by kind; see docs/architecture.md."""
    if feature.kind in ("id", "categorical"):
        return {feature.name: analyzer.lookup(feature, dense_strings(values, None))}
    if feature.kind == "multi":
        return {feature.name: analyzer.lookup(feature, _multi(feature, values))}
    if feature.kind == "text":
        cut = tokens(dense_strings(values, None), feature)
        return {feature.name: analyzer.lookup(feature, cut)}
    if feature.kind == "numeric":
        return _numeric(feature, values, analyzer)
    if feature.kind == "image":
        return decode_prepared(feature, dense_strings(values, None))
    vector = tf.cast(
        values.to_tensor() if isinstance(values, tf.RaggedTensor) else values, tf.float32
    )
    if isinstance(vector, tf.SparseTensor):
        vector = tf.sparse.to_dense(vector)
    vector = tf.where(tf.math.is_finite(vector), vector, 0.0)
    return {feature.name: tf.ensure_shape(vector, [None, feature.dim])}


def encode(
    raw: Raw,
    features: FeatureTable,
    analyzer: Analyzer,
    history_length: int = 0,
) -> dict[str, tf.Tensor]:
    """Encodes the columns that are there.

    Args:
        raw: raw columns by name; strings [batch] for ``id``, ``categorical``, ``text``; strings
            [batch, n] for ``multi`` (or [batch] with a separator) and ``history``; numbers [batch];
            vectors [batch, dim]; prepared images string [batch]. Dense, sparse or ragged.
        features: the feature table; its features that ``raw`` lacks are left out.
        analyzer: vocabularies and moments.
        history_length: H, most recent items kept; where above 0 and
            ``history`` is in ``raw``, its item ids are encoded.

    Returns:
        Encoded features by name; ``history`` int64 [batch, H].
    """
    encoded: dict[str, tf.Tensor] = {}
    # Who shares a vocabulary comes behind its owner, whose values make it.
    for feature in sorted(features, key=lambda f: f.shares is not None):
        if feature.name in raw:
            encoded.update(encode_one(feature, raw[feature.name], analyzer))
    if history_length > 0 and HISTORY in raw:
        history = raw[HISTORY]
        if isinstance(history, tf.SparseTensor):
            history = tf.sparse.to_dense(history, default_value="")
        elif isinstance(history, tf.RaggedTensor):
            history = history.to_tensor(default_value="")
        items = recent(tf.convert_to_tensor(history), history_length)
        encoded[HISTORY] = analyzer.lookup(features[ITEM_ID], items)
    return encoded
