"""The logistic loss in one sigmoid, against NumPy and TensorFlow's own kernel."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.losses.logistic import softplus

LOGITS = np.concatenate([np.linspace(-30, 30, 241), [-100.0, 100.0, 0.0]]).astype(np.float32)


def test_values_are_those_of_the_formula() -> None:
    exact = np.logaddexp(0.0, LOGITS.astype(np.float64))
    # Below the spacing of float32 around 1 the value is lost, as the docstring's formula has it.
    np.testing.assert_allclose(softplus(tf.constant(LOGITS)), exact, rtol=2e-6, atol=1.2e-7)


def test_the_slope_is_the_sigmoid_at_any_size() -> None:
    x = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(3.0 * softplus(x))
    found = tape.gradient(total, x).numpy()
    exact = 3 * np.exp(-np.logaddexp(0.0, -LOGITS.astype(np.float64)))
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-37)
    assert np.isfinite(found).all()


def test_it_learns_inside_a_graph_loop() -> None:
    """As fold-in uses it: a gradient in a ``while_loop`` of a traced function."""

    @tf.function
    def lowest(x: tf.Tensor) -> tf.Tensor:
        def step(t: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(softplus(x) - 0.25 * x)
            return t + 1, x - 2.0 * tape.gradient(loss, x)

        return tf.while_loop(lambda t, _: t < 60, step, (tf.constant(0), x))[1]

    found = lowest(tf.constant([-3.0, 0.0, 4.0]))
    np.testing.assert_allclose(found, np.log(1 / 3), atol=1e-3)
