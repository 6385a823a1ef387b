"""A retrieval model behind an index, as it is saved: its lists come from the index."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.export.graphs import one_graph
from tfrec.export.query import (
    ITEM_VECTOR,
    QUERY,
    QUERY_EXAMPLES,
    QUERY_VECTOR,
    VECTOR,
)
from tfrec.export.raw import (
    DEFAULT_K,
    EXAMPLES,
    EXCLUDE,
    EXCLUDE_SEEN,
    ITEM_ROWS,
    SCORE,
    AddedItems,
    K,
    list_length,
    named_items,
    string_table,
)
from tfrec.retrieval.measure import IndexReport
from tfrec.retrieval.top_k import masked_top_k
from tfrec.schema import HISTORY, ITEM_ID


class IndexedRetrieval(tf.Module):
    """A retrieval SavedModel whose lists come from an index.

    Signatures, as docs/architecture.md has them: ``recommend`` (= ``serving_default``),
    ``recommend_examples``, ``score`` (the inner product), ``similar`` (cosine of the indexed
    vectors), ``item_vector``; the others are those of the model inside. Where that has
    ``item_rows`` the catalogue and the index grow by their variables (``tfrec.export.index_add``).

    Args:
        base: what keeps the resources of the model inside alive.
        calls: its signatures by name, functions of named tensors.
        item_ids: object [n_items + 1], entry 0 ''.
        titles: names by item index, or None.
        index: over the items' vectors.
        samples: float32 [sample, dim] queries that recall was measured on; a refresh does again.
        report: of the index.
        exclude_seen: whether ``recommend_examples`` leaves the history out.
    """

    def __init__(
        self,
        base: Any,
        calls: dict[str, Callable[..., Any]],
        item_ids: np.ndarray,
        titles: np.ndarray | None,
        index: Any,
        samples: np.ndarray,
        report: IndexReport,
        exclude_seen: bool = True,
    ) -> None:
        super().__init__(name="indexed_retrieval")
        self.base = base
        self.calls = calls
        self.index = index
        self._search = one_graph(lambda query, k, exclude: index.search(query, k, exclude=exclude))
        grows = ITEM_ROWS in calls
        self.item_ids = string_table(item_ids, "item_ids", grows=grows)
        self.titles = None if titles is None else string_table(titles, "titles", grows=grows)
        self.added = AddedItems() if grows else None
        self.exclude_seen = tf.Variable(exclude_seen, trainable=False, name=EXCLUDE_SEEN)
        self.samples = tf.Variable(samples, trainable=False, name="samples")
        self.report = tf.Variable(json.dumps(report.as_dict()), trainable=False, name="report")
        keys = tf.constant([str(i) for i in item_ids[1:]], tf.string)
        values = tf.range(1, len(item_ids), dtype=tf.int64)
        self._places = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(keys, values), default_value=0
        )

    def _positions(self, ids: tf.Tensor) -> tf.Tensor:
        """Item indices of the index, int64, of raw ids (string, any shape); 0 where unknown."""
        known = self._places.lookup(ids)
        if self.added is None:
            return known
        return tf.where(known > 0, known, self.added.find(ids, self.item_ids))

    def _answer(self, indices: tf.Tensor, scores: tf.Tensor) -> dict[str, tf.Tensor]:
        return named_items(self.item_ids, self.titles, indices, scores)

    def recommend(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Best items of the index."""
        exclude = self._positions(raw.pop(EXCLUDE))
        k = list_length(raw.pop(K))
        query = self.calls[QUERY_VECTOR](**raw)[QUERY]
        return self._answer(*self._search(query, k, exclude))

    def recommend_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same from serialized tf.Examples; see ``exclude_seen``."""
        asked = self.calls[QUERY_EXAMPLES](examples=examples)
        exclude = tf.where(self.exclude_seen, self._positions(asked[HISTORY]), 0)
        return self._answer(*self._search(asked[QUERY], tf.constant(DEFAULT_K), exclude))

    def score(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Inner products of pairs; -inf for items that the index does not hold."""
        items = self._positions(raw.pop(ITEM_ID))
        query = self.calls[QUERY_VECTOR](**raw)[QUERY]
        scores = tf.reduce_sum(query * self.index.vectors_of(tf.cast(items, tf.int32)), axis=1)
        return {SCORE: tf.where(items > 0, scores, float("-inf"))}

    def item_vector(self, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """Indexed vectors of items; zeros where unknown."""
        items = self._positions(item_id)
        vectors = self.index.vectors_of(tf.cast(items, tf.int32))
        return {VECTOR: tf.where(items[:, tf.newaxis] > 0, vectors, 0.0)}

    def similar(self, item_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Items whose indexed vectors point the same way; all are compared."""
        items = self._positions(item_id)
        every = self.index.vectors_of(tf.range(1, self.index.count() + 1))
        mine = tf.math.l2_normalize(self.index.vectors_of(tf.cast(items, tf.int32)), axis=-1)
        scores = tf.matmul(mine, tf.math.l2_normalize(every, axis=-1), transpose_b=True)
        scores = tf.where(items[:, tf.newaxis] > 0, scores, float("-inf"))
        k = list_length(k)
        return self._answer(*masked_top_k(scores, k, exclude=items[:, tf.newaxis]))

    def signatures(self, specs: dict[str, dict[str, tf.TensorSpec]]) -> dict[str, Any]:
        """The traced signatures by name.

        Args:
            specs: inputs of the signatures of the model inside, by signature and name.
        """
        user = specs[QUERY_VECTOR]
        one_k = tf.TensorSpec(None, tf.int32, K)
        items = tf.TensorSpec([None], tf.string, ITEM_ID)
        exclude = tf.TensorSpec([None, None], tf.string, EXCLUDE)
        examples = tf.TensorSpec([None], tf.string, EXAMPLES)

        def trace(function: Callable[..., Any], **given: tf.TensorSpec) -> Any:
            return tf.function(function, autograph=False).get_concrete_function(**given)

        recommend = trace(self.recommend, **user, exclude=exclude, k=one_k)
        traced = {
            "serving_default": recommend,
            "recommend": recommend,
            "recommend_examples": trace(self.recommend_examples, examples=examples),
            "score": trace(self.score, **user, item_id=items),
            "similar": trace(self.similar, item_id=items, k=one_k),
            ITEM_VECTOR: trace(self.item_vector, item_id=items),
        }
        for name, call in self.calls.items():
            if name not in traced and name in specs:
                traced[name] = trace(_passed(call), **specs[name])
        return traced


def _passed(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **given: dict(call(**given))
