"""The best allowed items of a row: order, ties, exclusions, and scores that are no numbers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.retrieval.top_k import NEVER, masked_top_k

NAN = float("nan")


def test_nan_is_never_recommended_wherever_it_stands() -> None:
    scores = tf.constant(
        [[NAN, 1.0, NAN, 3.0, 2.0, NAN], [NAN] * 6, [5.0, NAN, 4.0, NAN, 6.0, 1.0]]
    )
    items, values = masked_top_k(scores, 4, exclude=tf.constant([[4], [1], [0]]))
    np.testing.assert_array_equal(items, [[5, 2, 0, 0], [0, 0, 0, 0], [5, 1, 3, 6]])
    np.testing.assert_array_equal(
        values, [[2.0, 1.0, NEVER, NEVER], [NEVER] * 4, [6.0, 5.0, 4.0, 1.0]]
    )


def test_among_excluded_and_short_lists() -> None:
    scores = tf.constant([[1.0, 4.0, 4.0, 2.0]])
    items, values = masked_top_k(
        scores, 6, exclude=tf.constant([[4, 99]]), among=tf.constant([[2, 3, 4]])
    )
    np.testing.assert_array_equal(items, [[2, 3, 0, 0, 0, 0]])
    np.testing.assert_array_equal(values, [[4.0, 4.0] + [NEVER] * 4])
