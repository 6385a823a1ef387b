"""When a model may replace the live one: plain functions, no TFX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfrec.config import GateConfig
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
    covered: float,
    baselines: dict[str, float],
    live: float | None,
) -> list[str]:
    """Reasons against a candidate; none is a blessing.

    Args:
        metric: its name.
        gate: the thresholds.
        candidate, covered: the metric and the coverage of the candidate.
        baselines: the metric of each baseline.
        live: the metric of the live model; None where there is none.
    """
    reasons = []
    for name, value in baselines.items():
        bar = (1 + gate.margin) * value
        if not candidate >= bar:
            reasons.append(
                f"{metric} {candidate:.4f} is below {bar:.4f}, that of {name!r}"
                + (f" plus the margin {gate.margin:g}" if gate.margin else "")
            )
    if live is not None:
        bar = (1 - gate.live_tolerance) * live
        if not candidate >= bar:
            reasons.append(
                f"{metric} {candidate:.4f} is below {bar:.4f}: the live model has {live:.4f} and "
                f"at most {gate.live_tolerance:.0%} may be lost"
            )
    if covered < gate.min_coverage:
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
