"""Mini-batch k-means in TensorFlow: the cells of an inverted file.

Sculley, "Web-scale k-means clustering" (WWW 2010): each batch moves a centroid by the mean of the
vectors it won, with a step that shrinks as the centroid's count grows. Seeding is k-means++ (Arthur
and Vassilvitskii, SODA 2007) or random. The spherical variant (Dhillon and Modha 2001) keeps
centroids on the unit sphere, which is what inner products of unit vectors ask for.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import tensorflow as tf

Init = Literal["plus_plus", "random"]

BLOCK = 4096  # vectors compared with all centroids at a time
SEEDING_SHARE = 8  # vectors a centroid that k-means++ chooses from


def assign(vectors: tf.Tensor, centroids: tf.Tensor, block: int = BLOCK) -> tf.Tensor:
    """The nearest centroid of each vector.

    Args:
        vectors: float32 [n, dim].
        centroids: float32 [cells, dim].
        block: vectors compared at a time; bounds the memory to ``block * cells`` floats.

    Returns:
        int32 [n], by squared Euclidean distance; the lower centroid among equals.
    """
    return _assign(tf.convert_to_tensor(vectors), tf.convert_to_tensor(centroids), block)


@tf.function(reduce_retracing=True)
def _assign(vectors: tf.Tensor, centroids: tf.Tensor, block: int) -> tf.Tensor:
    n = tf.shape(vectors)[0]
    half = tf.reduce_sum(tf.square(centroids), axis=1) / 2
    steps = (n + block - 1) // block
    found = tf.TensorArray(tf.int32, size=steps, infer_shape=False, element_shape=[None])
    for step in tf.range(steps):
        part = vectors[step * block : tf.minimum(n, (step + 1) * block)]
        near = tf.matmul(part, centroids, transpose_b=True) - half
        found = found.write(step, tf.argmax(near, axis=1, output_type=tf.int32))
    return tf.reshape(found.concat(), [n])


@tf.function(reduce_retracing=True)
def _plus_plus(vectors: tf.Tensor, cells: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """k-means++: each next centroid is drawn with chance in proportion to its squared distance."""
    n = tf.shape(vectors)[0]
    norms = tf.reduce_sum(tf.square(vectors), axis=1)
    chosen = tf.TensorArray(tf.int32, size=cells, element_shape=[])
    nearest = tf.fill([n], np.float32(np.inf))
    at = tf.random.stateless_uniform([], seed, 0, n, tf.int32)
    for step in tf.range(cells):
        chosen = chosen.write(step, at)
        centre = tf.gather(vectors, at)
        distance = norms - 2 * tf.linalg.matvec(vectors, centre) + tf.gather(norms, at)
        nearest = tf.minimum(nearest, tf.maximum(distance, 0.0))
        # Inverse of the cumulated distances; where all are 0 (fewer distinct vectors than cells)
        # the draw falls on the last, and an empty cell is the harmless outcome.
        total = tf.cumsum(nearest)
        draw = tf.random.stateless_uniform([], tf.stack([seed[0], step + 1])) * total[-1]
        at = tf.minimum(tf.searchsorted(total, draw[tf.newaxis], side="right")[0], n - 1)
    return tf.gather(vectors, chosen.stack())


@tf.function
def _step(
    batch: tf.Tensor, centroids: tf.Tensor, counts: tf.Tensor, spherical: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """One mini-batch: the centroids and counts after it."""
    cells = centroids.shape[0]
    half = tf.reduce_sum(tf.square(centroids), axis=1) / 2
    near = tf.matmul(batch, centroids, transpose_b=True) - half
    own = tf.argmax(near, axis=1, output_type=tf.int32)
    won = tf.math.unsorted_segment_sum(tf.ones_like(batch[:, 0]), own, cells)
    sums = tf.math.unsorted_segment_sum(batch, own, cells)
    counts += won
    share = won[:, tf.newaxis]
    moved = centroids + (sums - share * centroids) / tf.maximum(counts, 1.0)[:, tf.newaxis]
    return tf.math.l2_normalize(moved, axis=1) if spherical else moved, counts


def kmeans(
    vectors: np.ndarray,
    cells: int,
    *,
    init: Init = "plus_plus",
    passes: int = 6,
    per_cell: int = 128,
    batch_size: int = 8192,
    spherical: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """Centroids of cells.

    Args:
        vectors: float32 [n, dim]; for ``spherical`` of equal length.
        cells: number of centroids, at most n.
        init: how they are seeded.
        passes: over the sample.
        per_cell: vectors a cell in the sample that is clustered; bounds the time, which grows with
            ``per_cell * cells^2 * dim * passes``.
        batch_size: vectors a step.
        spherical: keeps centroids at length 1.
        seed: of sample, seeding and order.

    Returns:
        float32 [cells, dim].

    Raises:
        ValueError: fewer vectors than cells, or a number below 1.
    """
    n = len(vectors)
    if not 1 <= cells <= n or min(passes, per_cell, batch_size) < 1:
        raise ValueError(
            f"k-means takes 1 <= cells <= vectors, and passes, per_cell and batch_size from 1; got "
            f"{cells} cells of {n} vectors, {passes} passes, {per_cell} a cell, batches of "
            f"{batch_size}; lower 'cells'"
        )
    random = np.random.default_rng(seed)
    size = min(n, max(cells * per_cell, batch_size))
    sample = vectors if size == n else vectors[np.sort(random.choice(n, size, replace=False))]
    first = random.choice(size, min(size, cells * SEEDING_SHARE), replace=False)
    if init == "plus_plus":
        start = _plus_plus(tf.constant(sample[first]), tf.constant(cells), tf.constant([seed, 0]))
    elif init == "random":
        start = tf.constant(sample[first[:cells]])
    else:
        raise ValueError(f"init is 'plus_plus' or 'random'; got {init!r}")
    centroids = start
    for number in range(passes):
        # Counts start anew: early steps, made with poor centroids, should not slow later ones.
        counts = tf.zeros([cells])
        order = random.permutation(size)
        for at in range(0, size, batch_size):
            batch = tf.constant(sample[order[at : at + batch_size]])
            centroids, counts = _step(batch, centroids, counts, spherical)
        if number < passes - 1:
            centroids = _reseed(centroids, counts.numpy(), sample, random)
    return centroids.numpy()


def _reseed(
    centroids: tf.Tensor, won: np.ndarray, sample: np.ndarray, random: np.random.Generator
) -> tf.Tensor:
    """Moves centroids that won nothing in a pass next to those that won most."""
    empty = np.flatnonzero(won == 0)
    if not len(empty):
        return centroids
    crowded = np.argsort(-won, kind="stable")[: len(empty)]
    crowded = crowded[won[crowded] > 1]
    values = centroids.numpy()
    for cell, donor in zip(empty, crowded, strict=False):
        # A vector of the sample near the crowded centroid splits that cell.
        some = sample[random.integers(0, len(sample), 256)]
        distance = np.square(some - values[donor]).sum(axis=1)
        values[cell] = some[int(np.argmin(distance))]
    return tf.constant(values)
