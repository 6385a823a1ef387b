"""Off-policy estimates where the right answer is known: by enumeration, and in a simulated bandit.

A log in which every outcome stands exactly as often as the logging policy would show it has no
sampling noise: an unbiased estimator must give the true value to the last digit.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfrec.evaluation.off_policy import (
    Log,
    UnseenError,
    doubly_robust,
    estimates,
    ips,
    logged,
    snips,
)
from tfrec.evaluation.policy_log import read_log, to_log

ITEMS = 4
# Chances of the first place; the second is the same law among what is left.
LOGGING = (Fraction(1, 4), Fraction(1, 4), Fraction(3, 8), Fraction(1, 8))
POLICY = (Fraction(1, 8), Fraction(1, 2), Fraction(1, 8), Fraction(1, 4))
LISTS = list(permutations(range(ITEMS), 2))
REWARD = np.random.default_rng(0).integers(0, 9, (ITEMS, ITEMS)).astype(float)  # [first, second]
FIRST = np.array([3.0, 1.0, 4.0, 1.5])


def conditional(law: tuple[Fraction, ...], pair: tuple[int, int]) -> tuple[Fraction, Fraction]:
    first, second = pair
    return law[first], law[second] / (1 - law[first])


def marginal(law: tuple[Fraction, ...], item: int) -> Fraction:
    """Chance of an item at the second place, whatever stands first."""
    pairs = [p for p in LISTS if p[1] == item]
    return sum((a * b for a, b in (conditional(law, p) for p in pairs)), Fraction(0))


def counts() -> list[int]:
    chances = [a * b for a, b in (conditional(LOGGING, p) for p in LISTS)]
    scale = np.lcm.reduce([c.denominator for c in chances])
    return [int(c * int(scale)) for c in chances]


def columns(law: tuple[Fraction, ...], by: str) -> np.ndarray:
    rows = []
    for pair, n in zip(LISTS, counts(), strict=True):
        chance = conditional(law, pair)
        if by == "position":
            chance = (law[pair[0]], marginal(law, pair[1]))
        rows += [[float(c) for c in chance]] * n
    return np.array(rows)


def shown() -> np.ndarray:
    return np.repeat(np.array(LISTS), counts(), axis=0)


def truth(reward_of_second: np.ndarray) -> float:
    total = 0.0
    for first, second in LISTS:
        a, b = conditional(POLICY, (first, second))
        total += float(a * b) * (FIRST[first] + reward_of_second[first, second])
    return total


@pytest.mark.parametrize("dependence", ["list", "cascade"])
def test_a_complete_log_gives_the_true_value(dependence: str) -> None:
    """The second reward depends on both items."""
    pairs = shown()
    reward = np.stack([FIRST[pairs[:, 0]], REWARD[pairs[:, 0], pairs[:, 1]]], 1)
    log = Log(columns(LOGGING, "cascade"), reward, columns(POLICY, "cascade"))
    want = truth(REWARD)
    assert abs(logged(log).value.mean - want) > 0.1
    assert ips(log, dependence=dependence).value.mean == pytest.approx(want, abs=1e-9)  # type: ignore[arg-type]
    assert snips(log, dependence=dependence).value.mean == pytest.approx(want, abs=1e-9)  # type: ignore[arg-type]


def test_a_complete_log_gives_the_true_value_by_position() -> None:
    """The second reward depends on the second item alone."""
    pairs, alone = shown(), np.tile(REWARD[:1], (ITEMS, 1))
    reward = np.stack([FIRST[pairs[:, 0]], alone[pairs[:, 0], pairs[:, 1]]], 1)
    log = Log(columns(LOGGING, "position"), reward, columns(POLICY, "position"))
    assert ips(log, dependence="position").value.mean == pytest.approx(truth(alone), abs=1e-9)
    # Where it depends on both, the assumption of independence is wrong and so is the number.
    both = replace(log, reward=np.stack([reward[:, 0], REWARD[pairs[:, 0], pairs[:, 1]]], 1))
    assert abs(ips(both, dependence="position").value.mean - truth(REWARD)) > 1e-3


def test_doubly_robust_is_right_whatever_the_model_says() -> None:
    rng = np.random.default_rng(1)
    pairs = shown()
    reward = np.stack([FIRST[pairs[:, 0]], REWARD[pairs[:, 0], pairs[:, 1]]], 1)
    q1, q2 = rng.normal(size=ITEMS), rng.normal(size=(ITEMS, ITEMS))
    law = np.array([float(p) for p in POLICY])
    second = np.where(np.eye(ITEMS), 0, law[None, :] / (1 - law[:, None]))  # [first, second]
    predicted = np.stack([q1[pairs[:, 0]], q2[pairs[:, 0], pairs[:, 1]]], 1)
    v2 = (second * q2).sum(axis=1)
    expected = np.stack([np.full(len(pairs), law @ q1), v2[pairs[:, 0]]], 1)
    log = Log(columns(LOGGING, "cascade"), reward, columns(POLICY, "cascade"), predicted, expected)
    got = doubly_robust(log, dependence="cascade")
    assert got.value.mean == pytest.approx(truth(REWARD), abs=1e-9)
    # And with the true model, no weight matters: the propensities may be wrong.
    best2 = (second * REWARD).sum(axis=1)
    best1 = FIRST + best2
    right = Log(
        np.clip(columns(LOGGING, "cascade") * 0.7, 0, 1),
        reward,
        columns(POLICY, "cascade"),
        np.stack([best1[pairs[:, 0]], REWARD[pairs[:, 0], pairs[:, 1]]], 1),
        np.stack([np.full(len(pairs), law @ best1), best2[pairs[:, 0]]], 1),
    )
    ratio = right.target / right.propensity
    # E[w_1 (r_1 + v_2 - q_1)] = 0 row by row, so the sum telescopes to v_1.
    assert (ratio > 0).all()
    assert doubly_robust(right, dependence="cascade").value.mean == pytest.approx(
        truth(REWARD), abs=1e-9
    )


class Bandit:
    """Contexts, actions, chances of a click; two softmax policies."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.click = rng.beta(1, 3, (5, 6))
        logging = rng.normal(0, 1, (5, 6))
        policy = 4 * self.click
        self.logging = np.exp(logging) / np.exp(logging).sum(1, keepdims=True)
        self.policy = np.exp(policy) / np.exp(policy).sum(1, keepdims=True)
        self.value = float((self.policy * self.click).sum(1).mean())

    def log(self, n: int, seed: int, noise: float = 0.05) -> Log:
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 5, n)
        a = (self.logging[x].cumsum(1) < rng.random((n, 1))).sum(1)
        q = self.click + noise * np.random.default_rng(9).normal(size=self.click.shape)
        return Log(
            self.logging[x, a],
            (rng.random(n) < self.click[x, a]).astype(float),
            self.policy[x, a],
            q[x, a],
            (self.policy[x] * q[x]).sum(1),
        )


