"""Items put into cells that are there: the same cells as building, exact where all are probed."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfrec.retrieval.build import build_ivf
from tfrec.retrieval.grow import Cells, grow_ivf, nearest_cells
from tfrec.retrieval.ivf import IvfIndex
from tfrec.retrieval.measure import nearest

N, DIM = 200, 8


def vectors(n: int = N, seed: int = 0, lengths: bool = True) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)
    return x if lengths else x / np.linalg.norm(x, axis=1, keepdims=True)


def cells_of(index: IvfIndex, x: np.ndarray) -> Cells:
    return Cells(x, index.cell.numpy()[1:], index.centroids.numpy())


@pytest.mark.parametrize("lengths", [False, True])
def test_what_was_there_would_go_where_it_is(lengths: bool) -> None:
    """The dimension that makes lengths equal is recovered from what the centroids lack."""
    x = vectors(lengths=lengths)
    index, _ = build_ivf(x, vectors(seed=1), cells=11)
    cells = cells_of(index, x)
    np.testing.assert_array_equal(nearest_cells(cells, x), cells.own)


def test_a_longer_vector_goes_by_its_direction() -> None:
    x = vectors()
    index, _ = build_ivf(x, vectors(seed=1), cells=11)
    cells = cells_of(index, x)
    long = 100 * vectors(20, seed=2)
    unit = long / np.linalg.norm(long, axis=1, keepdims=True)
    np.testing.assert_array_equal(
        nearest_cells(cells, long), np.argmax(unit @ cells.centroids.T, axis=1)
    )


@pytest.mark.parametrize("quantised", [False, True])
def test_a_grown_index_is_that_of_all_items(quantised: bool) -> None:
    x, queries = vectors(), vectors(seed=1)
    index, report = build_ivf(x, queries, cells=7, probes=7, quantised=quantised)
    # Two new items and one that moved; item 5 now lies in the direction of the first query.
    new = np.stack([queries[0] * 3, vectors(1, seed=3)[0], queries[0] * 2])
    at = np.array([N + 2, N + 1, 5])
    grown, after = grow_ivf(cells_of(index, x), at, new, queries, report)
    every = np.vstack([x, new[1], new[0]])
    every[4] = new[2]
    np.testing.assert_array_equal(
        grown.search(tf.constant(queries[:4]), 20)[0], nearest(every, queries[:4], 20)
    )
    assert grown.search(tf.constant(queries[:1]), 2)[0].numpy().tolist() == [[N + 2, 5]]
    assert (after.n_items, after.grown, after.cells) == (N + 2, 3, 7)
    assert after.recall["100"] == 1.0
    again, third = grow_ivf(
        cells_of(grown, every), np.array([N + 3]), vectors(1, seed=4), queries, after
    )
    assert (int(again.count()), third.grown) == (N + 3, 4)


def test_recall_is_measured_again_and_held_by_more_probes() -> None:
    rng = np.random.default_rng(0)
    # Built on one side of the space; what comes later lies on the other, all in a few cells' reach.
    x = rng.standard_normal((400, DIM)).astype(np.float32)
    x[:, 0] = np.abs(x[:, 0]) + 2
    queries = rng.standard_normal((80, DIM)).astype(np.float32)
    queries[:, 0] = -np.abs(queries[:, 0]) - 2
    index, report = build_ivf(x, queries, cells=20, min_recall=0.9, at=10)
    new = rng.standard_normal((400, DIM)).astype(np.float32)
    new[:, 0] = -np.abs(new[:, 0]) - 2
    grown, after = grow_ivf(cells_of(index, x), np.arange(401, 801), new, queries, report)
    every = np.vstack([x, new])
    judge = queries[1::2]
    truth = nearest(every, judge, 10)
    found = grown.search(tf.constant(judge), 10)[0].numpy()
    hits = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=True)])
    assert after.recall["10"] == pytest.approx(hits)
    assert hits >= 0.9
    assert after.probes == int(grown.probes) >= report.probes
    assert "400 of them added since" in after.line()


@pytest.mark.parametrize(
    ("at", "rows", "message"),
    [
        ([N + 2], vectors(1), "follow on the 200"),
        ([N + 1, N + 1], vectors(2), "follow on the 200"),
        ([N + 1], vectors(2), "1 indices for 2 vectors"),
        ([N + 1], vectors(1)[:, :3], r"\[n, 8\]"),
        ([N + 1], np.full((1, DIM), np.nan, np.float32), "8 values not finite"),
    ],
)
def test_bad_additions_are_refused(at: list[int], rows: np.ndarray, message: str) -> None:
    x = vectors()
    index, report = build_ivf(x, vectors(seed=1), cells=7, probes=7)
    with pytest.raises(ValueError, match=message):
        grow_ivf(cells_of(index, x), np.array(at), rows, vectors(seed=1), report)
