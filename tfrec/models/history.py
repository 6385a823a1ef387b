"""Encoders of a user's ordered history: causal, so that one pass trains every position.

Each takes item vectors [batch, H, dim] and gives states [batch, H + 1, dim]; state ``j`` knows the
first ``j`` items and nothing later. State 0 is that of a user without history.
"""

from __future__ import annotations

import tensorflow as tf


class AttentionBlock(tf.keras.layers.Layer):
    """Pre-norm causal self-attention and a feed-forward layer (SASRec, Kang & McAuley 2018).

    In place of absolute positions each head learns a bias of the distance between two events, so
    that "three events ago" means the same anywhere in a window and for a history of any length.
    """

    def __init__(self, length: int, heads: int, dropout: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.length, self.heads = length, heads
        self._drop = tf.keras.layers.Dropout(dropout)
        self._norms = [tf.keras.layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = int(input_shape[-1])
        if dim % self.heads:
            raise ValueError(f"dim is a multiple of heads; got dim {dim}, heads {self.heads}")
        self._qkv = tf.keras.layers.Dense(3 * dim, use_bias=False, name="qkv")
        self._out = tf.keras.layers.Dense(dim, name="out")
        self._inner = tf.keras.layers.Dense(2 * dim, activation=tf.nn.gelu, name="inner")
        self._outer = tf.keras.layers.Dense(dim, name="outer")
        self._distance = self.add_weight(
            name="distance_bias", shape=[self.heads, self.length], initializer="zeros"
        )
        super().build(input_shape)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        x += self._drop(self._attend(self._norms[0](x)), training=training)
        hidden = self._outer(self._inner(self._norms[1](x)))
        return x + self._drop(hidden, training=training)

    def _attend(self, x: tf.Tensor) -> tf.Tensor:
        batch, length = tf.shape(x)[0], tf.shape(x)[1]
        width = x.shape[-1] // self.heads
        qkv = tf.reshape(self._qkv(x), [batch, length, 3, self.heads, width])
        query, key, value = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
        logits = tf.matmul(query * width**-0.5, key, transpose_b=True)  # [batch, head, to, from]
        distance = tf.range(length)[:, tf.newaxis] - tf.range(length)[tf.newaxis, :]
        bias = tf.gather(self._distance, tf.maximum(distance, 0), axis=1)
        logits += tf.where(distance >= 0, bias, -1e9)[tf.newaxis]
        mixed = tf.matmul(tf.nn.softmax(logits), value)
        mixed = tf.transpose(mixed, [0, 2, 1, 3])
        return self._out(tf.reshape(mixed, [batch, length, self.heads * width]))


class HistoryEncoder(tf.keras.layers.Layer):
    """States along a history.

    Args:
        kind: ``attention``, ``gru``, ``mean`` (running mean) or ``none`` (all states equal).
        length: H, the longest history.
        layers: blocks of ``attention`` or ``gru``.
        heads: of ``attention``.
        dropout: on the inputs and inside the blocks.
        unit: states begin with a length of about 1, not ``sqrt(dim)``: on a level with what is
            added to them. A query would else be drowned by the history until training lifts it.

    Raises:
        ValueError: an unknown kind.
    """

    def __init__(
        self,
        kind: str,
        length: int,
        layers: int = 1,
        heads: int = 2,
        dropout: float = 0.2,
        unit: bool = False,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        if kind not in ("attention", "gru", "mean", "none"):
            raise ValueError(
                f"history_encoder is attention, gru, mean or none; got {kind!r}; mend params"
            )
        self.kind, self.length, self.unit = kind, length, unit
        self._count, self._heads, self._dropout = layers, heads, dropout
        self._blocks: list[tf.keras.layers.Layer] = []

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = int(input_shape[-1])
        size = dim**-0.5 if self.unit else 1.0
        # Before a normalisation its length says nothing; without one it is added as it is.
        first = tf.keras.initializers.RandomNormal(
            stddev=0.1 * (size if self.kind == "none" else 1.0)
        )
        self._start = self.add_weight(name="start", shape=[dim], initializer=first)
        self._drop = tf.keras.layers.Dropout(self._dropout)
        if self.kind == "attention":
            self._blocks = [
                AttentionBlock(self.length + 1, self._heads, self._dropout, name=f"block_{i}")
                for i in range(self._count)
            ]
        elif self.kind == "gru":
            self._blocks = [
                tf.keras.layers.GRU(dim, return_sequences=True, name=f"gru_{i}")
                for i in range(self._count)
            ]
        if self.kind != "none":
            self._norm = tf.keras.layers.LayerNormalization(
                epsilon=1e-6, gamma_initializer=tf.keras.initializers.Constant(size)
            )
        super().build(input_shape)

    def call(self, items: tf.Tensor, present: tf.Tensor, training: bool = False) -> tf.Tensor:
        """States float32 [batch, H + 1, dim].

        Args:
            items: float32 [batch, H, dim], item vectors, oldest first.
            present: bool [batch, H]; False behind the last item.
        """
        shape = tf.shape(items)
        start = tf.broadcast_to(self._start, [shape[0], 1, items.shape[-1]])
        if self.kind == "none":
            return tf.tile(start, [1, shape[1] + 1, 1])
        items = self._drop(items, training=training)
        weight = tf.cast(present, items.dtype)[..., tf.newaxis]
        x = tf.concat([start, items * weight], axis=1)
        if self.kind == "mean":
            seen = tf.concat([tf.ones([shape[0], 1, 1]), weight], axis=1)
            x = tf.cumsum(x, axis=1) / tf.cumsum(seen, axis=1)
        for block in self._blocks:
            x = block(x, training=training)
        return self._norm(x)


def last_state(states: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """The state behind the last item of each history, float32 [batch, dim].

    Args:
        states: float32 [batch, H + 1, dim].
        present: bool [batch, H]; histories are padded behind.
    """
    count = tf.reduce_sum(tf.cast(present, tf.int32), axis=1)
    return tf.gather(states, count, batch_dims=1)
