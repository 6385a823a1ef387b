"""Raw ids at the edge of an exported graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.features.encoder import Encoder
from tfrec.schema import ITEM_ID


def lookup_items(encoder: Encoder, ids: tf.Tensor) -> tf.Tensor:
    """Item indices int64 of raw ids, a string tensor of any shape; '' is 0."""
    flat = encoder({ITEM_ID: tf.reshape(ids, [-1])})[ITEM_ID]
    return tf.reshape(flat, tf.shape(ids))


def known_items(encoder: Encoder, ids: tf.Tensor, n_items: int) -> tf.Tensor:
    """As ``lookup_items``, with items unknown to the vocabulary as 0."""
    indices = lookup_items(encoder, ids)
    return tf.where(indices <= n_items, indices, tf.zeros_like(indices))


def string_table(values: Any, name: str) -> tf.Variable:
    """Strings by index, kept in the SavedModel's variables.

    Args:
        values: n strings; None is ''.
        name: of the variable.
    """
    texts = np.array(["" if v is None else str(v) for v in values], dtype=object)
    return tf.Variable(tf.constant(texts, tf.string), trainable=False, name=name)
