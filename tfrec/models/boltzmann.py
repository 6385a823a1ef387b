"""The binary restricted Boltzmann machine, the brick of the machines that take marks or pixels."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

INIT = 0.01


def sample_bits(chance: tf.Tensor) -> tf.Tensor:
    """Independent 0s and 1s, float32, each 1 with its chance."""
    return tf.cast(tf.random.uniform(tf.shape(chance)) < chance, tf.float32)


class BinaryMachine(tf.Module):
    """``E(v, h) = -v'b - h'c - v'W h`` over binary units (Smolensky 1986; Hinton 2002).

    Args:
        n_visible, n_hidden: units.
        name: of the module.
        seed: of the first weights, N(0, .01).
    """

    def __init__(self, n_visible: int, n_hidden: int, name: str, seed: int = 0) -> None:
        super().__init__(name=name)
        if n_visible < 1 or n_hidden < 1:
            raise ValueError(
                f"a machine has at least one unit on each side; got {n_visible} and {n_hidden}"
            )
        random = np.random.default_rng(seed)
        first = random.normal(0, INIT, (n_visible, n_hidden)).astype(np.float32)
        self.w = tf.Variable(first, name="w")
        self.b = tf.Variable(tf.zeros([n_visible]), name="visible_bias")
        self.c = tf.Variable(tf.zeros([n_hidden]), name="hidden_bias")

    def up(self, visible: tf.Tensor) -> tf.Tensor:
        """``p(h = 1 | v)``, float32 [batch, n_hidden]."""
        return tf.sigmoid(tf.matmul(visible, self.w) + self.c)

    def down(self, hidden: tf.Tensor) -> tf.Tensor:
        """``p(v = 1 | h)``, float32 [batch, n_visible]."""
        return tf.sigmoid(tf.matmul(hidden, self.w, transpose_b=True) + self.b)

    def free_energy(self, visible: tf.Tensor) -> tf.Tensor:
        """``-log sum_h exp(-E(v, h))``, float32 [batch]."""
        hidden = tf.math.softplus(tf.matmul(visible, self.w) + self.c)
        return -tf.linalg.matvec(visible, self.b) - tf.reduce_sum(hidden, axis=1)

    def gibbs(self, visible: tf.Tensor, steps: tf.Tensor | int) -> tf.Tensor:
        """Sampled visible states after ``steps`` rounds, float32 [batch, n_visible]."""

        def step(i: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return i + 1, sample_bits(self.down(sample_bits(self.up(state))))

        return tf.while_loop(lambda i, _: i < steps, step, (tf.constant(0), visible))[1]

    def gap(self, data: tf.Tensor, sampled: tf.Tensor) -> tf.Tensor:
        """``F(v_0) - F(v_k)`` a row [batch]: its gradient is contrastive divergence's."""
        return self.free_energy(data) - self.free_energy(tf.stop_gradient(sampled))


def logit(shares: np.ndarray, low: float = 1e-3) -> np.ndarray:
    """Log odds of shares, kept within [low, 1 - low]: where visible biases start."""
    shares = np.clip(np.asarray(shares, np.float64), low, 1 - low)
    return np.log(shares / (1 - shares)).astype(np.float32)
