"""What an index finds of what brute force finds: the measure behind ``min_recall``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.retrieval.brute_force import BruteForce, SearchIndex
from tfrec.retrieval.ivf import IvfIndex

QUERY_BLOCK = 16  # sample queries asked at a time


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
        grown: items that were put into cells made without them (``tfrec.retrieval.grow``).
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
    grown: int = 0

    def line(self) -> str:
        """For people."""
        found = ", ".join(f"recall@{k} {value:.3f}" for k, value in self.recall.items())
        grown = f" ({self.grown} of them added since)" if self.grown else ""
        return (
            f"index: {self.n_items} items in {self.cells} cells{grown}, {self.probes} probed, "
            f"{found}, {self.scored:.1%} of the items scored, {self.seconds:.0f} s"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def searcher(index: SearchIndex, dim: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """What an index finds, traced once for all list lengths.

    Args:
        index: any.
        dim: of its queries.

    Returns:
        A function of queries float32 [query, dim] and a length k to item indices int64 [query, k].
    """
    specs = [tf.TensorSpec([None, dim], tf.float32), tf.TensorSpec([], tf.int32)]
    search = tf.function(
        lambda queries, k: index.search(queries, k)[0], input_signature=specs, autograph=False
    )

    def ask(queries: np.ndarray, k: int) -> np.ndarray:
        parts = [
            search(tf.constant(queries[at : at + QUERY_BLOCK]), tf.constant(k)).numpy()
            for at in range(0, len(queries), QUERY_BLOCK)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, k), np.int64)

    return ask


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Item indices int64 [query, k] that brute force finds."""
    return searcher(BruteForce(tf.constant(vectors)), vectors.shape[1])(queries, k)


def recall_of(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true items [query, k] that are found, by row and then averaged."""
    if not truth.size:
        return 1.0
    rows = np.arange(len(truth))[:, None] * (int(max(found.max(), truth.max())) + 1)
    return float(np.isin(rows + truth, rows + found).mean())


def ranks(queries: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Place of each cell in each query's order of probing, int32 [query, cells]; 0 is first."""
    order = np.argsort(-(queries @ centroids.T), axis=1, kind="stable")
    ranks = np.empty_like(order, np.int32)
    np.put_along_axis(ranks, order, np.arange(len(centroids), dtype=np.int32)[None, :], axis=1)
    return ranks


def share_scored(queries: np.ndarray, centroids: np.ndarray, own: np.ndarray, probes: int) -> float:
    """Mean share of the items that lie in the cells a query probes."""
    sizes = np.bincount(own, minlength=len(centroids))
    return float(((ranks(queries, centroids) < probes) @ sizes).mean() / len(own))


def held_out(queries: np.ndarray) -> np.ndarray:
    """The half of the sample that judges; the other half may have chosen the probes."""
    return queries[1::2] if len(queries) > 1 else queries


def settle(
    index: IvfIndex,
    vectors: np.ndarray,
    own: np.ndarray,
    judge: np.ndarray,
    at: int,
    min_recall: float,
) -> tuple[dict[str, float], float]:
    """Raises the probes of an index until it finds what it should, and measures it.

    Args:
        index: ``probes`` is changed in place.
        vectors: float32 [n_items, dim], exact.
        own: int [n_items], cell of each.
        judge: float32 [query, dim].
        at: list length of ``min_recall``, at most n_items.
        min_recall: share of brute force's best ``at``.

    Returns:
        Recall by list length, and the mean share of the items scored.
    """
    truth = nearest(vectors, judge, at)
    ask = searcher(index, vectors.shape[1])
    found = recall_of(ask(judge, at), truth)
    while found < min_recall and int(index.probes) < index.cells:
        index.probes.assign(min(index.cells, int(index.probes) * 5 // 4 + 1))
        found = recall_of(ask(judge, at), truth)
    lengths = sorted({min(10, at), at})
    recall = {str(k): recall_of(ask(judge, k), truth[:, :k]) for k in lengths}
    return recall, share_scored(judge, index.centroids.numpy(), own, int(index.probes))
