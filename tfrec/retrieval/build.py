"""Builds an inverted file and measures what it misses.

Inner products of vectors of unequal length are searched by cells of *augmented* vectors (Bachrach
et al., "Speeding up the Xbox recommender system", RecSys 2014): ``[x, sqrt(M^2 - |x|^2)] / M`` with
M the largest length has length 1, and its inner product with ``[q, 0]`` orders items as ``x . q``
does, so cells of directions fit. Vectors of equal length need no augmenting.
"""

from __future__ import annotations

import math
import time

import numpy as np
import tensorflow as tf

from tfrec.retrieval.ivf import IvfIndex
from tfrec.retrieval.kmeans import Init, assign, kmeans
from tfrec.retrieval.layout import lay_out
from tfrec.retrieval.measure import IndexReport, held_out, nearest, ranks, recall_of, settle

EQUAL = 1e-3  # lengths that differ by less than this share count as equal
MARGIN = 0.1  # probes are chosen to miss so much less than allowed, as a share
ROOTS = 4.0  # cells, in square roots of the number of items
LEAST = 8  # items a cell on average, at least


def auto_cells(n_items: int) -> int:
    """Cells for so many items: ``4 sqrt(n)``, and no fewer than 8 items a cell on average."""
    return max(1, min(round(ROOTS * math.sqrt(n_items)), n_items // LEAST))


def augmented(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors whose inner products with queries order as those of ``vectors``.

    Args:
        vectors: float32 [n, dim].

    Returns:
        float32 [n, dim], or [n, dim + 1] where lengths differ; see the module's docstring.
    """
    lengths = np.linalg.norm(vectors, axis=1)
    longest = max(float(lengths.max()), 1e-30)
    if lengths.min() >= (1 - EQUAL) * longest:
        return vectors / lengths[:, None]
    rest = np.sqrt(np.maximum(longest**2 - lengths**2, 0.0))
    return np.column_stack([vectors, rest]).astype(np.float32) / np.float32(longest)


def build_ivf(
    vectors: np.ndarray,
    queries: np.ndarray,
    *,
    cells: int | None = None,
    probes: int | None = None,
    min_recall: float = 0.95,
    at: int = 100,
    quantised: bool = False,
    init: Init = "plus_plus",
    passes: int = 6,
    seed: int = 0,
    grows: bool = False,
) -> tuple[IvfIndex, IndexReport]:
    """An inverted file that finds what it should, measured.

    Args:
        vectors: float32 [n_items, dim], row ``i - 1`` is item index ``i``.
        queries: float32 [sample, dim], as they will be asked: half of them choose the probes, the
            other half measures.
        cells: None takes ``auto_cells``.
        probes: cells a query looks into; None takes the fewest that reach ``min_recall``.
        min_recall: share of brute force's best ``at`` that is to be found.
        at: list length of ``min_recall``.
        quantised: 8-bit integers in the cells, exact re-scoring.
        init, passes: of k-means.
        seed: of k-means.
        grows: see ``IvfIndex``; ``tfrec.retrieval.grow`` adds items.

    Returns:
        The index and its report.

    Raises:
        ValueError: shapes do not fit, values are not finite, or a bound is broken.
    """
    began = time.perf_counter()
    vectors = np.ascontiguousarray(vectors, np.float32)
    queries = np.ascontiguousarray(queries, np.float32)
    _check(vectors, queries, min_recall, cells, probes)
    n = len(vectors)
    at = min(at, n)
    count = auto_cells(n) if cells is None else cells
    unit = augmented(vectors)
    centroids = kmeans(unit, count, init=init, passes=passes, spherical=True, seed=seed)
    own = assign(tf.constant(unit), tf.constant(centroids)).numpy()
    del unit
    centroids = centroids[:, : vectors.shape[1]]
    choose, judge = queries[::2], held_out(queries)
    if probes is None:
        target = min_recall + MARGIN * (1 - min_recall)
        probes = _fewest_probes(choose, nearest(vectors, choose, at), centroids, own, target)
    probes = min(probes, count)
    index = IvfIndex(vectors, centroids, lay_out(own, count), probes, quantised, grows=grows)
    recall, scored = settle(index, vectors, own, judge, at, min_recall)
    report = IndexReport(
        kind="ivf",
        n_items=n,
        dim=vectors.shape[1],
        cells=count,
        probes=int(index.probes),
        quantised=quantised,
        min_recall=min_recall,
        at=at,
        queries=len(judge),
        recall=recall,
        scored=scored,
        seconds=time.perf_counter() - began,
    )
    return index, report


def _check(
    vectors: np.ndarray,
    queries: np.ndarray,
    min_recall: float,
    cells: int | None,
    probes: int | None,
) -> None:
    if vectors.ndim != 2 or queries.ndim != 2 or vectors.shape[1] != queries.shape[1]:
        raise ValueError(
            f"vectors [n_items, dim] and queries [sample, dim] have one dim; got {vectors.shape} "
            f"and {queries.shape}"
        )
    if not len(vectors) or not len(queries):
        raise ValueError(
            f"an index needs vectors, and sample queries to measure its recall; got {len(vectors)} "
            f"vectors and {len(queries)} queries"
        )
    if not (np.isfinite(vectors).all() and np.isfinite(queries).all()):
        raise ValueError(
            "vectors and queries are finite; they hold NaN or infinity: did the training diverge?"
        )
    if not 0 < min_recall <= 1:
        raise ValueError(f"min_recall lies in (0, 1]; got {min_recall}")
    for name, value in (("cells", cells), ("probes", probes)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is at least 1, or None to choose it; got {value}")


def _fewest_probes(
    queries: np.ndarray,
    truth: np.ndarray,
    centroids: np.ndarray,
    own: np.ndarray,
    target: float,
) -> int:
    """Fewest probed cells that hold the share ``target`` of the true items."""
    places = np.take_along_axis(ranks(queries, centroids), own[truth - 1], axis=1)
    held = np.cumsum(np.bincount(places.ravel(), minlength=len(centroids))) / places.size
    return int(np.argmax(held >= target - 1e-12)) + 1


__all__ = ["IndexReport", "augmented", "auto_cells", "build_ivf", "nearest", "recall_of"]
