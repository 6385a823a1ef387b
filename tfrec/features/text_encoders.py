"""From the tokens of a text to one vector: mean of embeddings, a GRU, or a convolution.

All three read token indices and ignore padding: what stands behind the last token never changes a
vector, however far it reaches. A text without tokens is the zero vector, so that "no query" adds
nothing to a sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.schema import Feature

WIDTHS = (1, 2, 3)  # tokens that a filter of ``conv`` spans


class TextEncoder(tf.keras.layers.Layer):
    """Token indices int64 [..., n] (0 is padding) to vectors float32 [..., width].

    - ``mean``: the mean of the tokens' vectors.
    - ``gru``: the state of a GRU (Cho et al. 2014) behind the last token.
    - ``conv``: filters over 1, 2 and 3 tokens, each with its largest value in the text
      (Kim 2014, arXiv:1408.5882); ``width`` is ``3 dim``.

    The hashed tail starts at zero: a token says nothing until training gives it a meaning.

    Args:
        kind: ``mean``, ``gru`` or ``conv``.
        size: indices of the vocabulary, padding and tail included.
        tail: how many of them are the hashed tail.
        dim: width of a token's vector.
        stddev: of the vectors' first values; None takes ``dim ** -0.5``.
        seed: of the vectors' first values; None draws from the global seed.
    """

    def __init__(
        self,
        kind: str,
        size: int,
        tail: int,
        dim: int,
        stddev: float | None = None,
        seed: int | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        if kind not in ("mean", "gru", "conv"):
            raise ValueError(f"a text's encoder is mean, gru or conv; got {kind!r}")
        self.kind, self.size, self.tail, self.dim = kind, size, tail, dim
        self._stddev, self._seed = stddev, seed

    @classmethod
    def of(cls, feature: Feature, size: int, **kwargs: Any) -> TextEncoder:
        """The encoder that a feature of kind ``text`` asks for."""
        return cls(feature.encoder or "mean", size, feature.oov_buckets, feature.dim, **kwargs)

    @property
    def width(self) -> int:
        """Length of a text's vector."""
        return self.dim * (len(WIDTHS) if self.kind == "conv" else 1)

    def build(self, input_shape: object) -> None:
        drawn = tf.keras.initializers.RandomNormal(
            stddev=self.dim**-0.5 if self._stddev is None else self._stddev, seed=self._seed
        )
        silent = np.ones((self.size, 1), np.float32)
        silent[0] = silent[self.size - self.tail :] = 0.0

        def first(shape: object, dtype: object = None, **_: object) -> tf.Tensor:
            return drawn(shape) * silent

        self.table = self.add_weight(name="table", shape=[self.size, self.dim], initializer=first)
        if self.kind == "gru":
            self._gru = tf.keras.layers.GRU(self.dim, return_sequences=True, name="gru")
        elif self.kind == "conv":
            self._filters = [
                tf.keras.layers.Conv1D(
                    self.dim, span, padding="same", activation="relu", name=f"conv_{span}"
                )
                for span in WIDTHS
            ]
        super().build(input_shape)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """See the class. Texts without a token cost nothing."""
        shape = tf.shape(tokens)
        flat = tf.reshape(tokens, [-1, shape[-1]])
        present = flat > 0
        rows = tf.where(tf.reduce_any(present, axis=1))
        place = tf.where(present, tf.range(1, shape[-1] + 1)[tf.newaxis], 0)
        longest = tf.maximum(tf.reduce_max(tf.concat([[1], tf.reshape(place, [-1])], 0)), 1)
        vectors = self._encode(tf.gather(flat, rows[:, 0])[:, :longest])
        out = tf.scatter_nd(rows, vectors, [tf.shape(flat, tf.int64)[0], self.width])
        out = tf.reshape(out, tf.concat([shape[:-1], [self.width]], axis=0))
        return tf.ensure_shape(out, [*tokens.shape[:-1], self.width])

    def _encode(self, tokens: tf.Tensor) -> tf.Tensor:
        """[text, n] to [text, width]; every text has a token."""
        present = tokens > 0
        if self.kind == "mean":
            # Neither the [text, n, dim] vectors nor their gradients are ever formed.
            at = tf.where(present)
            words = tf.gather_nd(tokens, at)
            return tf.sparse.segment_mean(self.table, words, at[:, 0], sparse_gradient=True)
        weight = tf.cast(present, tf.float32)[:, :, tf.newaxis]
        vectors = tf.gather(self.table, tokens) * weight
        if self.kind == "gru":
            last = tf.reduce_sum(tf.cast(present, tf.int32), axis=1) - 1
            return tf.gather(self._gru(vectors), last, batch_dims=1)
        # A rectified value is at least 0, so padding set to 0 is never the largest by itself.
        return tf.concat(
            [tf.reduce_max(layer(vectors) * weight, axis=1) for layer in self._filters], axis=1
        )
