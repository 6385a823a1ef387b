"""Searches utility weights for the settings that nothing beats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from tfrec.evaluation.pareto import hypervolume, non_dominated

Setting = dict[str, float]
Measure = Callable[[Mapping[str, float]], dict[str, float]]
Search = Literal["grid", "sobol", "nsga2"]


@dataclass(frozen=True)
class Front:
    """All settings that were measured.

    Attributes:
        settings: goal -> weight, and ``trade_off``.
        figures: what each brought, by metric.
        objectives: the metrics that make the front, larger is better.
    """

    settings: tuple[Setting, ...]
    figures: tuple[dict[str, float], ...]
    objectives: tuple[str, ...]

    @property
    def metrics(self) -> list[str]:
        """All that was measured."""
        return list(self.figures[0])

    def points(self, metrics: Sequence[str] | None = None) -> np.ndarray:
        """float64 [setting, metric]; of the objectives where no metrics are named."""
        names = self.objectives if metrics is None else metrics
        return np.array([[each[name] for name in names] for each in self.figures])

    @property
    def best(self) -> np.ndarray:
        """Which settings nothing beats, bool [setting]."""
        return non_dominated(self.points())

    def hypervolume(self, reference: Sequence[float] | None = None) -> float:
        """Of all settings above ``reference``; 0 in every objective by default."""
        return hypervolume(self.points(), reference or [0.0] * len(self.objectives))


def spread(
    goals: Sequence[str], trade_offs: tuple[float, float], n: int, search: Search, seed: int = 0
) -> list[Setting]:
    """Settings over the simplex of weights (they sum to 1) times a range of trade-offs.

    Only the proportions of the weights order a list, so nothing is lost by the sum of 1.

    Args:
        goals: to weigh, at least one.
        trade_offs: least and largest ``trade_off``; equal: it stays fixed.
        n: about how many (``sobol``: the next power of 2).
        search: ``grid`` (even steps) or ``sobol`` (a scrambled Sobol sequence, Owen 1998).
        seed: of the scrambling.

    Raises:
        ValueError: no goals, a range outside 0..1, or fewer than 2 settings.
    """
    low, high = trade_offs
    if not goals or n < 2 or not 0 <= low <= high <= 1:
        raise ValueError(
            f"a search has goals, at least 2 settings and trade-offs within 0..1; got "
            f"{list(goals)}, {n} and {trade_offs}"
        )
    free = len(goals) - 1 + (high > low)
    if free == 0:
        return [{goals[0]: 1.0, "trade_off": low}]
    if search == "grid":
        steps = 1
        while len(_grid(len(goals), steps + 1, high > low)) <= n:
            steps += 1
        units = _grid(len(goals), steps, high > low)
    else:
        from scipy.stats import qmc

        drawn = qmc.Sobol(free, seed=seed).random_base2(int(np.ceil(np.log2(n))))
        units = [(*_simplex(u[: len(goals) - 1]), u[-1] if high > low else 0.0) for u in drawn]
    return [
        {
            **dict(zip(goals, map(float, unit[:-1]), strict=True)),
            "trade_off": float(low + unit[-1] * (high - low)),
        }
        for unit in units
    ]


def _grid(goals: int, steps: int, trade_off: bool) -> list[tuple[float, ...]]:
    """Weights in steps of ``1 / steps`` that sum to 1, times as many trade-offs, each 0..1."""
    weights = [w for w in product(range(steps + 1), repeat=goals) if sum(w) == steps]
    beside = [t / steps for t in range(steps + 1)] if trade_off else [0.0]
    return [(*(x / steps for x in w), t) for w in weights for t in beside]


def _simplex(unit: np.ndarray) -> np.ndarray:
    """A point of the unit cube as weights that sum to 1, evenly: gaps of the sorted numbers."""
    return np.diff(np.concatenate([[0.0], np.sort(unit), [1.0]]))


def search(
    measure: Measure,
    goals: Sequence[str],
    objectives: Sequence[str],
    *,
    n: int = 64,
    trade_offs: tuple[float, float] = (0.0, 0.0),
    method: Search = "sobol",
    scales: Mapping[str, float] | None = None,
    seed: int = 0,
    also: Sequence[Setting] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Front:
    """Measures many settings.

    Args:
        measure: figures of a setting, e.g. ``Tradeoffs.measure``.
        goals: whose weights are turned.
        objectives: metrics that make the front; larger is better.
        n: settings.
        trade_offs: see ``spread``.
        method: ``grid``, ``sobol``, or ``nsga2`` (Deb et al. 2002, by Optuna), which goes on from
            what it has found.
        scales: goal -> factor on its weight, where goals' parts differ in size: a goal worth 100 a
            unit and one worth 1 then get equal say. 1 by default.
        seed: of the search.
        also: settings measured in any case, first: each goal alone, what is configured.
        say: is given a line now and then.

    Raises:
        ValueError: an objective that is not measured, or a search that is none.
    """
    if method not in ("grid", "sobol", "nsga2"):
        raise ValueError(f"a search is 'grid', 'sobol' or 'nsga2'; got {method!r}")
    factor = {goal: 1.0 if scales is None else float(scales.get(goal, 1.0)) for goal in goals}
    settings: list[Setting] = []
    figures: list[dict[str, float]] = []

    def ask(setting: Setting) -> dict[str, float]:
        found = measure(setting)
        missing = [name for name in objectives if name not in found]
        if missing:
            raise ValueError(f"objectives are among the figures {list(found)}; got {missing}")
        settings.append(setting)
        figures.append(found)
        if len(settings) % 16 == 0:
            say(f"{len(settings)} settings measured")
        return found

    def scaled(setting: Mapping[str, float]) -> Setting:
        return {name: value * factor.get(name, 1.0) for name, value in setting.items()}

    for setting in also:
        ask(dict(setting))
    if method == "nsga2":
        _nsga2(lambda s: ask(scaled(s)), goals, objectives, n, trade_offs, seed)
    else:
        for setting in spread(goals, trade_offs, n, method, seed):
            ask(scaled(setting))
    return Front(tuple(settings), tuple(figures), tuple(objectives))


def _nsga2(
    ask: Measure,
    goals: Sequence[str],
    objectives: Sequence[str],
    n: int,
    trade_offs: tuple[float, float],
    seed: int,
) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    low, high = trade_offs

    def trial_of(trial: optuna.Trial) -> list[float]:
        raw = np.array([trial.suggest_float(goal, 0.0, 1.0) for goal in goals])
        weights = raw / raw.sum() if raw.sum() > 0 else np.full(len(goals), 1 / len(goals))
        setting = dict(zip(goals, map(float, weights), strict=True))
        setting["trade_off"] = trial.suggest_float("trade_off", low, high) if high > low else low
        found = ask(setting)
        return [found[name] for name in objectives]

    sampler = optuna.samplers.NSGAIISampler(population_size=max(4, min(20, n // 3)), seed=seed)
    study = optuna.create_study(directions=["maximize"] * len(objectives), sampler=sampler)
    study.optimize(trial_of, n_trials=n)
