"""``tfrec pareto``: weights of the utility, searched, shown, chosen, written back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tfrec.cli.common import ConfigFile, ModelFolder, load, out, say, told

SHOWN = 12  # rows of the front on the terminal; all are in front.txt


def pareto(
    config: ConfigFile,
    model: ModelFolder,
    tables: Annotated[Path, typer.Option("--data", help="Canonical tables.")],
    to: Annotated[Path, typer.Option("--out", help="Folder of plot, table and new config.")],
    k: Annotated[int, typer.Option("-k", help="List length.")] = 10,
    candidates: Annotated[int, typer.Option(help="Candidates a user.")] = 200,
    settings: Annotated[int, typer.Option(help="Settings to measure.")] = 64,
    method: Annotated[str, typer.Option(help="grid, sobol or nsga2.")] = "sobol",
    objective: Annotated[
        list[str] | None, typer.Option(help="Metric of the front; may be repeated.")
    ] = None,
    goal: Annotated[
        list[str] | None, typer.Option(help="Goal whose weight is turned; may be repeated.")
    ] = None,
    rule: Annotated[
        str, typer.Option(help="knee, or 'max revenue@10 with ndcg@10 >= 95%'.")
    ] = "knee",
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Measures many weights of the utility, and writes the chosen ones into a new configuration."""
    with told():
        from tfrec.data.tables import read_tables
        from tfrec.export.pareto import CHOSEN, PLOT, run_pareto, write_choice

        found = run_pareto(
            load(config),
            model,
            read_tables(tables),
            to,
            k=k,
            candidates=candidates,
            settings=settings,
            method=method,  # type: ignore[arg-type]
            objectives=objective or (),
            goals=goal or (),
            rule=rule,
            seed=seed,
            say=say,
        )
        _show(found)
        new = write_choice(config, found.setting, to / CHOSEN)
        out.print(f"plot {to / PLOT}, configuration {new}", soft_wrap=True)


def _show(found: Any) -> None:
    from tfrec.evaluation.pareto_report import table

    names = ", ".join(found.front.objectives)
    count = f"{int(found.front.best.sum())} of {len(found.front.settings)} settings"
    out.print(f"validation: {count} are not beaten in {names}; some of them:")
    out.print(table(found.front, found.at, SHOWN), highlight=False, soft_wrap=True)
    out.print(f"hypervolume above 0: {found.front.hypervolume():.6g}")
    shown = Table("test", *found.test)
    for metric in found.front.metrics:
        shown.add_row(metric, *(f"{figures[metric]:.4f}" for figures in found.test.values()))
    out.print(shown)