def test_estimates_of_a_simulated_bandit() -> None:
    bandit, seeds = Bandit(), 300
    logs = [bandit.log(600, seed) for seed in range(seeds)]
    spread = {}
    for name, estimate in (("ips", ips), ("snips", snips), ("dr", doubly_robust)):
        found = [estimate(log) for log in logs]  # type: ignore[operator]
        values = np.array([f.value.mean for f in found])
        spread[name] = values.std(ddof=1)
        error = spread[name] / np.sqrt(seeds)
        assert abs(values.mean() - bandit.value) < 4 * error, name
        inside = np.mean([f.value.low <= bandit.value <= f.value.high for f in found])
        assert 0.90 <= inside <= 0.99, name  # of 95% intervals
        assert np.mean([f.error for f in found]) == pytest.approx(spread[name], rel=0.15)
    assert spread["dr"] < spread["snips"] < spread["ips"]
    assert abs(np.mean([logged(log).value.mean for log in logs]) - bandit.value) > 10 * error


def test_snips_follows_a_shift_of_the_reward() -> None:
    log = Bandit().log(400, 0)
    moved = replace(log, reward=log.reward + 5.0)
    assert snips(moved).value.mean - snips(log).value.mean == pytest.approx(5, abs=1e-9)
    assert ips(moved).value.mean - ips(log).value.mean == pytest.approx(
        5 * float((log.target / log.propensity).mean()), abs=1e-9
    )


def test_clipping_bounds_the_weights() -> None:
    log = Bandit().log(600, 3)
    plain, clipped = ips(log), ips(log, clip=2.0)
    assert plain.largest > 2
    assert clipped.largest == 2
    assert clipped.value.mean < plain.value.mean
    assert clipped.error < plain.error
    assert clipped.effective > plain.effective
    assert ips(log, clip=1e9).value == plain.value


