"""When a model may replace the live one: plain functions, no TFX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfrec.config import GateConfig
from tfrec.config.run import RATING_METRICS
from tfrec.evaluation.result import Evaluation


def newest_version(serving: str | Path) -> Path | None:
    """Folder of the live model: the largest version number below ``serving``; None where none."""
    folder = Path(serving)
    versions = [p for p in folder.glob("*") if p.name.isdigit()] if folder.is_dir() else []
    ready = [p for p in versions if (p / "saved_model.pb").is_file()]
    return max(ready, key=lambda p: int(p.name), default=None)


def coverage(result: Evaluation) -> float:
    """Share of the catalogue that stands in at least one list."""
    return len(np.setdiff1d(result.lists, [0])) / result.n_items


def judge(
    metric: str,
    gate: GateConfig,
    candidate: float,
    covered: float | None,
    baselines: dict[str, float],
    live: float | None,
) -> list[str]:
    """Reasons against a candidate; none is a blessing.

    Args:
        metric: its name; of ``rmse`` and ``mae`` the smaller is the better.
        gate: the thresholds.
        candidate: the metric of the candidate.
        covered: its coverage; None where no lists were measured.
        baselines: the metric of each baseline.
        live: the metric of the live model; None where there is none.
    """
    falls = metric in RATING_METRICS
    side = "above" if falls else "below"
    reasons = []

    def beyond(bar: float) -> str | None:
        """How a value that does not reach the bar is told."""
        if candidate <= bar if falls else candidate >= bar:
            return None
        return f"{metric} {candidate:.4f} is {side} {bar:.4f}"

    for name, value in baselines.items():
        found = beyond((1 - gate.margin if falls else 1 + gate.margin) * value)
        if found:
            margin = f" {'less' if falls else 'plus'} the margin {gate.margin:g}"
            reasons.append(f"{found}, that of {name!r}" + (margin if gate.margin else ""))
    if live is not None:
        found = beyond((1 + gate.live_tolerance if falls else 1 - gate.live_tolerance) * live)
        if found:
            spent = "added" if falls else "lost"
            reasons.append(
                f"{found}: the live model has {live:.4f} and at most {gate.live_tolerance:.0%} "
                f"may be {spent}"
            )
    if covered is not None and covered < gate.min_coverage:
        reasons.append(
            f"the lists hold {covered:.1%} of the catalogue, below gate.min_coverage "
            f"{gate.min_coverage:.1%}"
        )
    return reasons


def blessed_before(
    models: list[Any], blessings: list[Any], candidate: Any
) -> tuple[list[Any], list[Any]]:
    """The newest blessed model that is older than the candidate, with its blessing; else nothing.

    Artifact ids grow with time, so the answer for a candidate never changes. TFX's own
    ``LatestBlessedModelStrategy`` would find the candidate itself in the next run, and evaluator
    and Pusher would run again on a model that has not changed.

    Args:
        models, blessings: TFX's ``Model`` and ``ModelBlessing`` artifacts.
        candidate: the model that is compared.
    """
    by_model = {
        b.get_int_custom_property("current_model_id"): b
        for b in blessings
        if b.get_int_custom_property("blessed") == 1
    }
    earlier = [m for m in models if m.id < candidate.id and m.id in by_model]
    if not earlier:
        return [], []
    newest = max(earlier, key=lambda m: m.id)
    return [newest], [by_model[newest.id]]
