"""The three models of the serving benchmark, in plain TensorFlow, and one request for each."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

ITEMS, USERS, DIM, TOP = 100_000, 50_000, 64, 100
CANDIDATES = 200
HASHED = 20_000
Inputs = dict[str, np.ndarray]


class Retrieval(tf.Module):
    """User id -> the 100 best of 100,000 items by inner product, their ids and scores."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.users = tf.Variable(rng.normal(size=[USERS, DIM]).astype(np.float32))
        self.items = tf.Variable(rng.normal(size=[ITEMS, DIM]).astype(np.float32))
        self.ids = tf.Variable([f"item-{i:06d}" for i in range(ITEMS)], trainable=False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="user")])
    def serve(self, user: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = tf.matmul(tf.gather(self.users, user % USERS), self.items, transpose_b=True)
        best = tf.math.top_k(scores, TOP)
        return {"ids": tf.gather(self.ids, best.indices), "scores": best.values}


class Ranking(tf.Module):
    """Wide & deep on rows of (user, item, category, price): hashed ids, a cross, three layers."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)

        def weight(*shape: int) -> tf.Variable:
            return tf.Variable(rng.normal(size=shape).astype(np.float32) / shape[0] ** 0.5)

        self.tables = [weight(HASHED, 32) for _ in range(3)]
        self.wide = [weight(HASHED, 1) for _ in range(4)]
        sizes = [3 * 32 + 1, 256, 128, 64, 1]
        self.kernels = [weight(a, b) for a, b in pairwise(sizes)]
        self.biases = [tf.Variable(tf.zeros([b])) for b in sizes[1:]]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="user"),
            tf.TensorSpec([None], tf.string, name="item"),
            tf.TensorSpec([None], tf.string, name="category"),
            tf.TensorSpec([None], tf.float32, name="price"),
        ]
    )
    def serve(
        self, user: tf.Tensor, item: tf.Tensor, category: tf.Tensor, price: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        cross = tf.strings.join([user, category], separator="|")
        hashes = [
            tf.strings.to_hash_bucket_fast(text, HASHED) for text in (user, item, category, cross)
        ]
        wide = tf.add_n([tf.gather(w, h) for w, h in zip(self.wide, hashes, strict=True)])
        parts = [tf.gather(t, h) for t, h in zip(self.tables, hashes, strict=False)]
        deep = tf.concat([*parts, tf.math.log1p(price)[:, None]], axis=1)
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            deep = tf.nn.relu(tf.matmul(deep, kernel) + bias)
        logit = tf.matmul(deep, self.kernels[-1]) + self.biases[-1] + wide
        return {"score": tf.sigmoid(logit[:, 0])}


class HalfPlusTwo(tf.Module):
    """``y = x / 2 + 2``: what a call costs when the graph costs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = tf.Variable(0.5), tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.a * x + self.b}


MODELS: dict[str, Callable[[], Any]] = {
    "retrieval": Retrieval,
    "ranking": Ranking,
    "half_plus_two": HalfPlusTwo,
}


def write(name: str, folder: Path) -> None:
    """Saves one model as a SavedModel with ``serving_default``."""
    model = MODELS[name]()
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.serve})


def inputs(name: str) -> Inputs:
    """One request: a user; a user's 200 candidates; one number."""
    if name == "retrieval":
        return {"user": np.array([4711], np.int64)}
    if name == "half_plus_two":
        return {"x": np.array([[1.0]], np.float32)}
    rng = np.random.default_rng(1)

    def words(prefix: str, count: int) -> np.ndarray:
        out = np.empty(CANDIDATES, object)
        out[:] = [f"{prefix}{n}".encode() for n in rng.integers(0, count, CANDIDATES)]
        return out

    return {
        "user": np.full(CANDIDATES, b"user-4711", object),
        "item": words("item-", ITEMS),
        "category": words("category-", 40),
        "price": rng.gamma(2.0, 10.0, CANDIDATES).astype(np.float32),
    }
