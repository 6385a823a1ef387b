"""What a policy would have earned, from the log of another one.

The log holds what was shown, how likely the logging policy was to show it, and what it earned. With
``w = target / propensity`` (the new policy's chance of the same over the old one's):

    IPS    mean of  w r                                   Horvitz & Thompson 1952
    SNIPS  sum of  w r  over  sum of  w                   Swaminathan & Joachims 2015, NeurIPS
    DR     mean of  v + w (r - q)                         Dudik, Langford & Li 2011, ICML

with q the predicted reward of what was shown and v that of the new policy, its mean over what it
would show. IPS and DR are unbiased where the log could show all that the new policy shows; DR also
where q is right, and it varies less the better q is. SNIPS has a small bias that vanishes with the
rows, and does not change when a constant is added to all rewards. Clipped weights trade variance
for bias (low, where rewards are not negative).

For lists the reward of a place may be taken to depend on

    list      the whole list: one weight, the product over all places
    cascade   the places down to it: w_k is the product over places 1..k; McInerney et al. 2020,
              KDD; doubly robust: Kiyohara et al. 2022, WSDM (the recursion of Jiang & Li 2016)
    position  the item at that place alone: w_k is the place's own; Li et al. 2018, KDD

from the weakest assumption and the largest variance to the strongest and the smallest. The first
two take the chance of each place given those above it (epsilon-greedy logs that), ``position`` the
chance of the item at that place whatever stands above (Thompson sampling logs that).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np

from tfrec.evaluation.bootstrap import Interval

Dependence = Literal["list", "cascade", "position"]
FEW = 50  # an effective sample size below this, or below FEW_SHARE of the rows, is warned of
FEW_SHARE = 0.01
HEAVY = 0.1  # share of all weight that one row may carry
SIGMAS = 4.0  # how far the mean weight may be from 1, in standard errors


@dataclass(frozen=True)
class Log:
    """Rows of a log, as arrays. Short lists: propensity 1, target 1, reward 0 behind.

    Attributes:
        propensity: float [row] or [row, place], the logging policy's chance of what was shown.
        reward: the same shape; any unit, e.g. clicks or money.
        target: the same shape, the new policy's chance of what was shown.
        predicted: the same shape, q: the reward that a model predicts for what was shown (for
            ``cascade``: of this place and all below it); for doubly robust estimates.
        expected: the same shape, v: the same prediction averaged over the new policy's choices
            (given the places above, as they were shown).

    Raises:
        ValueError: shapes that differ, numbers that are not finite or no chances, fewer than two
            rows.
    """

    propensity: np.ndarray
    reward: np.ndarray
    target: np.ndarray
    predicted: np.ndarray | None = None
    expected: np.ndarray | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        shape = np.shape(given["reward"])
        for name, values in given.items():
            if values is None:
                continue
            array = np.asarray(values, np.float64)
            if array.shape != shape or array.ndim not in (1, 2) or array.shape[0] < 2:
                raise ValueError(
                    f"all columns of a log are [row] or [row, place] alike, with at least 2 rows; "
                    f"got {name} {array.shape} beside reward {shape}"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds NaN or infinity; leave those rows out first")
            low, high = float(array.min()), float(array.max())
            if name in ("propensity", "target") and not (low >= 0 and high <= 1 + 1e-6):
                raise ValueError(
                    f"{name} is a chance, 0 to 1; got {low:g} to {high:g}; scores are no chances"
                )
            object.__setattr__(self, name, array if array.ndim == 2 else array[:, None])
        if (self.predicted is None) != (self.expected is None):
            raise ValueError(
                "a doubly robust estimate needs both 'predicted' (of what was shown) and "
                "'expected' (of the new policy); only one was given"
            )

    def __len__(self) -> int:
        return len(self.reward)


@dataclass(frozen=True)
class Estimate:
    """A policy's value with what says how far to trust it.

    Attributes:
        name: of the estimator.
        value: mean reward a row, with its interval (normal approximation; for SNIPS by the delta
            method).
        error: standard error.
        effective: Kish's effective sample size ``(sum w)^2 / sum w^2``, the least of all places.
        rows: used.
        largest: the largest weight.
        warnings: reasons for doubt; empty where there are none.
    """

    name: str
    value: Interval
    error: float
    effective: float
    rows: int
    largest: float
    warnings: tuple[str, ...]


class UnseenError(ValueError):
    """At some places the new policy shows nothing of what was logged.

    Args:
        places: int [n], from 1.
        longest: places of a list.
    """

    def __init__(self, places: np.ndarray, longest: int) -> None:
        self.all_places = len(places) == longest
        where = "" if self.all_places else f" at places {', '.join(map(str, places))}"
        super().__init__(
            f"the new policy shows nothing of what was logged{where} (all weights are 0), so the "
            f"log says nothing about it; log more rows, explore more, or take a stronger assumption"
        )


@dataclass(frozen=True)
class _Weights:
    """Weights [row, place] of a log without its impossible rows.

    Attributes:
        log: the rows that are used.
        here, above: weight of a place, and of those above it.
        warnings: reasons for doubt.
    """

    log: Log
    here: np.ndarray
    above: np.ndarray
    warnings: tuple[str, ...]

    @property
    def effective(self) -> float:
        squares = (self.here**2).sum(axis=0)
        total = self.here.sum(axis=0) ** 2
        return float(np.divide(total, squares, out=np.zeros_like(total), where=squares > 0).min())


def _possible(log: Log) -> tuple[Log, list[str]]:
    """Without rows whose propensity is 0."""
    kept = (log.propensity > 0).all(axis=1)
    lost = int((~kept).sum())
    if not lost:
        return log, []
    if len(log) - lost < 2:
        raise ValueError(
            "what was shown had a chance above 0, but nearly all logged propensities are 0; log "
            "the propensity that the recommender answers"
        )
    columns = (log.propensity, log.reward, log.target, log.predicted, log.expected)
    return Log(*(None if c is None else c[kept] for c in columns)), [  # type: ignore[arg-type]
        f"{lost} of {len(log)} rows have propensity 0 and were left out, which biases the "
        f"estimate: what was shown had a chance above 0; mend the log"
    ]


def _weigh(log: Log, dependence: Dependence, clip: float | None) -> _Weights:
    if dependence not in ("list", "cascade", "position"):
        raise ValueError(
            f"rewards depend on the 'list', the 'cascade' above or the 'position'; got "
            f"{dependence!r}"
        )
    if clip is not None and not clip > 0:
        raise ValueError(f"weights are clipped to a number above 0; got {clip!r}")
    log, warnings = _possible(log)
    ratio = log.target / log.propensity
    one = np.ones((len(log), 1))
    above = np.ones_like(ratio)
    if dependence == "list":
        here = np.broadcast_to(ratio.prod(axis=1, keepdims=True), ratio.shape)
    elif dependence == "cascade":
        here = np.cumprod(ratio, axis=1)
        above = np.concatenate([one, here[:, :-1]], axis=1)
    else:
        here = ratio
    raw = here
    if clip is not None:
        here, above = np.minimum(here, clip), np.minimum(above, clip)
    found = _Weights(log, here, above, ())
    return _Weights(log, here, above, (*warnings, *_doubts(found, raw)))


def _doubts(weights: _Weights, raw: np.ndarray) -> list[str]:
    """What speaks against trusting these weights; ``raw`` are the unclipped ones."""
    n, warnings = len(weights.log), []
    effective = weights.effective
    if effective < max(min(FEW, n / 2), FEW_SHARE * n):
        warnings.append(
            f"the effective sample size is {effective:.0f} of {n} rows: the two policies show too "
            f"different things; log more rows, explore more, or take a stronger assumption"
        )
    total = weights.here.sum(axis=0)
    share = np.divide(weights.here.max(axis=0), total, out=np.zeros_like(total), where=total > 0)
    if share.max() > HEAVY:
        warnings.append(f"one row carries {share.max():.0%} of all weight; clip the weights")
    mean = raw.mean(axis=0)
    error = raw.std(axis=0, ddof=1) / np.sqrt(n)
    off = np.abs(mean - 1) > SIGMAS * error + 1e-6
    if off.any():
        at = int(np.argmax(off))
        warnings.append(
            f"the mean weight at place {at + 1} is {mean[at]:.3f} +- {error[at]:.3f} where it "
            f"should be 1: the log never shows part of what the policy would, or the propensities "
            f"are wrong"
        )
    return warnings


def _estimate(
    name: str, weights: _Weights, value: float, influence: np.ndarray, confidence: float
) -> Estimate:
    """``influence`` [row]: by how much each row moves the mean, centred or not."""
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1; got {confidence}")
    error = float(influence.std(ddof=1) / np.sqrt(len(influence)))
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Estimate(
        name=name,
        value=Interval(value, value - reach, value + reach, confidence),
        error=error,
        effective=weights.effective,
        rows=len(weights.log),
        largest=float(weights.here.max()),
        warnings=weights.warnings,
    )


def ips(
    log: Log,
    *,
    dependence: Dependence = "list",
    clip: float | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Inverse propensity scoring.

    Args:
        log: the rows.
        dependence: what the reward of a place depends on; single items: no difference.
        clip: largest weight; None leaves them as they are.
        confidence: of the interval.

    Raises:
        ValueError: an unknown dependence, a clip or confidence out of range.
    """
    weights = _weigh(log, dependence, clip)
    terms = (weights.here * weights.log.reward).sum(axis=1)
    name = "ips" if clip is None else f"ips clipped at {clip:g}"
    return _estimate(name, weights, float(terms.mean()), terms, confidence)


