"""``tfrec ope``: a policy's value from another policy's log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tfrec.cli.common import err, out, told


def ope(
    log: Annotated[Path, typer.Argument(help="Parquet: propensity, reward, target.")],
    dependence: Annotated[
        str, typer.Option(help="What a place's reward depends on: list, cascade or position.")
    ] = "cascade",
    clip: Annotated[float | None, typer.Option(help="Largest weight.")] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Recommender to judge: fills 'target'.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="INPUT=NUMBER of the recommender.")
    ] = None,
    tables: Annotated[
        Path | None, typer.Option("--data", help="Canonical tables: fills 'reward'.")
    ] = None,
    event: Annotated[
        list[str] | None, typer.Option(help="Kind of event that is earned; may be repeated.")
    ] = None,
    value: Annotated[
        str | None, typer.Option(help="Column of the events that is earned; else 1 an event.")
    ] = None,
    window: Annotated[
        int, typer.Option(help="Seconds after being shown in which an event counts.")
    ] = 86_400,
    to: Annotated[Path | None, typer.Option("--out", help="Writes the completed log.")] = None,
) -> None:
    """Estimates what a new policy would have earned; warns where the log cannot tell."""
    with told():
        import pyarrow.parquet as pq

        from tfrec.evaluation.off_policy import estimates
        from tfrec.evaluation.policy_log import to_log

        if setting and model is None:
            raise ValueError("--set turns an input of the recommender that --model names")
        if (event or value) and tables is None:
            raise ValueError("--event and --value read the events that --data names")
        table = pq.read_table(log)
        if tables is not None:
            from tfrec.data.tables import open_interactions
            from tfrec.evaluation.attribution import attribute

            events = open_interactions(tables).to_table()
            table = attribute(table, events, window=window, kinds=event or (), value=value)
        if model is not None:
            from tfrec.export.judge import judge

            table = judge(table, model, _numbers(setting or []))
        if to is not None:
            pq.write_table(table, to)
        found = estimates(
            to_log(table),
            dependence=dependence,  # type: ignore[arg-type]
            clip=clip,
            confidence=confidence,
        )
        shown = Table(
            "estimate", "value", f"{confidence:.0%} interval", "effective rows", "largest"
        )
        for e in found:
            shown.add_row(
                e.name,
                f"{e.value.mean:.5f}",
                f"{e.value.low:.5f} .. {e.value.high:.5f}",
                f"{e.effective:,.0f} of {e.rows:,}",
                f"{e.largest:.3g}",
            )
        out.print(shown)
        for warning in dict.fromkeys(w for e in found for w in e.warnings):
            err.print(f"[yellow]warning:[/yellow] {warning}", highlight=False, soft_wrap=True)


def _numbers(settings: list[str]) -> dict[str, float]:
    """``["weight_revenue=0.3"]`` as numbers by name."""
    found = {}
    for setting in settings:
        name, _, number = setting.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise ValueError(
                f"--set takes INPUT=NUMBER, as weight_revenue=0.3; got {setting!r}"
            ) from None
    return found
