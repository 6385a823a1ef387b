"""The share of a query's tokens in a text, against a loop."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.features.text_match import overlap

ROW = st.tuples(st.lists(st.integers(1, 6), max_size=4), st.lists(st.integers(1, 6), max_size=5))


@settings(deadline=None, max_examples=40)
@given(st.lists(ROW, min_size=1, max_size=6))
def test_overlap_is_the_share_of_tokens_found(rows: list[tuple[list[int], list[int]]]) -> None:
    query = np.array([(q + [0] * 4)[:4] for q, _ in rows])
    text = np.array([(t + [0] * 5)[:5] for _, t in rows])
    expected = [np.mean([token in t for token in q]) if q else 0.0 for q, t in rows]
    np.testing.assert_allclose(overlap(tf.constant(query), tf.constant(text)), expected, atol=1e-6)