def test_the_same_policy_is_the_plain_mean() -> None:
    log = Bandit().log(500, 4)
    same = Log(log.propensity, log.reward, log.propensity)
    for estimate in (ips(same), snips(same)):
        assert estimate.value == logged(same).value
        assert estimate.effective == pytest.approx(500)
        assert estimate.warnings == ()


def test_doubts_are_told() -> None:
    log = Bandit().log(600, 5)
    assert ips(log).warnings == ()
    lost = log.propensity.copy()
    lost[:7] = 0
    (warning,) = ips(replace(log, propensity=lost)).warnings
    assert "7 of 600 rows have propensity 0" in warning
    rng = np.random.default_rng(0)
    # The policy shows what the log shows one time in a thousand, and never in 200 rows.
    action = rng.integers(0, 2, 200)
    never = Log(np.full(200, 0.5), np.ones(200), np.where(action == 0, 1e-3, 2e-3))
    told = ips(never).warnings
    assert any("mean weight" in w and "0.003" in w for w in told)
    few = np.full(1000, 1e-6)
    few[3] = 1.0
    told = ips(Log(np.full(1000, 0.01), np.ones(1000), few)).warnings
    assert any("effective sample size is 1 of 1000" in w for w in told)
    assert any("one row carries 100%" in w for w in told)


def test_errors_name_the_rule() -> None:
    two = np.array([0.5, 0.5])
    with pytest.raises(ValueError, match="is a chance, 0 to 1; got 2"):
        Log(np.array([2.0, 2.0]), two, two)
    with pytest.raises(ValueError, match="NaN"):
        Log(two, np.array([np.nan, 1.0]), two)
    with pytest.raises(ValueError, match=r"\[row, place\]"):
        Log(two, np.ones((2, 3)), two)
    with pytest.raises(ValueError, match="only one was given"):
        Log(two, two, two, predicted=two)
    log = Log(two, two, two)
    with pytest.raises(ValueError, match="'slate'"):
        ips(log, dependence="slate")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="above 0"):
        ips(log, clip=0.0)
    with pytest.raises(ValueError, match="reward model"):
        doubly_robust(log)
    with pytest.raises(ValueError, match="shows nothing of what was logged"):
        snips(Log(two, two, np.zeros(2)))
    with pytest.raises(ValueError, match="nearly all logged propensities are 0"):
        ips(Log(np.zeros(2), two, two))
    with pytest.raises(ValueError, match="confidence"):
        ips(log, confidence=95)


def test_places_that_the_log_cannot_tell_of_are_named() -> None:
    """The other policy agrees at the first place alone; the other estimates are given."""
    half = np.full((4, 3), 0.5)
    target = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    log = Log(half, np.ones((4, 3)), target)
    with pytest.raises(UnseenError, match=r"logged at places 2, 3 \(all weights are 0\)"):
        snips(log, dependence="cascade")
    found = estimates(log, dependence="cascade")
    assert [e.name for e in found] == ["logged", "ips"]
    assert any(w.startswith("no snips: ") for w in found[1].warnings)
    nothing = Log(half, half, np.zeros((4, 3)))
    with pytest.raises(UnseenError, match=r"what was logged \(all"):
        estimates(nothing, dependence="cascade")


def test_logs_are_read_from_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": ["a", "b", "c"],
            "propensity": [[0.5, 0.25], [1.0], [0.2, 0.4]],
            "reward": [[0.0, 3.0], [1.0], [0.0, 0.0]],
            "target": [[0.25, 0.25], [0.5], [0.1, 0.1]],
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    log = read_log(tmp_path / "log.parquet")
    np.testing.assert_array_equal(log.propensity, [[0.5, 0.25], [1, 1], [0.2, 0.4]])
    np.testing.assert_array_equal(log.reward, [[0, 3], [1, 0], [0, 0]])
    np.testing.assert_array_equal(log.target, [[0.25, 0.25], [0.5, 1], [0.1, 0.1]])
    assert ips(log).value.mean == pytest.approx((0.5 * 3 + 0.5 * 1) / 3)
    names = [e.name for e in estimates(log, clip=0.3)]
    assert names == ["logged", "ips", "ips clipped at 0.3", "snips"]
    with pytest.raises(ValueError, match=r"missing are \['target'\]"):
        to_log(table.drop(["target"]))
    short = table.set_column(2, "reward", pa.array([[0.0], [1.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="'reward' differs"):
        to_log(short)
    nulls = table.set_column(2, "reward", pa.array([None, [1.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="without a value"):
        to_log(nulls)
