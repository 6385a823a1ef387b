"""Coverage, inequality, popularity, novelty, diversity: against pairs and loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.builders import random_data
from tests.evaluation.stub import Fixed
from tests.tables import small_data
from tfrec.evaluation import evaluate
from tfrec.evaluation.beyond import (
    Beyond,
    coverage,
    feature_vectors,
    gini,
    intra_list_diversity,
    popularity,
)


def test_coverage_and_gini_at_both_ends() -> None:
    everything = np.arange(1, 9).reshape(4, 2)
    assert coverage(everything, 8) == 1
    assert gini(everything, 8) == pytest.approx(0)
    same = np.tile([1, 0], (4, 1))
    assert coverage(same, 8) == 1 / 8
    assert gini(same, 8) == pytest.approx(7 / 8)  # all exposure on one of eight


@settings(max_examples=50, deadline=None)
@given(arrays(np.int64, (5, 3), elements=st.integers(0, 6)))
def test_gini_equals_mean_difference_of_all_pairs(lists: np.ndarray) -> None:
    shown = [int((lists == i).sum()) for i in range(1, 7)]
    if sum(shown) == 0:
        assert gini(lists, 6) == 0
        return
    pairs = sum(abs(a - b) for a in shown for b in shown)
    assert gini(lists, 6) == pytest.approx(pairs / (2 * 36 * np.mean(shown)))


def test_popularity_by_hand() -> None:
    counts = np.array([0, 7, 3, 3, 0])
    found = popularity(np.array([[1, 2], [4, 0], [0, 0]]), counts)
    np.testing.assert_allclose(found["arp"], [5, 0, np.nan])
    # Ranks 0..4: item 1 fills 0-1, items 2 and 3 share 1-3, item 4 fills 3-4; over 4.
    np.testing.assert_allclose(found["popularity_rank"], [(0.5 + 2) / 2 / 4, 3.5 / 4, np.nan])
    share = np.array([8, 4, 4, 1]) / 17
    np.testing.assert_allclose(
        found["novelty"], [-np.log2(share[:2]).mean(), -np.log2(share[3]), np.nan]
    )


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.int64, (4, 3), elements=st.integers(0, 5)),
    arrays(np.float64, (6, 2), elements=st.floats(-3, 3)),
)
def test_diversity_equals_all_pairs(lists: np.ndarray, vectors: np.ndarray) -> None:
    vectors[np.linalg.norm(vectors, axis=1) < 1e-3] = 0
    found = intra_list_diversity(lists, vectors)
    for row, value in zip(lists, found, strict=True):
        items = row[row > 0]
        cosines = []
        for a in range(len(items)):
            for b in range(len(items)):
                if a != b:
                    x, y = vectors[items[a]], vectors[items[b]]
                    length = np.linalg.norm(x) * np.linalg.norm(y)
                    cosines.append(x @ y / length if length else 0.0)
        expected = 1 - np.mean(cosines) if cosines else np.nan
        np.testing.assert_allclose(value, expected, atol=1e-9)


def test_features_become_vectors(tmp_path: Path) -> None:
    data = small_data(tmp_path)[0]
    vectors = feature_vectors(data)
    assert vectors is not None
    assert vectors.shape == (data.n_items + 1, data.sizes["genres"] + 3)
    assert (vectors[0] == 0).all()
    norms = np.linalg.norm(vectors[1:, : data.sizes["genres"]], axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-6)
    assert feature_vectors(random_data(5, 5)) is None


def test_beyond_in_an_evaluation() -> None:
    data = random_data(20, 10)
    vectors = np.random.default_rng(0).normal(size=(11, 3))
    found = evaluate(Fixed.random(data), data, ks=(2, 4), beyond=Beyond(data, 3, vectors))
    top = found.lists[:, :3]
    assert found["coverage@3"] == coverage(top, 10)
    assert found["diversity@3"] == pytest.approx(np.nanmean(intra_list_diversity(top, vectors)))
    assert found["arp@3"] == pytest.approx(popularity(top, data.train.item_counts())["arp"].mean())
    assert (
        "diversity@3"
        not in evaluate(Fixed.random(data), data, ks=(4,), beyond=Beyond(data, 3)).metrics
    )
    with pytest.raises(ValueError, match="looks at 10"):
        evaluate(Fixed.random(data), data, ks=(4,), beyond=Beyond(data, 10))
    with pytest.raises(ValueError, match="11 in all"):
        Beyond(data, 3, vectors[1:])
