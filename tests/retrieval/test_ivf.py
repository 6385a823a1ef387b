"""The inverted file against brute force in NumPy: masks, ties, filling, and what it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.retrieval.brute_force import BruteForce
from tfrec.retrieval.build import augmented, auto_cells, build_ivf, nearest, recall_of
from tfrec.retrieval.ivf import IvfIndex
from tfrec.retrieval.layout import BLOCK, lay_out

N, DIM = 200, 8


def vectors(seed: int = 0, lengths: bool = True) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, DIM)).astype(np.float32)
    return x if lengths else x / np.linalg.norm(x, axis=1, keepdims=True)


def oracle(
    x: np.ndarray,
    query: np.ndarray,
    k: int,
    exclude: list[int],
    fine: set[int] | None = None,
) -> tuple[list[int], list[float]]:
    """Best items by score, then index; 0 and -inf behind."""
    scores = x @ query
    left = [i for i in range(1, len(x) + 1) if i not in exclude and (fine is None or i in fine)]
    left.sort(key=lambda i: (-scores[i - 1], i))
    items = [*left[:k], *[0] * (k - len(left))]
    return items, [float(scores[i - 1]) if i else -np.inf for i in items]


class Traced:
    """An index whose search is one graph, as in a SavedModel: loops of rows are slow outside."""

    def __init__(self, index: IvfIndex) -> None:
        self.index = index
        self._search = tf.function(index.search, autograph=False, reduce_retracing=True)

    def search(self, queries: tf.Tensor, k: int, *more: tf.Tensor, **named: tf.Tensor):  # type: ignore[no-untyped-def]
        return self._search(queries, tf.constant(k), *more, **named)


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "int8"])
def full(request: pytest.FixtureRequest) -> Traced:
    """An index that looks into every cell: it must be exact."""
    index, report = build_ivf(vectors(), vectors(1), cells=7, probes=7, quantised=request.param)
    assert report.recall["100"] == 1.0
    return Traced(index)


@pytest.fixture(scope="module")
def narrow() -> Traced:
    """One cell of twenty: nothing but the filling rule gives long lists."""
    index, _ = build_ivf(vectors(), vectors(1), cells=20, probes=1)
    return Traced(index)


@given(
    k=st.integers(0, N + 3),
    seed=st.integers(0, 5),
    exclude=st.lists(st.lists(st.integers(-1, N + 2), max_size=4), min_size=2, max_size=2),
)
@settings(max_examples=25, deadline=None)
def test_exact_where_all_cells_are_probed(
    full: Traced, k: int, seed: int, exclude: list[list[int]]
) -> None:
    queries = vectors(seed + 10)[:2]
    banned = np.zeros((2, 4), np.int64)
    for row, items in enumerate(exclude):
        banned[row, : len(items)] = items
    items, scores = full.search(tf.constant(queries), k, exclude=tf.constant(banned))
    assert items.dtype == tf.int64
    for row in range(2):
        want = oracle(vectors(), queries[row], k, exclude[row])
        assert items[row].numpy().tolist() == want[0]
        np.testing.assert_allclose(scores[row], want[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 5, 60, N, N + 5])
def test_never_fewer_than_there_are(narrow: Traced, k: int) -> None:
    queries = vectors(3)[:4]
    exclude = np.tile(np.arange(1, 31), (4, 1))
    items, scores = narrow.search(tf.constant(queries), k, exclude=tf.constant(exclude))
    for row in items.numpy():
        found = row[row > 0]
        assert len(found) == len(set(found)) == min(k, N - 30)
        assert found.min() > 30
        assert (row[len(found) :] == 0).all()
    assert (np.diff(np.nan_to_num(scores.numpy(), neginf=-1e9), axis=1) <= 1e-6).all()


def test_allowed_masks_are_kept_and_filled(full: Traced, narrow: Traced) -> None:
    queries = vectors(4)[:3]
    rng = np.random.default_rng(0)
    allowed = rng.random((3, N)) < 0.1
    allowed[2] = False
    for index in (full, narrow):
        items, _ = index.search(
            tf.constant(queries), 30, exclude=tf.constant([[5]] * 3), allowed=tf.constant(allowed)
        )
        for row in range(3):
            fine = set((np.flatnonzero(allowed[row]) + 1).tolist())
            want, _ = oracle(vectors(), queries[row], 30, [5], fine)
            got = items[row].numpy()
            # A filled row is exact; the others may miss what lies in other cells.
            if index is full or (got == 0).any():
                assert got.tolist() == want
            assert set(got.tolist()) <= {*fine, 0} - {5}


def test_among_is_exact_whatever_is_probed(narrow: Traced) -> None:
    queries = vectors(5)[:2]
    among = np.array([[3, 9, 9, 4, 0, N + 1], [7, 7, 7, 7, 7, 7]])
    items, _ = narrow.search(tf.constant(queries), 4, tf.constant([[9], [0]]), tf.constant(among))
    assert items[0].numpy().tolist() == oracle(vectors(), queries[0], 4, [9], {3, 4})[0]
    assert items[1].numpy().tolist() == [7, 0, 0, 0]


def test_equal_scores_go_by_lower_index() -> None:
    x = np.tile(vectors(0, lengths=False)[:20], (10, 1))
    index, _ = build_ivf(x, x[:20], cells=5, probes=5, at=10)
    items, _ = index.search(tf.constant(x[:3]), 12)
    for row in range(3):
        # Ten copies of the query come first; float32 sums of copies are equal.
        assert items[row, :10].numpy().tolist() == list(range(row + 1, N + 1, 20))


def test_empty_batch_and_brute_force_agree_in_shape(full: Traced) -> None:
    nobody = tf.zeros([0, DIM])
    for index in (full, BruteForce(tf.constant(vectors()))):
        items, scores = index.search(nobody, 3, exclude=tf.zeros([0, 2], tf.int64))
        assert items.shape == scores.shape == (0, 3)


def test_brute_force_allows_and_excludes() -> None:
    allowed = np.zeros((1, N), bool)
    allowed[0, [1, 3, 5]] = True
    query = vectors(6)[:1]
    items, _ = BruteForce(tf.constant(vectors())).search(
        tf.constant(query), 5, exclude=tf.constant([[4]]), allowed=tf.constant(allowed)
    )
    assert items[0].numpy().tolist() == oracle(vectors(), query[0], 5, [4], {2, 4, 6})[0]


def test_probes_are_chosen_for_the_recall_asked() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 16)).astype(np.float32)
    queries = rng.standard_normal((100, 16)).astype(np.float32)
    found = {}
    for wanted in (0.5, 0.9, 1.0):
        index, report = build_ivf(x, queries, min_recall=wanted, at=20)
        found[wanted] = report.probes
        assert report.recall["20"] >= wanted
        # Measured again, on the half that did not choose, by another way.
        truth = nearest(x, queries[1::2], 20)
        got = index.search(tf.constant(queries[1::2]), 20)[0].numpy()
        hits = [len(set(a) & set(b)) / 20 for a, b in zip(got, truth, strict=True)]
        assert report.recall["20"] == pytest.approx(np.mean(hits))
        assert 0 < report.scored <= 1
    assert found[0.5] < found[0.9] < found[1.0] <= auto_cells(1000)


def test_augmented_vectors_order_as_inner_products() -> None:
    x = vectors()
    unit = augmented(x)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-5)
    query = vectors(7)[0]
    np.testing.assert_array_equal(np.argsort(-(unit[:, :DIM] @ query)), np.argsort(-(x @ query)))
    assert augmented(vectors(lengths=False)).shape == (N, DIM)


def test_layout_holds_every_item_once() -> None:
    own = np.array([2, 0, 2, 2, 0] * 20)
    layout = lay_out(own, 4)
    assert layout.blocks.tolist() == [3, 0, 4, 0]
    flat = layout.items.ravel()
    assert sorted(flat[flat > 0].tolist()) == list(range(1, 101))
    assert (flat[layout.slot[1:]] == np.arange(1, 101)).all()
    block_of = layout.slot[1:] // BLOCK
    assert (block_of >= layout.first[own]).all()
    assert (block_of < layout.first[own] + layout.blocks[own]).all()


def test_recall_counts_by_row() -> None:
    truth = np.array([[1, 2], [3, 4]])
    assert recall_of(np.array([[2, 1], [1, 2]]), truth) == 0.5
    assert recall_of(np.array([[2, 9], [4, 3]]), truth) == 0.75


def test_one_trace_and_the_same_after_saving(full: Traced, tmp_path: Path) -> None:
    specs = [
        tf.TensorSpec([None, DIM], tf.float32),
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([None, None], tf.int64),
    ]
    traces = []

    def search(queries: tf.Tensor, k: tf.Tensor, exclude: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        traces.append(1)
        return full.index.search(queries, k, exclude)

    module = tf.Module()
    module.index = full.index
    module.search = tf.function(search, input_signature=specs, autograph=False)
    queries, exclude = tf.constant(vectors(8)[:3]), tf.constant([[1, 2]] * 3, tf.int64)
    want = [module.search(queries, tf.constant(k), exclude) for k in (3, 50)]
    assert len(traces) == 1
    tf.saved_model.save(module, str(tmp_path / "m"))
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    for k, (items, scores) in zip((3, 50), want, strict=True):
        again = loaded.search(queries, tf.constant(k), exclude)
        np.testing.assert_array_equal(again[0], items)
        np.testing.assert_allclose(again[1], scores, rtol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"queries": np.ones((3, 2), np.float32)}, "one dim"),
        ({"queries": np.ones((0, DIM), np.float32)}, "sample queries"),
        ({"vectors": np.full((N, DIM), np.nan, np.float32)}, "finite"),
        ({"min_recall": 0.0}, r"\(0, 1\]"),
        ({"cells": 0}, "cells is at least 1"),
        ({"cells": N + 1}, "lower 'cells'"),
    ],
)
def test_bad_builds_are_refused(changed: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"vectors": vectors(), "queries": vectors(1), **changed}
    with pytest.raises(ValueError, match=message):
        build_ivf(**given)  # type: ignore[arg-type]