def snips(log: Log, *, dependence: Dependence = "list", confidence: float = 0.95) -> Estimate:
    """Self-normalised inverse propensity scoring, place by place; see ``ips``.

    Raises:
        UnseenError: at some place the new policy never shows what was shown (all weights are 0).
        ValueError: as ``ips``.
    """
    weights = _weigh(log, dependence, None)
    here, reward = weights.here, weights.log.reward
    mean = here.mean(axis=0)
    unseen = np.flatnonzero(~(mean > 0))
    if len(unseen):
        raise UnseenError(1 + unseen, here.shape[1])
    value = (here * reward).mean(axis=0) / mean
    influence = (here * (reward - value) / mean).sum(axis=1)
    return _estimate("snips", weights, float(value.sum()), influence, confidence)


def doubly_robust(
    log: Log,
    *,
    dependence: Dependence = "list",
    clip: float | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """The prediction of a reward model, mended by the weighted error it makes; see ``ips``.

    Clipped weights stay doubly robust in the weaker sense: right where the reward model is.

    Raises:
        ValueError: as ``ips``, or the log has no ``predicted`` and ``expected``.
    """
    if log.predicted is None:
        raise ValueError(
            "a doubly robust estimate needs a reward model: give 'predicted' and 'expected'"
        )
    weights = _weigh(log, dependence, clip)
    used = weights.log
    assert used.predicted is not None
    assert used.expected is not None
    mended = weights.here * (used.reward - used.predicted)
    terms = (weights.above * used.expected + mended).sum(axis=1)
    name = "dr" if clip is None else f"dr clipped at {clip:g}"
    return _estimate(name, weights, float(terms.mean()), terms, confidence)


def logged(log: Log, confidence: float = 0.95) -> Estimate:
    """What the logging policy itself earned: the plain mean, to compare with."""
    ones = np.ones_like(log.reward)
    weights = _Weights(log, ones, ones, ())
    terms = log.reward.sum(axis=1)
    return _estimate("logged", weights, float(terms.mean()), terms, confidence)


def estimates(
    log: Log,
    *,
    dependence: Dependence = "list",
    clip: float | None = None,
    confidence: float = 0.95,
) -> list[Estimate]:
    """All that the log allows: the logged value, IPS (clipped too), SNIPS, DR.

    SNIPS is left out, with a warning, where some places of the log cannot tell of the new policy.

    Raises:
        UnseenError: none of them can.
        ValueError: as of each estimate.
    """
    found = [logged(log, confidence), ips(log, dependence=dependence, confidence=confidence)]
    if clip is not None:
        found.append(ips(log, dependence=dependence, clip=clip, confidence=confidence))
    try:
        found.append(snips(log, dependence=dependence, confidence=confidence))
    except UnseenError as error:
        if error.all_places:
            raise
        found[1] = replace(found[1], warnings=(*found[1].warnings, f"no snips: {error}"))
    if log.predicted is not None:
        found.append(doubly_robust(log, dependence=dependence, clip=clip, confidence=confidence))
    return found
