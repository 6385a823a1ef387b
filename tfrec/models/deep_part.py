"""The deep part: embeddings, means of sequences, numbers, then hidden layers.

Cheng et al. 2016, section 3.2; the attention over the history is that of Zhou et al. 2018 (Deep
Interest Network) with a scaled dot product in place of its small network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfrec.features.image_cnn import ImageEncoder
from tfrec.features.text_encoders import TextEncoder
from tfrec.features.text_match import overlap
from tfrec.schema import HISTORY, ITEM_ID, USER_ID, Feature

Pooling = Literal["mean", "attention"]


def masked_mean(vectors: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Mean over the values that are there.

    Args:
        vectors: float32 [batch, n, dim].
        index: int64 [batch, n]; 0 is padding.

    Returns:
        float32 [batch, dim]; zeros where a row holds nothing.
    """
    kept = tf.cast(tf.not_equal(index, 0), vectors.dtype)[:, :, tf.newaxis]
    return tf.math.divide_no_nan(tf.reduce_sum(vectors * kept, 1), tf.reduce_sum(kept, 1))


def attend(query: tf.Tensor, vectors: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Mean of the vectors weighted by ``softmax(query . vector / sqrt(dim))``.

    Args:
        query: float32 [batch, dim].
        vectors: float32 [batch, n, dim].
        index: int64 [batch, n]; 0 is padding and gets no weight.

    Returns:
        float32 [batch, dim]; zeros where a row holds nothing.
    """
    kept = tf.not_equal(index, 0)
    scores = tf.einsum("bd,bnd->bn", query, vectors) / tf.sqrt(float(vectors.shape[-1]))
    weights = tf.nn.softmax(tf.where(kept, scores, -1e9), axis=1)
    return tf.einsum("bn,bnd->bd", tf.where(kept, weights, 0.0), vectors)


class EmbeddedFeatures(tf.keras.layers.Layer):
    """Embedded features side by side, for a network to read.

    A text that shares another's vocabulary (a query, that of the titles) is read by the same
    encoder, and adds two numbers: the inner product of both vectors, and the share of its tokens
    that the other text holds.

    Args:
        features: features used, each with its width ``dim``.
        sizes: number of indices of each lookup feature, padding and tail included.
        history_length: H; above 0 ``history`` is pooled through the item embedding.
        history_pooling: ``mean``, or ``attention`` of the scored item to the history.
        dots: adds the inner products item . user and item . history (equal widths needed for the
            former, else it is left out).
        embedding_dim: one width for all embeddings in place of ``dim``.
        embedding_stddev: of the embeddings' first values. The smaller, the less do ids say that
            training never meets; the larger, the sooner does the network begin to learn.
        hidden: widths of the ReLU layers.
        dropout: share of hidden units dropped in training.
        seed: of initialisation and dropout.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        sizes: Mapping[str, int],
        history_length: int,
        history_pooling: Pooling,
        dots: bool,
        embedding_dim: int | None,
        embedding_stddev: float,
        seed: int,
    ) -> None:
        super().__init__(name="deep")
        self._features = tuple(features)
        self.history_length = history_length
        self.history_pooling = history_pooling
        rng = np.random.default_rng(seed)
        self.tables: dict[str, tf.Variable] = {}
        self.images: dict[str, ImageEncoder] = {}
        self.texts: dict[str, TextEncoder] = {}
        names = [f.name for f in self._features]
        # A text (the query) and the one whose vocabulary it shares (the title).
        self._matches = tuple((f.name, f.shares) for f in self._features if f.shares in names)
        width = 2 * len(self._matches)
        for feature in sorted(self._features, key=lambda f: f.shares is not None):
            if feature.kind == "text":
                if feature.shares in names:
                    self.texts[feature.name] = self.texts[feature.shares]
                else:
                    self.texts[feature.name] = TextEncoder(
                        feature.encoder or "mean",
                        sizes[feature.name],
                        feature.oov_buckets,
                        embedding_dim or feature.dim,
                        embedding_stddev,
                        seed + len(self.texts),
                        name=f"{feature.name}_text",
                    )
                    self.texts[feature.name](tf.zeros([1, 1], tf.int64))
                width += self.texts[feature.name].width
            elif feature.is_lookup:
                dim = embedding_dim or feature.dim
                table = rng.normal(0.0, embedding_stddev, (sizes[feature.name], dim))
                # Missing and unknown values say nothing until training gives them a meaning.
                table[0] = 0.0
                table[sizes[feature.name] - feature.oov_buckets :] = 0.0
                self.tables[feature.name] = self.add_weight(
                    name=f"embedding_{feature.name}",
                    shape=table.shape,
                    initializer=tf.keras.initializers.Constant(table.astype(np.float32)),
                )
                width += dim
            elif feature.kind == "image":
                self.images[feature.name] = ImageEncoder(feature)
                self.images[feature.name].build(None)
                width += feature.dim
            else:
                width += feature.dim if feature.kind == "embedding" else 1
        self._pairs: tuple[str, ...] = ()
        if history_length:
            width += int(self.tables[ITEM_ID].shape[1])
        if dots and ITEM_ID in self.tables:
            self._pairs = tuple(
                name
                for name in (USER_ID, HISTORY if history_length else "")
                if name == HISTORY
                or (name in self.tables and self._dim(name) == self._dim(ITEM_ID))
            )
            width += len(self._pairs)
        self.width = width

    def _dim(self, name: str) -> int:
        return int(self.tables[name].shape[1])

    @property
    def embeddings(self) -> list[tf.Variable]:
        """The embedding tables, each [size, dim]."""
        own = {id(text): text.table for text in self.texts.values()}
        return [*self.tables.values(), *own.values()]

    def embed(self, inputs: Mapping[str, tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Inputs of the first hidden layer.

        Returns:
            Blocks float32 [batch, width] to be joined, and the sum of squares of the looked-up
            vectors of each row, float32 [batch], for L2.
        """
        blocks: dict[str, tf.Tensor] = {}
        for feature in self._features:
            if feature.kind == "image":
                blocks[feature.name] = self.images[feature.name].of(inputs)
                continue
            value = inputs[feature.name]
            if feature.kind == "text":
                blocks[feature.name] = self.texts[feature.name](value)
                continue
            if not feature.is_lookup:
                value = tf.cast(value, tf.float32)
                blocks[feature.name] = value if value.shape.rank == 2 else value[:, tf.newaxis]
                continue
            vectors = tf.gather(self.tables[feature.name], value)
            sequence = feature.is_sequence
            blocks[feature.name] = masked_mean(vectors, value) if sequence else vectors
        if self.history_length:
            index = inputs[HISTORY]
            vectors = tf.gather(self.tables[ITEM_ID], index)
            if self.history_pooling == "attention":
                blocks[HISTORY] = attend(blocks[ITEM_ID], vectors, index)
            else:
                blocks[HISTORY] = masked_mean(vectors, index)
        tables = (*self.tables, *self.texts, HISTORY)
        looked_up = [blocks[name] for name in tables if name in blocks]
        squares = (
            tf.add_n([tf.reduce_sum(tf.square(b), 1) for b in looked_up]) if looked_up else 0.0
        )
        dots = [
            tf.reduce_sum(blocks[name] * blocks[ITEM_ID], 1, keepdims=True) for name in self._pairs
        ]
        for name, other in self._matches:
            dots.append(tf.reduce_sum(blocks[name] * blocks[other], 1, keepdims=True))
            dots.append(overlap(inputs[name], inputs[other])[:, tf.newaxis])
        return [*blocks.values(), *dots], squares


def dense(name: str, width: int, units: int, seed: int, activation: str | None) -> Any:
    """A built dense layer from ``width`` to ``units`` columns."""
    kernel = tf.keras.initializers.GlorotUniform(seed=seed)
    layer = tf.keras.layers.Dense(units, activation, kernel_initializer=kernel, name=name)
    layer.build([None, width])
    return layer


class DeepNetwork(EmbeddedFeatures):
    """A feed-forward network over embedded features.

    Args:
        features, sizes, history_length, history_pooling, dots, embedding_dim, embedding_stddev: see
            ``EmbeddedFeatures``.
        hidden: widths of the ReLU layers.
        dropout: share of hidden units dropped in training.
        seed: of initialisation and dropout.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        sizes: Mapping[str, int],
        history_length: int,
        history_pooling: Pooling,
        dots: bool,
        embedding_dim: int | None,
        embedding_stddev: float,
        hidden: Sequence[int],
        dropout: float,
        seed: int,
    ) -> None:
        super().__init__(
            features,
            sizes,
            history_length,
            history_pooling,
            dots,
            embedding_dim,
            embedding_stddev,
            seed,
        )
        width = self.width
        self.hidden = []
        for i, units in enumerate((*hidden, 1)):
            last = i == len(hidden)
            activation = None if last else "relu"
            self.hidden.append(dense(f"dense_{i}", width, units, seed + i, activation))
            width = units
        self.dropout = tf.keras.layers.Dropout(dropout, seed=seed)

    @property
    def kernels(self) -> list[tf.Variable]:
        """The hidden layers' kernels, each [in, out]."""
        return [layer.kernel for layer in self.hidden]

    def last_hidden(
        self, inputs: Mapping[str, tf.Tensor], training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What the last layer reads, float32 [batch, units], and the squares of ``embed``."""
        blocks, squares = self.embed(inputs)
        hidden = tf.concat(blocks, axis=1)
        for layer in self.hidden[:-1]:
            hidden = self.dropout(layer(hidden), training=training)
        return hidden, squares

    def call(
        self, inputs: Mapping[str, tf.Tensor], training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits float32 [batch] and the squares of ``embed``, float32 [batch]."""
        hidden, squares = self.last_hidden(inputs, training)
        return self.hidden[-1](hidden)[:, 0], squares
