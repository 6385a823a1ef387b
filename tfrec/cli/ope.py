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
) -> None:
    """Estimates what a new policy would have earned; warns where the log cannot tell."""
    with told():
        from tfrec.evaluation.off_policy import estimates
        from tfrec.evaluation.policy_log import read_log

        found = estimates(
            read_log(log),
            dependence=dependence,  # type: ignore[arg-type]
            clip=clip,
            confidence=confidence,
        )
        table = Table(
            "estimate", "value", f"{confidence:.0%} interval", "effective rows", "largest"
        )
        for e in found:
            table.add_row(
                e.name,
                f"{e.value.mean:.5f}",
                f"{e.value.low:.5f} .. {e.value.high:.5f}",
                f"{e.effective:,.0f} of {e.rows:,}",
                f"{e.largest:.3g}",
            )
        out.print(table)
        for warning in dict.fromkeys(w for e in found for w in e.warnings):
            err.print(f"[yellow]warning:[/yellow] {warning}", highlight=False, soft_wrap=True)
