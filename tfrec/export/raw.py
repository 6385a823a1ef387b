"""Raw ids at the edge of an exported graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.features.encoder import Encoder
from tfrec.schema import ITEM_ID

LAST_HASH = 2**62
# Names that all recommending signatures share.
EXCLUDE, K, SCORE, TITLE, EXAMPLES = "exclude", "k", "score", "title", "examples"
EXCLUDE_SEEN = "exclude_seen"  # variable: whether ``recommend_examples`` leaves the history out
PREDICT, RATING = "predict", "rating"  # signature of models that predict ratings, and its output
ITEM_ROWS = "item_rows"  # signature that makes rows of new items; see ``RetrievalModule``
DEFAULT_K = 10  # list length of ``recommend_examples``, whose only input are the examples


def lookup_items(encoder: Encoder, ids: tf.Tensor) -> tf.Tensor:
    """Item indices int64 of raw ids, a string tensor of any shape; '' is 0."""
    flat = encoder({ITEM_ID: tf.reshape(ids, [-1])})[ITEM_ID]
    return tf.reshape(flat, tf.shape(ids))


def known_items(encoder: Encoder, ids: tf.Tensor, n_items: int) -> tf.Tensor:
    """As ``lookup_items``, with items unknown to the vocabulary as 0."""
    indices = lookup_items(encoder, ids)
    return tf.where(indices <= n_items, indices, tf.zeros_like(indices))


def string_table(values: Any, name: str, *, grows: bool = False) -> tf.Variable:
    """Strings by index, kept in the SavedModel's variables.

    Args:
        values: n strings; None is ''.
        name: of the variable.
        grows: whether the SavedModel may be given more of them later.
    """
    texts = np.array(["" if v is None else str(v) for v in values], dtype=object)
    shape = [None] if grows else None
    return tf.Variable(tf.constant(texts, tf.string), trainable=False, name=name, shape=shape)


class AddedItems(tf.Module):
    """Finds items that were added to a catalogue after its vocabulary was made.

    A vocabulary is a file that the graph reads into a table of fixed size; added ids are found by
    binary search among their hashes instead, in variables of unknown length. A hash that is found
    is compared with the id itself, so that another id never passes for it.
    """

    def __init__(self) -> None:
        super().__init__(name="added_items")
        # A last hash that no id has: the search never runs past the end.
        self.hashes = tf.Variable(
            tf.constant([LAST_HASH], tf.int64), trainable=False, shape=[None], name="added_hashes"
        )
        self.positions = tf.Variable(
            tf.zeros([1], tf.int64), trainable=False, shape=[None], name="added_positions"
        )

    def find(self, ids: tf.Tensor, every: tf.Tensor) -> tf.Tensor:
        """Positions int64 of raw ids (string, any shape); 0 where the id was not added.

        Args:
            ids: what is looked for.
            every: string [n + 1], ids of the catalogue by position.
        """
        flat = tf.reshape(ids, [-1])
        at = tf.searchsorted(self.hashes, hash_ids(flat), out_type=tf.int64)
        position = tf.gather(self.positions, at)
        found = tf.equal(tf.gather(every, position), flat)
        return tf.reshape(tf.where(found, position, tf.zeros_like(position)), tf.shape(ids))


def hash_ids(ids: tf.Tensor) -> tf.Tensor:
    """Hashes of strings below ``LAST_HASH``, int64 of the same shape."""
    return tf.strings.to_hash_bucket_fast(ids, LAST_HASH)


def list_length(k: tf.Tensor) -> tf.Tensor:
    """One k for the call: a scalar, or one a row so that a server can merge calls into a batch.

    Rows of a batch that asked for less get the longest list and cut it themselves.
    """
    return tf.maximum(tf.reduce_max(k), 0)


def named_items(
    item_ids: tf.Tensor, titles: tf.Tensor | None, indices: tf.Tensor, scores: tf.Tensor
) -> dict[str, tf.Tensor]:
    """A list of item indices as it is answered.

    Args:
        item_ids: string [n_items + 1] by index.
        titles: string [n_items + 1], or None.
        indices: int [batch, k].
        scores: float32 [batch, k].

    Returns:
        ``item_id``, ``score``, and ``title`` where there are titles, [batch, k].
    """
    answer = {ITEM_ID: tf.gather(item_ids, indices), SCORE: scores}
    if titles is not None:
        answer[TITLE] = tf.gather(titles, indices)
    return answer


def excludes_seen(module: Any) -> bool:
    """Whether a loaded retrieval SavedModel leaves the history out where it is not told.

    True of those that were exported before it was a choice.
    """
    kept = getattr(module, EXCLUDE_SEEN, None)
    return True if kept is None else bool(kept.numpy())
