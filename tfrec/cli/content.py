"""Commands about content: items added to a served catalogue, and why an item has its score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tfrec.cli.common import ModelFolder, out, told

index_app = typer.Typer(no_args_is_help=True, help="The catalogue of an exported model.")


@index_app.command("add")
def index_add(
    model: ModelFolder,
    items: Annotated[
        Path, typer.Option(help="Parquet or CSV: item_id, the model's item columns, title.")
    ],
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder of versions; the model's own.")
    ] = None,
    update: Annotated[
        bool, typer.Option(help="Items that are there take the features given.")
    ] = False,
    version: Annotated[int | None, typer.Option(help="Number of the new version.")] = None,
) -> None:
    """Adds items to the catalogue from their features, without training; writes a new version."""
    with told():
        from tfrec.export.index_add import add_items, growing_model
        from tfrec.export.new_items import read_new_items

        _, loaded = growing_model(model)
        specs = loaded.signatures["item_rows"].structured_input_signature[1]
        found = add_items(model, read_new_items(items, specs), to, update=update, version=version)
        if found.absent:
            out.print(f"not in the file, so missing for all: {', '.join(found.absent)}")
        out.print(
            f"{len(found.added):,} items added, {len(found.updated):,} updated; the catalogue "
            f"holds {found.items:,}: {found.folder}",
            soft_wrap=True,
        )


def explain(
    user: Annotated[str, typer.Argument(help="User id.")],
    item: Annotated[str, typer.Argument(help="Item id.")],
    model: ModelFolder,
    tables: Annotated[Path, typer.Option("--data", help="Canonical tables.")],
    most: Annotated[int, typer.Option("-n", help="Rows of the table.")] = 15,
) -> None:
    """Says which items of the history and which features carried a score."""
    with told():
        from tfrec.data.tables import read_tables
        from tfrec.export.explain import Explainer

        found = Explainer(model, read_tables(tables)).explain(user, item)
        out.print(
            f"[bold]user {found.user}, item {found.item} {found.title}[/bold]: score "
            f"{found.score:.4f}; of a user of whom nothing is known {found.empty:.4f}",
            highlight=False,
            soft_wrap=True,
        )
        table = Table("part", "", "", "score with it less without")
        for c in found.contributions[:most]:
            table.add_row(c.part, c.name, c.shown, f"{c.value:+.4f}")
        out.print(table)
        rest = len(found.contributions) - most
        if rest > 0:
            out.print(f"... and {rest} smaller ones (-n shows more)")
        if found.additive:
            out.print("the history's parts add up: each is the item's exact share of the score")
