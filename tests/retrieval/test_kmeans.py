"""k-means finds planted groups, and assigns as NumPy does."""

from __future__ import annotations

import numpy as np
import pytest

from tfrec.retrieval.kmeans import Init, assign, kmeans


def planted(groups: int, each: int, dim: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors close about far centres, and their groups."""
    rng = np.random.default_rng(seed)
    centres = 20 * np.eye(groups, dim) + rng.standard_normal((groups, dim))
    own = np.repeat(np.arange(groups), each)
    return (centres[own] + 0.1 * rng.standard_normal((len(own), dim))).astype(np.float32), own


def same_groups(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


@pytest.mark.parametrize("spherical", [False, True])
def test_finds_planted_groups(spherical: bool) -> None:
    x, own = planted(5, 60)
    if spherical:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    centroids = kmeans(x, 5, spherical=spherical, seed=1)
    assert same_groups(assign(x, centroids).numpy(), own)
    if spherical:
        np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-5)
    else:
        means = np.array([x[own == g].mean(axis=0) for g in range(5)])
        gaps = np.linalg.norm(means[:, None] - centroids[None], axis=2).min(axis=1)
        assert gaps.max() < 0.1


@pytest.mark.parametrize("init", ["plus_plus", "random"])
def test_no_vector_gets_farther_than_from_random_centroids(init: Init) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((800, 4)).astype(np.float32)
    centroids = kmeans(x, 12, init=init, passes=8, batch_size=200)
    random = x[rng.choice(800, 12, replace=False)]

    def cost(points: np.ndarray) -> float:
        return float(np.square(x[:, None] - points[None]).sum(axis=2).min(axis=1).mean())

    assert cost(centroids) < 0.8 * cost(random)


def test_assigns_as_numpy_in_any_block() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((101, 5)).astype(np.float32)
    centroids = rng.standard_normal((7, 5)).astype(np.float32)
    want = np.square(x[:, None] - centroids[None]).sum(axis=2).argmin(axis=1)
    for block in (1, 10, 101, 500):
        np.testing.assert_array_equal(assign(x, centroids, block).numpy(), want)


def test_same_seed_same_cells_and_sizes_may_change_between_calls() -> None:
    x, _ = planted(4, 30)
    np.testing.assert_array_equal(kmeans(x, 6, seed=2), kmeans(x, 6, seed=2))
    assert kmeans(x, 9, seed=2).shape == (9, 6)  # one process, another number of cells


def test_more_cells_than_distinct_vectors_is_harmless() -> None:
    x = np.ones((20, 3), np.float32)
    centroids = kmeans(x, 4)
    assert np.isfinite(centroids).all()
    assert set(assign(x, centroids).numpy().tolist()) <= set(range(4))


def test_bad_numbers_are_refused() -> None:
    x, _ = planted(2, 5)
    with pytest.raises(ValueError, match="lower 'cells'"):
        kmeans(x, 11)
    with pytest.raises(ValueError, match="init is"):
        kmeans(x, 2, init="best")  # type: ignore[arg-type]
