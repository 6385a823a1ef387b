"""Evaluations for people: a table on the terminal, a page with plots."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tfrec.data.encoded import RetrievalData
from tfrec.evaluation import plots
from tfrec.evaluation.bootstrap import compare, confidence_interval
from tfrec.evaluation.exposure import exposure_tables, exposures
from tfrec.evaluation.report_template import PAGE
from tfrec.evaluation.result import Evaluation
from tfrec.evaluation.slices import Slice, all_slices

# Where smaller is better, and where neither is.
LOWER = ("gini", "rmse", "mae")
NEUTRAL = ("arp", "popularity_rank", "novelty")


def _columns(evaluations: Mapping[str, Evaluation], metrics: Sequence[str] | None) -> list[str]:
    if not evaluations:
        raise ValueError("a report needs at least one evaluation; pass {name: evaluation}")
    first = next(iter(evaluations.values()))
    if metrics is not None:
        return list(metrics)
    usual = [f"{name}@{k}" for name in ("recall", "ndcg") for k in first.ks]
    return [*usual, *dict.fromkeys(name for e in evaluations.values() for name in e.beyond)]


def _value(evaluation: Evaluation, metric: str) -> float | None:
    try:
        return evaluation[metric]
    except KeyError:
        return None


def _best(evaluations: Mapping[str, Evaluation], metric: str) -> str | None:
    """The model to print bold in a column; None where no value is better than another."""
    values = {n: v for n, e in evaluations.items() if (v := _value(e, metric)) is not None}
    name = metric.partition("@")[0]
    if len(values) < 2 or name in NEUTRAL:
        return None
    pick = min if name in LOWER else max
    return pick(values, key=lambda n: values[n])


def print_table(
    evaluations: Mapping[str, Evaluation],
    metrics: Sequence[str] | None = None,
    file: IO[str] | None = None,
) -> None:
    """Prints one row a model.

    Args:
        evaluations: by model name.
        metrics: columns; by default recall and NDCG at every cut-off, and what ``beyond`` measured.
        file: where to; None is the terminal.

    Raises:
        ValueError: nothing to print.
    """
    from rich.console import Console
    from rich.table import Table

    columns = _columns(evaluations, metrics)
    first = next(iter(evaluations.values()))
    table = Table(
        title=f"{first.split}: {len(first.users)} users, {first.n_items} items, "
        f"{int(first.relevant.sum())} held-out events"
    )
    table.add_column("model")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("seconds", justify="right")
    best = {c: _best(evaluations, c) for c in columns}
    for name, evaluation in evaluations.items():
        cells = []
        for column in columns:
            value = _value(evaluation, column)
            text = "-" if value is None else f"{value:.4g}" if value >= 10 else f"{value:.4f}"
            cells.append(f"[bold]{text}[/bold]" if best[column] == name else text)
        table.add_row(name, *cells, f"{evaluation.seconds:.2f}")
    # A pipe has no width: take what the columns need, so that nothing is cut off.
    console = Console(file=file)
    if not console.is_terminal:
        console = Console(file=file, width=24 + 14 * (len(columns) + 1))
    console.print(table)


def _metric_rows(
    evaluations: Mapping[str, Evaluation], columns: Sequence[str], confidence: float
) -> list[dict[str, Any]]:
    best = {c: _best(evaluations, c) for c in columns}
    rows = []
    for name, evaluation in evaluations.items():
        cells = []
        for column in columns:
            value = _value(evaluation, column)
            text = "-" if value is None else f"{value:.4f}"
            if column in evaluation.per_user:
                bound = confidence_interval(evaluation.per_user[column], confidence)
                text += f" [{bound.low:.4f}, {bound.high:.4f}]"
            cells.append({"text": text, "best": best[column] == name})
        rows.append({"name": name, "cells": cells})
    return rows


def _comparisons(
    evaluations: Mapping[str, Evaluation], base: str, metrics: Sequence[str], confidence: float
) -> list[dict[str, Any]]:
    rows = []
    for name, evaluation in evaluations.items():
        if name == base:
            continue
        for metric in metrics:
            found = compare(evaluations[base], evaluation, metric, confidence=confidence)
            bound = found.difference
            rows.append(
                {
                    "name": name,
                    "metric": metric,
                    "difference": f"{bound.mean:+.4f}",
                    "interval": f"[{bound.low:+.4f}, {bound.high:+.4f}]",
                    "p": f"{found.p:.4f}",
                    "wins": found.wins,
                    "losses": found.losses,
                    "ties": found.ties,
                }
            )
    return rows


def _slice_groups(slices: Mapping[str, list[Slice]], k: int) -> list[dict[str, Any]]:
    """Tables of recall@k, one for each kind of slice, models side by side."""
    first = next(iter(slices.values()))
    metric = f"recall@{k}"
    groups = []
    for by in dict.fromkeys(s.by for s in first):
        rows = []
        for number, each in enumerate(s for s in first if s.by == by):
            same = [[s for s in groups_ if s.by == by][number] for groups_ in slices.values()]
            values = [f"{s.metrics[metric]:.4f}" for s in same]
            rows.append({"value": each.value, "users": each.users, "cells": values})
        groups.append({"by": by, "rows": rows, "names": list(slices), "metric": metric})
    return groups


def write_html(
    evaluations: Mapping[str, Evaluation],
    path: str | Path,
    *,
    data: RetrievalData | None = None,
    base: str | None = None,
    title: str = "Evaluation",
    metrics: Sequence[str] | None = None,
    features: Sequence[str] = (),
    user_words: Mapping[str, Sequence[str]] | None = None,
    item_features: Sequence[str] = (),
    item_words: Mapping[str, Sequence[str]] | None = None,
    confidence: float = 0.95,
) -> Path:
    """Writes one page: table with intervals, paired comparison, plots, slices, exposure.

    Args:
        evaluations: by model name, over the same users.
        path: of the file; its folder is made.
        data: where given, slices and exposure are shown too.
        base: the model that the others are compared with; by default the first.
        title: of the page.
        metrics: columns, see ``print_table``.
        features: user features to slice by.
        user_words: user feature -> words of its indices, index 0 first, to name the slices.
        item_features: item features by which exposure is shown, besides popularity.
        item_words: item feature -> words of its indices, index 0 first, to name the groups.
        confidence: of the intervals.

    Raises:
        ValueError: no evaluations, or evaluations of different users.
        KeyError: ``base`` is none of them.
    """
    import jinja2

    columns = _columns(evaluations, metrics)
    first = next(iter(evaluations.values()))
    base = base or next(iter(evaluations))
    if base not in evaluations:
        raise KeyError(f"base {base!r} is none of the models {list(evaluations)}")
    k = first.ks[0]
    pictures = [
        (plots.metric_bars(evaluations, f"ndcg@{k}"), f"NDCG@{k} with 95% intervals"),
        (plots.recall_curve(evaluations), "Recall by list length"),
        (plots.exposure_curve(evaluations, k), f"Exposure: who is shown in the first {k} ranks"),
    ]
    groups: list[dict[str, Any]] = []
    exposure: list[dict[str, Any]] = []
    if data is not None:
        slices = {
            name: all_slices(e, data, features, user_words) for name, e in evaluations.items()
        }
        groups = _slice_groups(slices, k)
        caption = f"Recall@{k} by activity, least active users first"
        pictures.append((plots.slice_bars(slices, "activity", f"recall@{k}"), caption))
        shown = {
            name: exposures(evaluation, data, k, item_features, item_words)
            for name, evaluation in evaluations.items()
        }
        exposure = exposure_tables(shown, k)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(PAGE).render(
        title=title,
        subtitle=f"{first.split} split, {len(first.users)} users, {first.n_items} items, "
        f"{int(first.relevant.sum())} held-out events, whole catalogue",
        columns=columns,
        rows=_metric_rows(evaluations, columns, confidence),
        confidence=f"{confidence:.0%}",
        comparisons=_comparisons(evaluations, base, (f"recall@{k}", f"ndcg@{k}"), confidence),
        base=base,
        plots=[
            {"data": base64.b64encode(png).decode(), "caption": caption}
            for png, caption in pictures
        ],
        slices=groups,
        exposure=exposure,
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path
