"""A retrieval graph of modest size with the inputs that a user's signature has."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

ITEMS, DIM = 20_000, 64


def write(folder: Path) -> None:
    """Hashes the history into vectors, scores all items, answers the best k."""
    model = tf.Module()
    model.vectors = tf.Variable(tf.random.stateless_normal([ITEMS, DIM], [0, 1]))

    def recommend(
        user_id: tf.Tensor, history: tf.Tensor, age: tf.Tensor, exclude: tf.Tensor, k: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        seen = tf.strings.to_hash_bucket_fast(history, ITEMS)
        user = tf.reduce_mean(tf.gather(model.vectors, seen), axis=1)
        user += tf.gather(model.vectors, tf.strings.to_hash_bucket_fast(age, ITEMS))
        user += tf.gather(model.vectors, tf.strings.to_hash_bucket_fast(user_id, ITEMS))
        scores = tf.matmul(user, model.vectors, transpose_b=True)
        banned = tf.strings.to_hash_bucket_fast(exclude, ITEMS)
        scores += tf.reduce_sum(tf.one_hot(banned[:, :8], ITEMS, -1e9), axis=1)
        best = tf.math.top_k(scores, tf.reduce_max(k))
        return {"score": best.values, "item": best.indices}

    text = tf.TensorSpec([None], tf.string)
    wide = tf.TensorSpec([None, None], tf.string)
    function = tf.function(
        recommend, input_signature=[text, wide, text, wide, tf.TensorSpec(None, tf.int32)]
    )
    tf.saved_model.save(model, str(folder), signatures={"serving_default": function})
