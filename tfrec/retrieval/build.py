"""Builds an inverted file and measures what it misses.

Inner products of vectors of unequal length are searched by cells of *augmented* vectors (Bachrach
et al., "Speeding up the Xbox recommender system", RecSys 2014): ``[x, sqrt(M^2 - |x|^2)] / M`` with
M the largest length has length 1, and its inner product with ``[q, 0]`` orders items as ``x . q``
does, so cells of directions fit. Vectors of equal length need no augmenting.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.retrieval.brute_force import BruteForce, SearchIndex
from tfrec.retrieval.ivf import IvfIndex
from tfrec.retrieval.kmeans import Init, assign, kmeans
from tfrec.retrieval.layout import lay_out

QUERY_BLOCK = 16  # sample queries asked at a time
EQUAL = 1e-3  # lengths that differ by less than this share count as equal
MARGIN = 0.1  # probes are chosen to miss so much less than allowed, as a share
ROOTS = 4.0  # cells, in square roots of the number of items
LEAST = 8  # items a cell on average, at least


@dataclass(frozen=True)
class IndexReport:
    """What was built, and what it finds of what brute force finds.

    Attributes:
        kind: ``ivf`` or ``brute_force``.
        n_items, dim: of the vectors.
        cells, probes: of the inverted file; 0 for brute force.
        quantised: whether cells hold 8-bit integers.
        min_recall, at: what was asked for, recall at which length.
        queries: held-out sample queries that recall was measured on.
        recall: recall against brute force by list length, as text.
        scored: mean share of the items that a query scores.
        seconds: wall time of clustering, layout and measuring.
    """

    kind: str
    n_items: int
    dim: int
    cells: int = 0
    probes: int = 0
    quantised: bool = False
    min_recall: float = 1.0
    at: int = 100
    queries: int = 0
    recall: dict[str, float] = field(default_factory=dict)
    scored: float = 1.0
    seconds: float = 0.0

    def line(self) -> str:
        """For people."""
        found = ", ".join(f"recall@{k} {value:.3f}" for k, value in self.recall.items())
        return (
            f"index: {self.n_items} items in {self.cells} cells, {self.probes} probed, {found}, "
            f"{self.scored:.1%} of the items scored, {self.seconds:.0f} s"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


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


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Item indices int64 [query, k] that brute force finds."""
    index = BruteForce(tf.constant(vectors))
    return _ask(index, queries, k)


def _ask(index: SearchIndex, queries: np.ndarray, k: int) -> np.ndarray:
    search = tf.function(lambda q: index.search(q, k)[0], autograph=False, reduce_retracing=True)
    parts = [
        search(tf.constant(queries[at : at + QUERY_BLOCK])).numpy()
        for at in range(0, len(queries), QUERY_BLOCK)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, k), np.int64)


def recall_of(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true items [query, k] that are found, by row and then averaged."""
    if not truth.size:
        return 1.0
    rows = np.arange(len(truth))[:, None] * (int(max(found.max(), truth.max())) + 1)
    return float(np.isin(rows + truth, rows + found).mean())


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
    choose, judge = queries[::2], queries[1::2] if len(queries) > 1 else queries
    if probes is None:
        target = min_recall + MARGIN * (1 - min_recall)
        probes = _fewest_probes(choose, nearest(vectors, choose, at), centroids, own, target)
    index = IvfIndex(vectors, centroids, lay_out(own, count), min(probes, count), quantised)
    truth = nearest(vectors, judge, at)
    found = recall_of(_ask(index, judge, at), truth)
    while probes is not None and found < min_recall and int(index.probes) < count:
        index.probes.assign(min(count, int(index.probes) * 5 // 4 + 1))
        found = recall_of(_ask(index, judge, at), truth)
    lengths = sorted({min(10, at), at})
    recall = {str(k): recall_of(_ask(index, judge, k), truth[:, :k]) for k in lengths}
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
        scored=_share_scored(judge, centroids, own, int(index.probes)),
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


def _ranks(queries: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Place of each cell in each query's order of probing, int32 [query, cells]; 0 is first."""
    order = np.argsort(-(queries @ centroids.T), axis=1, kind="stable")
    ranks = np.empty_like(order, np.int32)
    np.put_along_axis(ranks, order, np.arange(len(centroids), dtype=np.int32)[None, :], axis=1)
    return ranks


def _fewest_probes(
    queries: np.ndarray,
    truth: np.ndarray,
    centroids: np.ndarray,
    own: np.ndarray,
    target: float,
) -> int:
    """Fewest probed cells that hold the share ``target`` of the true items."""
    places = np.take_along_axis(_ranks(queries, centroids), own[truth - 1], axis=1)
    held = np.cumsum(np.bincount(places.ravel(), minlength=len(centroids))) / places.size
    return int(np.argmax(held >= target - 1e-12)) + 1


def _share_scored(
    queries: np.ndarray, centroids: np.ndarray, own: np.ndarray, probes: int
) -> float:
    sizes = np.bincount(own, minlength=len(centroids))
    return float(((_ranks(queries, centroids) < probes) @ sizes).mean() / len(own))


__all__ = ["IndexReport", "augmented", "auto_cells", "build_ivf", "nearest", "recall_of"]
