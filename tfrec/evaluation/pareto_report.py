"""A front as a table and as a plot."""

from __future__ import annotations

import io

import numpy as np

from tfrec.evaluation.pareto import non_dominated
from tfrec.evaluation.weight_search import Front


def order(front: Front) -> np.ndarray:
    """Positions of the non-dominated settings, the first objective falling."""
    best = np.flatnonzero(front.best)
    return best[np.argsort(-front.points()[best, 0], kind="stable")]


def table(front: Front, chosen: int | None = None, most: int | None = None) -> str:
    """The non-dominated settings as text: weights (shares of their sum), then all figures.

    Args:
        front: what was measured.
        chosen: marked, and always shown.
        most: rows; so many are picked evenly along the first objective. None: all.
    """
    shown = order(front)
    if most is not None and len(shown) > most:
        picked = shown[np.unique(np.linspace(0, len(shown) - 1, most).round().astype(int))]
        shown = np.array([at for at in shown if at in picked or at == chosen])
    goals = sorted({name for s in front.settings for name in s if name != "trade_off"})
    rows = [[*goals, "trade_off", *front.metrics, ""]]
    for at in shown:
        setting, figures = front.settings[at], front.figures[at]
        total = sum(abs(setting.get(goal, 0.0)) for goal in goals) or 1.0
        rows.append(
            [
                *(f"{setting.get(goal, 0.0) / total:.4f}" for goal in goals),
                f"{setting.get('trade_off', 0.0):.3f}",
                *(f"{figures[name]:.4f}" for name in front.metrics),
                "<- chosen" if at == chosen else "",
            ]
        )
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def plot(front: Front, chosen: int | None = None) -> bytes:
    """All settings and the front: a PNG of the first two objectives; a third as colour."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points, best = front.points(), front.best
    names = front.objectives
    y = points[:, 0]
    x = points[:, 1] if len(names) > 1 else np.arange(len(points), dtype=float)
    axes.scatter(x[~best], y[~best], s=16, color="#bbbbbb", label="beaten")
    if len(names) > 2:
        shown = axes.scatter(x[best], y[best], s=36, c=points[best, 2], cmap="viridis")
        figure.colorbar(shown, ax=axes, label=names[2])
    else:
        axes.scatter(x[best], y[best], s=36, color="#4c78a8", label="not beaten")
    if len(names) > 1:
        # The front of the first two alone: nothing lies above and to the right of it.
        edge = np.flatnonzero(non_dominated(points[:, :2]))
        edge = edge[np.argsort(x[edge])]
        axes.plot(x[edge], y[edge], color="#4c78a8", linewidth=1, label="front of these two")
    if chosen is not None:
        axes.scatter(
            x[[chosen]],
            y[[chosen]],
            s=150,
            facecolors="none",
            edgecolors="#e45756",
            linewidths=2,
            label="chosen",
        )
    axes.set_ylabel(names[0])
    axes.set_xlabel(names[1] if len(names) > 1 else "setting")
    axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
