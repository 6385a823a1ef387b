"""Puts new items into an inverted file whose cells are made: no clustering, recall measured again.

A new vector goes to the nearest cell, as those did that the cells were made of. Cells that are not
made anew fit a changed catalogue less and less; ``IndexReport.grown`` counts what came since, and
the recall in the report is that of the grown index on the sample queries that judged the first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from tfrec.retrieval.ivf import IvfIndex
from tfrec.retrieval.kmeans import assign
from tfrec.retrieval.layout import lay_out
from tfrec.retrieval.measure import IndexReport, held_out, settle


@dataclass(frozen=True)
class Cells:
    """An inverted file by item.

    Attributes:
        vectors: float32 [n_items, dim], exact.
        own: int32 [n_items], cell of each.
        centroids: float32 [cells, dim].
    """

    vectors: np.ndarray
    own: np.ndarray
    centroids: np.ndarray


def nearest_cells(cells: Cells, vectors: np.ndarray) -> np.ndarray:
    """Cells of vectors that were not there when the cells were made, int32 [n].

    Centroids have length 1 with the dimension that makes all vectors equally long (see
    ``tfrec.retrieval.build``), which is not kept: it is what their kept part lacks. A vector longer
    than all that were there has none of it, only its direction counts.

    Args:
        cells: as they are.
        vectors: float32 [n, dim].
    """
    kept = np.square(cells.centroids).sum(axis=1)
    centroids = np.column_stack([cells.centroids, np.sqrt(np.maximum(1.0 - kept, 0.0))])
    lengths = np.linalg.norm(vectors, axis=1)
    longest = float(np.linalg.norm(cells.vectors, axis=1).max(initial=1e-30))
    rest = np.sqrt(np.maximum(longest**2 - np.square(lengths), 0.0))
    unit = np.column_stack([vectors, rest]) / np.maximum(lengths, longest)[:, None]
    return assign(
        tf.constant(unit.astype(np.float32)), tf.constant(centroids.astype(np.float32))
    ).numpy()


def grow_ivf(
    cells: Cells,
    index: np.ndarray,
    vectors: np.ndarray,
    queries: np.ndarray,
    report: IndexReport,
) -> tuple[IvfIndex, IndexReport]:
    """The index with items added, or moved to where their new vectors lie.

    Args:
        cells: the items that are there.
        index: int64 [n], item index of each vector: of items that are there, or following on.
        vectors: float32 [n, dim].
        queries: float32 [sample, dim], the whole sample; the half that judged judges again.
        report: of the index as it is; its probes are raised until its ``min_recall`` is reached.

    Returns:
        The grown index, and its report.

    Raises:
        ValueError: vectors of another dimension, not finite, or indices with a gap.
    """
    began = time.perf_counter()
    n, dim = cells.vectors.shape
    if vectors.ndim != 2 or vectors.shape[1] != dim or not np.isfinite(vectors).all():
        raise ValueError(
            f"new vectors are finite float32 [n, {dim}] like those of the index; got "
            f"{vectors.shape}, {int((~np.isfinite(vectors)).sum())} values not finite"
        )
    fresh = np.sort(index[index > n])
    if len(index) != len(vectors) or not np.array_equal(fresh, n + 1 + np.arange(len(fresh))):
        raise ValueError(
            f"new items follow on the {n} that are there, one vector each; got {len(index)} "
            f"indices for {len(vectors)} vectors, the new ones {fresh[:5].tolist()}"
        )
    size = n + len(fresh)
    every, own = np.zeros((size, dim), np.float32), np.zeros(size, np.int32)
    every[:n], own[:n] = cells.vectors, cells.own
    every[index - 1] = vectors
    if len(index):
        own[index - 1] = nearest_cells(cells, vectors)
    layout = lay_out(own, len(cells.centroids))
    grown = IvfIndex(every, cells.centroids, layout, report.probes, report.quantised, grows=True)
    recall, scored = settle(
        grown, every, own, held_out(queries), min(report.at, size), report.min_recall
    )
    return grown, replace(
        report,
        n_items=size,
        probes=int(grown.probes),
        recall=recall,
        scored=scored,
        seconds=time.perf_counter() - began,
        grown=report.grown + len(index),
    )
