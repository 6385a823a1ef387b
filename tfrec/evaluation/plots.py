"""Plots of evaluations as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfrec.evaluation.bootstrap import confidence_interval
from tfrec.evaluation.result import Evaluation
from tfrec.evaluation.slices import Slice


def _figure(width: float = 7.0, height: float = 3.6) -> tuple[Any, Any]:
    # The object interface: no global state and no display, whatever the backend.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def metric_bars(evaluations: Mapping[str, Evaluation], metric: str) -> bytes:
    """One bar a model with its 95% interval."""
    figure, axes = _figure()
    bounds = [confidence_interval(e.per_user[metric]) for e in evaluations.values()]
    means = np.array([b.mean for b in bounds])
    errors = np.array([[b.mean - b.low for b in bounds], [b.high - b.mean for b in bounds]])
    axes.bar(list(evaluations), means, yerr=np.maximum(errors, 0), capsize=4, color="#4c78a8")
    axes.set_ylabel(metric)
    axes.tick_params(axis="x", rotation=20 if len(means) > 4 else 0)
    return _png(figure)


def recall_curve(evaluations: Mapping[str, Evaluation]) -> bytes:
    """Recall at every cut-off up to the length of the lists."""
    figure, axes = _figure()
    for name, evaluation in evaluations.items():
        row = np.repeat(np.arange(len(evaluation.users)), evaluation.relevant)
        share = 1.0 / evaluation.relevant[row] / len(evaluation.users)
        found = np.zeros(evaluation.lists.shape[1])
        for at in range(len(found)):
            found[at] = share[evaluation.lists[row, at] == evaluation.held_item].sum()
        axes.plot(np.arange(1, len(found) + 1), np.cumsum(found), label=name)
    axes.set_xlabel("k")
    axes.set_ylabel("recall@k")
    axes.set_ylim(bottom=0)
    axes.legend()
    return _png(figure)


def exposure_curve(evaluations: Mapping[str, Evaluation], k: int) -> bytes:
    """Which share of all recommendations goes to which share of the catalogue."""
    figure, axes = _figure()
    for name, evaluation in evaluations.items():
        lists = evaluation.lists[:, :k]
        shown = np.bincount(lists.ravel(), minlength=evaluation.n_items + 1)[1:]
        shown = np.sort(shown)[::-1]
        x = np.arange(1, len(shown) + 1) / len(shown)
        axes.plot(x, np.cumsum(shown) / max(shown.sum(), 1), label=name)
    axes.plot([0, 1], [0, 1], color="#999", linestyle=":")
    axes.set_xlabel("share of the catalogue, most shown first")
    axes.set_ylabel("share of recommendations")
    axes.legend()
    return _png(figure)


def slice_bars(slices: Mapping[str, Sequence[Slice]], by: str, metric: str) -> bytes:
    """The slices of one kind side by side for all models."""
    figure, axes = _figure()
    width = 0.8 / max(len(slices), 1)
    for number, (name, groups) in enumerate(slices.items()):
        mine = [s for s in groups if s.by == by]
        at = np.arange(len(mine)) + number * width
        axes.bar(at, [s.metrics[metric] for s in mine], width, label=name)
        axes.set_xticks(np.arange(len(mine)) + 0.4 - width / 2, [s.value for s in mine])
    axes.tick_params(axis="x", rotation=30, labelsize=8)
    axes.set_ylabel(metric)
    axes.legend()
    return _png(figure)
