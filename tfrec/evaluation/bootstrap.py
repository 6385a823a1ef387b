"""How sure a number is: intervals of a mean, and paired comparison of two models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfrec.evaluation.result import Evaluation

DRAWN = 4 << 20  # users drawn at a time: bounds memory, not the result


@dataclass(frozen=True)
class Interval:
    """A mean and where it lies with the stated confidence."""

    mean: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Comparison:
    """Model B against model A over the same users.

    Attributes:
        metric: compared.
        a, b: means.
        difference: ``b - a`` with its bootstrap interval.
        p: two-sided, by random sign flips of the users' differences.
        wins, losses, ties: users where B is better, worse, equal.
    """

    metric: str
    a: float
    b: float
    difference: Interval
    p: float
    wins: int
    losses: int
    ties: int


def _check(values: np.ndarray, confidence: float, resamples: int) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values are one number a user, [n] with n >= 1; got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("values hold NaN or infinity; leave those users out first")
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"confidence lies between 0 and 1 and resamples is from 1; got {confidence} and "
            f"{resamples}"
        )
    return values


def _block(users: int) -> int:
    """Resamples drawn at a time: fours, as a generator throws the rest of a word of signs away."""
    return max(4, min(64, DRAWN // users) // 4 * 4)


def confidence_interval(
    values: np.ndarray, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the mean over users (Efron 1979).

    Args:
        values: float [n], one number a user.
        confidence: e.g. 0.95.
        resamples: bootstrap samples.
        seed: of the resampling.

    Raises:
        ValueError: no users, NaN among the values, or a confidence outside (0, 1).
    """
    values = _check(values, confidence, resamples)
    random = np.random.default_rng(seed)
    n = len(values)
    means = np.empty(resamples)
    block = _block(n)
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        means[start:stop] = values[random.integers(0, n, (stop - start, n))].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(values.mean()), float(low), float(high), confidence)


def sign_flip_p(differences: np.ndarray, permutations: int = 2000, seed: int = 0) -> float:
    """Two-sided p of a mean difference of 0: how often random signs give one as large.

    The observed signs count as one of the permutations, so p is never 0; its least value is
    ``1 / (permutations + 1)``.

    Args:
        differences: float [n], paired differences.
        permutations: random sign vectors.
        seed: of the signs.
    """
    differences = _check(differences, 0.5, permutations)
    differences = differences[differences != 0]  # a zero has no sign and moves no sum
    if not len(differences):
        return 1.0
    random = np.random.default_rng(seed)
    # A hair below: the observed sum itself must count as reached whatever the rounding.
    observed = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
    reached = 0
    block = _block(len(differences))
    for start in range(0, permutations, block):
        count = min(block, permutations - start)
        signs = random.integers(0, 2, (count, len(differences)), dtype=np.int8)
        sums = (2.0 * signs - 1.0) @ differences
        reached += int((np.abs(sums) >= observed).sum())
    return (1 + reached) / (1 + permutations)


def compare(
    a: Evaluation,
    b: Evaluation,
    metric: str,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Paired comparison of two evaluations of the same users.

    Args:
        a, b: from the same data, split and options.
        metric: as ``'ndcg@10'``.
        confidence, resamples, seed: see ``confidence_interval``; also of the sign flips.

    Raises:
        KeyError: one of them did not measure the metric.
        ValueError: they tested different users or questions.
    """
    asked = [(each.users, each.relevant, each.held_item) for each in (a, b)]
    if not all(np.array_equal(one, other) for one, other in zip(*asked, strict=True)):
        raise ValueError(
            f"a paired comparison needs the same users and held-out items; {a.name!r} has "
            f"{len(a.users)} users and {len(a.held_item)} items held out, {b.name!r} "
            f"{len(b.users)} and {len(b.held_item)}; evaluate both on the same data, the same way"
        )
    for each in (a, b):
        each[metric]  # raises the error that names what was measured
    one, other = a.per_user[metric], b.per_user[metric]
    differences = other - one
    return Comparison(
        metric=metric,
        a=float(one.mean()),
        b=float(other.mean()),
        difference=confidence_interval(differences, confidence, resamples, seed),
        p=sign_flip_p(differences, resamples, seed),
        wins=int((differences > 0).sum()),
        losses=int((differences < 0).sum()),
        ties=int((differences == 0).sum()),
    )
