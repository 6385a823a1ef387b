"""Networks of several heads: a shared bottom, or a mixture of experts with gates (MMoE).

Caruana 1997 (shared bottom); Ma, Zhao, Yi, Chen, Hong & Chi 2018, KDD, "Modeling Task Relationships
in Multi-task Learning with Multi-gate Mixture-of-Experts", equations 6 to 8::

    y_k = h_k(f^k(x)),   f^k(x) = sum_i g^k(x)_i f_i(x),   g^k(x) = softmax(W_k x)

with experts ``f_i`` (ReLU layers), gates ``g^k`` and towers ``h_k``. One expert without a gate is
the shared bottom; one gate for all heads is the paper's OMoE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfrec.models.deep_part import EmbeddedFeatures, dense

Gates = Literal["task", "shared"]


class ExpertLayer(tf.keras.layers.Layer):
    """One ReLU layer of all experts at once.

    Args:
        name: of the layer.
        experts: E.
        width, units: columns in and out.
        seed: of the kernels, Glorot-uniform expert by expert.
    """

    def __init__(self, name: str, experts: int, width: int, units: int, seed: int) -> None:
        super().__init__(name=name)
        reach = np.sqrt(6.0 / (width + units))
        first = np.random.default_rng(seed).uniform(-reach, reach, (experts, width, units))
        self.kernel = self.add_weight(
            name="kernel",
            shape=first.shape,
            initializer=tf.keras.initializers.Constant(first.astype(np.float32)),
        )
        self.offset = self.add_weight(name="bias", shape=[experts, units], initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """float32 [batch, E, units] from [batch, E, width]."""
        return tf.nn.relu(tf.einsum("bei,eio->beo", inputs, self.kernel) + self.offset)


class MultiTaskNetwork(EmbeddedFeatures):
    """Heads over shared embeddings.

    Args:
        embedded: the arguments of ``EmbeddedFeatures`` by name.
        outputs: columns of each head.
        hidden: widths of the experts' ReLU layers.
        experts: 0 is a shared bottom without gates.
        gates: ``task`` (a gate a head) or ``shared``.
        towers: widths of each head's own ReLU layers; may be empty.
        dropout: share of units dropped in training, behind each ReLU layer.
        seed: of initialisation and dropout.
    """

    def __init__(
        self,
        embedded: Mapping[str, Any],
        *,
        outputs: Sequence[int],
        hidden: Sequence[int],
        experts: int,
        gates: Gates,
        towers: Sequence[int],
        dropout: float,
        seed: int,
    ) -> None:
        super().__init__(**embedded, seed=seed)
        self._outputs = tuple(outputs)
        self.count = max(experts, 1)
        width = self.width
        self.bottom = []
        for i, units in enumerate(hidden):
            self.bottom.append(ExpertLayer(f"expert_{i}", self.count, width, units, seed + i))
            width = units
        n_gates = 0 if experts == 0 else 1 if gates == "shared" else len(outputs)
        self.gates = [
            dense(f"gate_{g}", self.width, experts, seed + 100 + g, "softmax")
            for g in range(n_gates)
        ]
        self.towers: list[list[Any]] = []
        for t, columns in enumerate(self._outputs):
            below, tower = width, []
            for i, units in enumerate((*towers, columns)):
                last = i == len(towers)
                activation = None if last else "relu"
                name = f"tower_{t}_{i}"
                tower.append(dense(name, below, units, seed + 1000 * (t + 1) + i, activation))
                below = units
            self.towers.append(tower)
        self.dropout = tf.keras.layers.Dropout(dropout, seed=seed)

    @property
    def kernels(self) -> list[tf.Variable]:
        """Kernels of experts and towers, for weight decay."""
        towers = [layer.kernel for tower in self.towers for layer in tower]
        return [*(layer.kernel for layer in self.bottom), *towers]

    def mixtures(self, joined: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        """What each head's tower reads, float32 [batch, units], from [batch, width]."""
        experts = tf.repeat(joined[:, tf.newaxis, :], self.count, axis=1)
        for layer in self.bottom:
            experts = self.dropout(layer(experts), training=training)
        heads = len(self._outputs)
        if not self.gates:
            return [experts[:, 0]] * heads
        mixed = [tf.einsum("be,beu->bu", gate(joined), experts) for gate in self.gates]
        return mixed * heads if len(mixed) == 1 else mixed

    def last_hidden(
        self, inputs: Mapping[str, tf.Tensor], training: bool = False
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """What each head's last layer reads, and the squares of ``embed``, float32 [batch]."""
        blocks, squares = self.embed(inputs)
        found = []
        mixtures = self.mixtures(tf.concat(blocks, axis=1), training)
        for mixture, tower in zip(mixtures, self.towers, strict=True):
            hidden = mixture
            for layer in tower[:-1]:
                hidden = self.dropout(layer(hidden), training=training)
            found.append(hidden)
        return found, squares

    def call(
        self, inputs: Mapping[str, tf.Tensor], training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """All heads' columns side by side, float32 [batch, sum(outputs)], and the squares."""
        hidden, squares = self.last_hidden(inputs, training)
        heads = [tower[-1](h) for tower, h in zip(self.towers, hidden, strict=True)]
        return tf.concat(heads, axis=1), squares
