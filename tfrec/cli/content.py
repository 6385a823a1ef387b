"""Commands about content: items added to a served catalogue, and why an item has its score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tfrec.cli.common import ModelFolder, out, told

STALE = 0.2  # share of items added to old cells above which new ones are advised
Version = Annotated[int | None, typer.Option(help="Number of the new version.")]

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
    version: Version = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the image files; that of the items' file.")
    ] = None,
    max_bad: Annotated[
        float | None,
        typer.Option(help="Share of unreadable images above which nothing is added; any.", max=1),
    ] = None,
) -> None:
    """Adds items to the catalogue from their features, without training; writes a new version."""
    with told():
        from tfrec.export.index_add import add_items

        found = add_items(
            model,
            items,
            to,
            update=update,
            version=version,
            images=images or items.parent,
            max_bad=max_bad,
        )
        if found.absent:
            out.print(f"not in the file, so missing for all: {', '.join(found.absent)}")
        out.print(
            f"{len(found.added):,} items added, {len(found.updated):,} updated; the catalogue "
            f"holds {found.items:,}: {found.folder}",
            soft_wrap=True,
        )
        for name, kinds in found.images.items():
            told_of = ", ".join(f"{n:,} {kind}" for kind, n in kinds.items())
            out.print(f"images {name}: {told_of}", highlight=False)
        if found.quarantine is not None:
            out.print(f"unreadable images: {found.quarantine}", soft_wrap=True)
        if found.index is not None:
            out.print(found.index.line(), highlight=False, soft_wrap=True)
            if found.index.grown > STALE * found.index.n_items:
                out.print(
                    "more than a fifth of the items came after the cells were made: "
                    "'tfrec index refresh' makes them anew",
                    soft_wrap=True,
                )


@index_app.command("refresh")
def index_refresh(
    model: ModelFolder,
    vectors: Annotated[
        Path | None,
        typer.Option(help="Parquet: item_id, vector, title; in place of the items there are."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder of versions; the model's own.")
    ] = None,
    version: Version = None,
    min_recall: Annotated[
        float | None, typer.Option(help="Share of the true best to find; as it was made.")
    ] = None,
    at: Annotated[int | None, typer.Option(help="List length of that share.")] = None,
    cells: Annotated[int | None, typer.Option(help="Cells; 4 sqrt(items).")] = None,
) -> None:
    """Makes the inverted file of a model anew, without training; writes a new version."""
    with told():
        from tfrec.export.index_refresh import read_vectors, refresh

        asked = {"min_recall": min_recall, "at": at, "cells": cells}
        found = refresh(
            model,
            to,
            vectors=read_vectors(vectors) if vectors else None,
            version=version,
            **{name: value for name, value in asked.items() if value is not None},
        )
        out.print(f"was   {found.before.line()}", highlight=False, soft_wrap=True)
        out.print(f"now   {found.after.line()}", highlight=False, soft_wrap=True)
        out.print(f"{found.folder}", soft_wrap=True)


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
