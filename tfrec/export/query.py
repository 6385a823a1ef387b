"""Signatures that hand out both sides of an inner product, for an index put around the model.

| signature | inputs | outputs |
|---|---|---|
| `query_vector` | as `recommend` without `k` and `exclude` | `query` float32 [batch, dim] |
| `query_examples` | `examples` string [batch] | `query`; `history` string [batch, H] |
| `item_vector` | `item_id` string [batch] | `vector` float32 [batch, dim]; zeros where unknown |

``score`` of a user and an item is ``query . vector``. Models that score otherwise have none of
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfrec.export.raw import EXAMPLES
from tfrec.models.dot_product import dot_product
from tfrec.schema import HISTORY, ITEM_ID

if TYPE_CHECKING:
    from tfrec.export.retrieval import RetrievalModule

QUERY, VECTOR = "query", "vector"
QUERY_VECTOR, QUERY_EXAMPLES, ITEM_VECTOR = "query_vector", "query_examples", "item_vector"


def query_signatures(module: RetrievalModule) -> dict[str, Any]:
    """The traced signatures by name; none where the model's score is no inner product."""
    sides = dot_product(module._model())
    if sides is None:
        return {}

    def query_vector(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        return {QUERY: sides.query(module._users(raw))}

    def query_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = module.parse(examples)
        return {QUERY: sides.query(module._users(raw)), HISTORY: raw[HISTORY]}

    def item_vector(item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        items = module.positions(item_id)
        vectors = tf.gather(sides.items(), tf.maximum(items - 1, 0))
        return {VECTOR: tf.where(items[:, tf.newaxis] > 0, vectors, 0.0)}

    def trace(function: Any, **specs: tf.TensorSpec) -> Any:
        return tf.function(function, autograph=False).get_concrete_function(**specs)

    strings = tf.TensorSpec([None], tf.string, EXAMPLES)
    return {
        QUERY_VECTOR: trace(query_vector, **module.user_specs()),
        QUERY_EXAMPLES: trace(query_examples, examples=strings),
        ITEM_VECTOR: trace(item_vector, item_id=tf.TensorSpec([None], tf.string, ITEM_ID)),
    }
