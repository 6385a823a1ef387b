"""The same lists from a graph: one trace, k and weights from the request, a SavedModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.rerank.test_lists import Batch
from tfrec.config import UtilityConfig
from tfrec.rerank import Limit, expected_value, request_weights, rerank

FLOATS = tf.TensorSpec([None, None], tf.float32)
METHODS = ("none", "mmr", "dpp", "calibrated")


class Module(tf.Module):
    """A re-ranker as the one-call recommender uses it; counts its traces."""

    def __init__(self, method: str, window: int | None) -> None:
        super().__init__()
        self.traces = 0
        spec = [
            FLOATS,
            tf.TensorSpec([None, None, 5], tf.float32),
            tf.TensorSpec([None, None, 4], tf.float32),
            tf.TensorSpec([None, 4], tf.float32),
            tf.TensorSpec([None, None], tf.bool),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([None, None], tf.int64),
            tf.TensorSpec([], tf.int32),
        ]

        @tf.function(input_signature=spec, autograph=False)
        def answer(*args: tf.Tensor) -> dict[str, tf.Tensor]:
            relevance, vectors, categories, target, valid, trade_off, seller, k = args
            self.traces += 1
            found = rerank(
                relevance,
                k,
                method=method,
                trade_off=trade_off,
                vectors=vectors,
                categories=categories,
                target=target,
                valid=valid,
                window=window,
                normalise=True,
                limits=[Limit(seller, 2)],
                must=tf.equal(seller, 3),
            )
            return found._asdict()

        self.answer = answer


def inputs(seed: int, batch: int, width: int, k: int) -> list[Any]:
    drawn = Batch(seed, batch, width)
    seller = np.random.default_rng(seed).integers(0, 6, (batch, width))
    return [
        drawn.relevance,
        drawn.vectors,
        drawn.categories,
        drawn.target,
        drawn.valid,
        drawn.trade_off,
        seller,
        k,
    ]


@pytest.mark.parametrize(
    ("method", "window"),
    [("none", None), ("mmr", None), ("mmr", 4), ("dpp", None), ("dpp", 4), ("calibrated", 4)],
)
def test_a_saved_model_gives_the_lists_of_the_library(
    method: str, window: int | None, tmp_path: Path
) -> None:
    module = Module(method, window)
    tf.saved_model.save(module, str(tmp_path), signatures=module.answer)
    served = tf.saved_model.load(str(tmp_path)).answer
    traces = []
    for seed, (batch, width, k) in enumerate([(3, 20, 8), (1, 50, 60), (4, 1, 1)]):
        args = inputs(seed, batch, width, k)
        relevance, vectors, categories, target, valid, trade_off, seller, _ = args
        expected = rerank(
            relevance,
            k,
            method=method,
            trade_off=trade_off,
            vectors=vectors,
            categories=categories,
            target=target,
            valid=valid,
            window=window,
            normalise=True,
            limits=[Limit(seller, 2)],
            must=seller == 3,
        )
        tensors = [tf.constant(a) for a in args]
        for answer in (served(*tensors), module.answer(*tensors)):
            np.testing.assert_array_equal(answer["indices"], expected.indices)
            np.testing.assert_array_equal(answer["relaxed"], expected.relaxed)
        traces.append(module.traces)
    assert len(set(traces)) == 1  # other sizes, the same graph


@pytest.mark.parametrize("method", METHODS)
def test_static_shapes_are_fine_too(method: str) -> None:
    """A graph of fixed sizes: the loop's variables keep their shapes."""
    args = inputs(1, 3, 20, 6)
    for window in (None, 4):
        module = Module(method, window)
        fixed = tf.function(lambda m=module: m.answer.python_function(*args), autograph=False)
        expected = module.answer(*[tf.constant(a) for a in args])["indices"]
        np.testing.assert_array_equal(fixed()["indices"], expected)


def test_only_stock_operations_that_need_no_variables_or_python() -> None:
    graph = Module("dpp", 4).answer.get_concrete_function().graph.as_graph_def()
    names = {node.op for f in graph.library.function for node in f.node_def}
    assert not {n for n in names if "PyFunc" in n or n.startswith("Xla")}


def test_request_weights_inside_a_saved_model(tmp_path: Path) -> None:
    settings = UtilityConfig(weights={"click": 0.5, "revenue": 1.0}, price="price")

    class Worth(tf.Module):
        @tf.function(input_signature=[FLOATS] * 3 + [tf.TensorSpec([None], tf.float32)] * 2)
        def worth(
            self, click: Any, purchase: Any, price: Any, w_click: Any, w_revenue: Any
        ) -> tf.Tensor:
            weights = request_weights({"click": w_click, "revenue": w_revenue}, settings)
            parts = {"p_click": click, "p_purchase": purchase, "price": price}
            return expected_value(parts, weights, settings)[0]

    tf.saved_model.save(Worth(), str(tmp_path))
    served = tf.saved_model.load(str(tmp_path))
    parts = [np.array([v, v], np.float32) for v in ([0.2, 0.1], [0.02, 0.05], [10.0, 30.0])]
    nothing, given = np.float32(np.nan), np.float32(2.0)
    found = served.worth(*map(tf.constant, parts), tf.constant([nothing, given]), [nothing, 0.0])
    np.testing.assert_allclose(found, [[0.1 + 0.2, 0.05 + 1.5], [0.4, 0.2]], rtol=1e-6)
