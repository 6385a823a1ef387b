"""Exploration against loops in plain Python; chances against counted frequencies."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfrec.rerank.constraints import Constraints, Limit
from tfrec.rerank.explore import as_scores, epsilon_greedy, explore, propensity_of, thompson
from tfrec.rerank.random import FIRST, GAMMA, SECOND, normal, uniform

MASK = 2**64 - 1


def _mix(z: int) -> int:
    z = (z ^ (z >> 30)) * FIRST & MASK
    z = (z ^ (z >> 27)) * SECOND & MASK
    return z ^ (z >> 31)


def slow_uniform(seed: int, n: int, stream: int) -> list[float]:
    start = _mix(((seed & MASK) + GAMMA) & MASK)
    start = _mix((start + (stream + 1) * FIRST) & MASK)
    return [((_mix((start + i * GAMMA) & MASK) >> 41) + 0.5) / 2**23 for i in range(1, n + 1)]


def test_uniform_is_splitmix64() -> None:
    seeds = [0, 1, -1, 2**63 - 1, -(2**63)]
    for stream in (0, 3):
        got = uniform(tf.constant(seeds, tf.int64), 7, stream).numpy()
        want = [slow_uniform(s, 7, stream) for s in seeds]
        np.testing.assert_array_equal(got, np.array(want, np.float32))


def test_numbers_are_even_across_rows_and_streams() -> None:
    seeds = tf.range(2000, dtype=tf.int64)  # neighbouring seeds are the hard case
    first, second = uniform(seeds, 5, 0).numpy(), uniform(seeds, 5, 1).numpy()
    for column in range(5):
        assert stats.kstest(first[:, column], "uniform").pvalue > 1e-3
    joined = np.concatenate([first, second], axis=1)
    apart = np.corrcoef(joined.T) - np.eye(10)
    assert np.abs(apart).max() < 5 / np.sqrt(2000)
    assert stats.kstest(normal(seeds, 3).numpy().ravel(), "norm").pvalue > 1e-3


def slow_lists(
    scores: np.ndarray, k: int, epsilon: float, coins: list[float], picks: list[float]
) -> tuple[list[int], list[float]]:
    left = [i for i, s in enumerate(scores) if np.isfinite(s)]
    found, chances = [], []
    for j in range(min(k, len(scores))):
        if not left:
            break
        best = max(left, key=lambda i: (scores[i], -i))
        tried = left[int(np.float32(picks[j]) * np.float32(len(left)))]
        chosen = tried if coins[j] < epsilon else best
        found.append(chosen)
        chances.append((1 - epsilon) * (chosen == best) + epsilon / len(left))
        left.remove(chosen)
    more = k - len(found)
    return found + [-1] * more, chances + [1.0] * more


@pytest.mark.parametrize("k", [0, 1, 4, 9])
def test_epsilon_greedy_equals_a_loop(k: int) -> None:
    rng = np.random.default_rng(k)
    scores = np.round(rng.normal(size=(40, 6)), 1).astype(np.float32)  # some ties
    scores[rng.random((40, 6)) < 0.2] = -np.inf
    scores[0] = -np.inf
    seeds = np.arange(40) * 7 - 3
    for epsilon in (0.0, 0.3, 1.0):
        got = epsilon_greedy(scores, tf.constant(k), epsilon, tf.constant(seeds, tf.int64))
        for row in range(40):
            coins, picks = (slow_uniform(int(seeds[row]), min(k, 6), s) for s in (0, 1))
            lists, chances = slow_lists(scores[row], k, epsilon, coins, picks)
            assert got.indices[row].numpy().tolist() == lists
            np.testing.assert_allclose(got.propensity[row].numpy(), chances, atol=1e-6)
        again = propensity_of(scores, got.indices, epsilon)
        np.testing.assert_allclose(again, got.propensity, atol=1e-6)


def slow_limited(
    scores: np.ndarray,
    groups: np.ndarray,
    tried: np.ndarray,
    k: int,
    epsilon: float,
    coins: list[float],
    picks: list[float],
) -> tuple[list[int], list[float]]:
    """At most one of a group (0 is none); where that cannot be, whoever is left."""
    left, taken = list(range(len(scores))), set()
    found, chances = [], []
    for j in range(k):
        fine = [i for i in left if groups[i] == 0 or groups[i] not in taken] or left
        best = max(fine, key=lambda i: (scores[i], -i))
        may = [i for i in fine if tried[i]]
        rate = epsilon if may else 0.0
        chosen = best
        if coins[j] < rate:
            chosen = may[int(np.float32(picks[j]) * np.float32(len(may)))]
        found.append(chosen)
        even = rate / len(may) if chosen in may else 0.0
        chances.append((1 - rate) * (chosen == best) + even)
        left.remove(chosen)
        taken.add(groups[chosen])
    return found, chances


def test_rules_and_the_pool_narrow_what_chance_may_choose() -> None:
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(60, 7)).astype(np.float32)
    groups = rng.integers(0, 4, (60, 7))
    tried = rng.random((60, 7)) < 0.6
    seeds = tf.range(60, dtype=tf.int64)
    rules = Constraints((Limit(tf.constant(groups), 1),))
    got = epsilon_greedy(scores, 5, 0.5, seeds, tried=tf.constant(tried), rules=rules)
    explored = 0
    for row in range(60):
        coins, picks = (slow_uniform(row, 5, s) for s in (0, 1))
        lists, chances = slow_limited(scores[row], groups[row], tried[row], 5, 0.5, coins, picks)
        assert got.indices[row].numpy().tolist() == lists
        np.testing.assert_allclose(got.propensity[row].numpy(), chances, atol=1e-6)
        explored += sum(c < 0.5 for c in chances)
    assert explored > 20
    again = propensity_of(scores, got.indices, 0.5, tried=tf.constant(tried), rules=rules)
    np.testing.assert_allclose(again, got.propensity, atol=1e-6)
    # An item beyond the candidates is one that the policy cannot show; the rest is judged on.
    strange = np.where(np.arange(5) == 1, 7, got.indices.numpy())
    told = propensity_of(scores, strange, 0.5, tried=tf.constant(tried), rules=rules).numpy()
    assert (told[:, 1] == 0).all()
    np.testing.assert_allclose(told[:, 0], got.propensity.numpy()[:, 0], atol=1e-6)


def test_what_must_be_shown_leaves_less_to_chance() -> None:
    scores = np.array([[5.0, 4.0, 3.0, 2.0, 1.0]] * 50, np.float32)
    must = tf.constant([[False, False, False, True, True]] * 50)
    rules = Constraints(must=must)
    got = epsilon_greedy(scores, 3, 1.0, tf.range(50, dtype=tf.int64), rules=rules)
    lists = got.indices.numpy()
    assert all({3, 4} <= set(row) for row in lists.tolist())
    first_is_free = lists[:, 0] < 3
    np.testing.assert_allclose(
        got.propensity.numpy()[first_is_free], [[0.2, 0.5, 1.0]] * sum(first_is_free)
    )
    again = propensity_of(scores, lists, 1.0, rules=rules)
    np.testing.assert_allclose(again, got.propensity, atol=1e-6)


def test_propensities_are_the_frequencies() -> None:
    n, scores = 20_000, np.array([[0.1, 0.9, 0.5, 0.2]], np.float32)
    got = epsilon_greedy(
        np.repeat(scores, n, 0), 2, 0.4, tf.range(n, dtype=tf.int64), np.ones((n, 4), bool)
    )
    lists, chances = got.indices.numpy(), got.propensity.numpy().prod(axis=1)
    total = 0.0
    for pair in np.unique(lists, axis=0):
        here = (lists == pair).all(axis=1)
        assert np.ptp(chances[here]) == 0
        p = float(chances[here][0])
        total += p
        assert here.mean() == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / n))
    assert total == pytest.approx(1, abs=1e-5)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 30)).astype(np.float32)
    seeds = np.array([3, 1, 4, 1, 5])
    together = epsilon_greedy(scores, 8, 0.5, seeds)
    for row in range(5):
        alone = epsilon_greedy(scores[row : row + 1], 8, 0.5, seeds[row : row + 1])
        np.testing.assert_array_equal(alone.indices[0], together.indices[row])
    other = epsilon_greedy(scores, 8, 0.5, seeds + 100)
    assert (other.indices.numpy() != together.indices.numpy()).any()


def test_a_policy_that_cannot_choose_an_item_says_zero() -> None:
    scores = np.array([[3.0, 2.0, 1.0]])
    shown = np.array([[0, 1, 2], [1, 0, -1]])
    got = propensity_of(np.repeat(scores, 2, 0), shown, 0.0).numpy()
    np.testing.assert_array_equal(got, [[1, 1, 1], [0, 1, 1]])
    hidden = propensity_of(scores, shown[:1], 0.5, valid=np.array([[False, True, True]])).numpy()
    assert hidden[0, 0] == 0


def test_thompson_counts_over_draws() -> None:
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(3, 5, 200)).astype(np.float32) + np.arange(5)[None, :, None] / 2
    valid = np.ones((3, 5), bool)
    valid[1, 4] = False
    got = thompson(samples, 7, valid)
    for row in range(3):
        drawn = np.where(valid[row][:, None], samples[row], -np.inf)
        orders = np.argsort(-drawn, axis=0, kind="stable")  # [place, draw]
        usable = int(valid[row].sum())
        assert got.indices[row].numpy().tolist()[:usable] == orders[:usable, 0].tolist()
        assert (got.indices[row].numpy()[usable:] == -1).all()
        want = (orders == orders[:, :1]).mean(axis=1)[:usable]
        np.testing.assert_allclose(got.propensity[row].numpy()[:usable], want, atol=1e-6)
        assert (got.propensity[row].numpy()[usable:] == 1).all()


def test_explore_says_what_is_missing() -> None:
    scores = np.zeros((1, 3))
    assert explore(np.array([[1.0, 3.0, 2.0]]), 4, "none").indices.numpy().tolist() == [
        [1, 2, 0, -1]
    ]
    with pytest.raises(ValueError, match="needs a seed"):
        explore(scores, 2, "epsilon", 0.1)
    with pytest.raises(ValueError, match="rank_sample"):
        explore(scores, 2, "thompson")
    with pytest.raises(ValueError, match="'softmax'"):
        explore(scores, 2, "softmax")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[batch, candidate\]"):
        explore(np.zeros(3), 2, "epsilon", 0.1, np.zeros(1))


def test_a_reranked_list_is_explored_around() -> None:
    scores = np.array([[0.1, 0.9, -np.inf, 0.5, 0.4]], np.float32)
    listed = np.array([[3, 0, -1]], np.int32)
    order = explore(as_scores(listed, scores), 5, "none").indices.numpy()
    assert order.tolist() == [[3, 0, 1, 4, -1]]


def test_one_trace_serves_any_k_and_epsilon(tmp_path) -> None:  # type: ignore[no-untyped-def]
    traces = []

    class Module(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.float32),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([None], tf.float32),
                tf.TensorSpec([None], tf.int64),
            ]
        )
        def answer(self, scores, k, epsilon, seed):  # type: ignore[no-untyped-def]
            traces.append(1)
            return explore(scores, k, "epsilon", epsilon, seed)._asdict()

    module = Module()
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    scores = np.random.default_rng(2).normal(size=(4, 9)).astype(np.float32)
    before = len(traces)
    for k in (1, 5, 12):
        rates = np.array([0.0, 0.2, 0.7, 1.0], np.float32)
        seeds = np.arange(4) + k
        got = loaded.answer(scores, k, rates, seeds)
        want = epsilon_greedy(scores, k, rates, seeds)
        np.testing.assert_array_equal(got["indices"], want.indices)
        np.testing.assert_array_equal(got["propensity"], want.propensity)
    assert len(traces) == before
