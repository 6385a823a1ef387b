"""Dense tensors on their way into Transform's graph."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.features.encoder import _present


def test_zero_is_a_number_and_nan_is_none() -> None:
    sparse = _present(tf.constant([[0.0], [np.nan], [2.0]]))
    assert sparse.indices.numpy().tolist() == [[0, 0], [2, 0]]
    assert sparse.values.numpy().tolist() == [0.0, 2.0]
    assert sparse.dense_shape.numpy().tolist() == [3, 1]


def test_empty_texts_are_none() -> None:
    sparse = _present(tf.constant([["a", ""], ["", ""]]))
    assert sparse.values.numpy().tolist() == [b"a"]
    assert sparse.dense_shape.numpy().tolist() == [2, 2]
