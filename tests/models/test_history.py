"""The history encoder's states: how long they are before training."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfrec.models.history import HistoryEncoder


@pytest.mark.parametrize("kind", ["attention", "gru", "mean"])
def test_unit_states_are_the_others_over_the_root_of_dim(kind: str) -> None:
    items = tf.random.stateless_normal([3, 5, 16], [1, 2])
    present = tf.constant([[True] * 5, [True] * 2 + [False] * 3, [False] * 5])
    states = []
    for unit in (False, True):
        tf.keras.utils.set_random_seed(4)
        states.append(HistoryEncoder(kind, 5, unit=unit)(items, present).numpy())
    np.testing.assert_allclose(states[1], states[0] / 4.0, rtol=1e-4, atol=1e-6)
    lengths = np.linalg.norm(states[1], axis=-1)
    assert (lengths < 1.01).all()
    assert lengths[0, -1] > 0.9


def test_without_a_history_the_start_alone_is_short() -> None:
    tf.keras.utils.set_random_seed(4)
    layer = HistoryEncoder("none", 1, unit=True)
    states = layer(tf.zeros([2, 1, 64]), tf.zeros([2, 1], tf.bool)).numpy()
    assert states.shape == (2, 2, 64)
    assert 0.05 < np.linalg.norm(states[0, 0]) < 0.2
    np.testing.assert_array_equal(states, np.tile(states[:1, :1], (2, 2, 1)))
