"""Exact search: every vector is scored. The oracle of every other index, and best when small."""

from __future__ import annotations

from typing import Protocol

import tensorflow as tf

from tfrec.retrieval.top_k import NEVER, masked_top_k


class SearchIndex(Protocol):
    """What an index answers.

    Attributes:
        n_items: vectors in it; item index ``i`` is 1..n_items.
    """

    n_items: int

    def vectors_of(self, items: tf.Tensor) -> tf.Tensor:
        """Vectors float32 [n, dim] of item indices int32 [n]; index 0 gives any vector."""

    def search(
        self,
        queries: tf.Tensor,
        k: int | tf.Tensor,
        exclude: tf.Tensor | None = None,
        among: tf.Tensor | None = None,
        allowed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The items of largest inner product.

        Args:
            queries: float32 [batch, dim].
            k: list length, scalar; may exceed n_items.
            exclude: int [batch, E] item indices never returned; outside 1..n_items is ignored.
            among: int [batch, A] item indices; where given, only these may be returned.
            allowed: bool [batch, n_items]; where given, only items with True may be returned.

        Returns:
            Item indices int64 [batch, k] and inner products float32 [batch, k], best first, equal
            ones by lower index. Where fewer than k may be returned the rest is index 0, -inf.
        """


class BruteForce(tf.Module):
    """Scores every item; see ``SearchIndex``.

    Args:
        vectors: float32 [n_items, dim]; a variable is shared, not copied.
    """

    def __init__(self, vectors: tf.Variable | tf.Tensor) -> None:
        super().__init__(name="brute_force")
        shared = isinstance(vectors, tf.Variable)
        self.vectors = vectors if shared else tf.Variable(vectors, trainable=False, name="vectors")
        self.n_items = int(self.vectors.shape[0])

    def vectors_of(self, items: tf.Tensor) -> tf.Tensor:
        """Vectors float32 [n, dim] of item indices int32 [n]; index 0 gives any vector."""
        return tf.gather(self.vectors, tf.maximum(items - 1, 0))

    def search(
        self,
        queries: tf.Tensor,
        k: int | tf.Tensor,
        exclude: tf.Tensor | None = None,
        among: tf.Tensor | None = None,
        allowed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        scores = tf.matmul(queries, self.vectors, transpose_b=True)
        if allowed is not None:
            scores = tf.where(allowed, scores, NEVER)
        return masked_top_k(scores, k, exclude, among)
