"""What all commands share: consoles, options, and errors told in one message."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

out = Console()
err = Console(stderr=True)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="YAML configuration.")]
IncludeSeen = Annotated[
    bool | None,
    typer.Option("--include-seen/--exclude-seen", help="Whether what a user had may come again."),
]
ModelFolder = Annotated[Path, typer.Option("--model", "-m", help="SavedModel, or its versions.")]


def start_tensorflow() -> None:
    """Imports TensorFlow (seconds) without the lines that it always says."""
    from serving.quiet import quiet_imports

    with quiet_imports():
        import tensorflow  # noqa: F401


@contextmanager
def told() -> Iterator[None]:
    """Turns errors that a user can mend into one message and exit status 2."""
    try:
        yield
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
        err.print(f"[bold red]error:[/bold red] {text}", highlight=False, soft_wrap=True)
        if os.environ.get("TFREC_TRACEBACK"):
            raise
        raise typer.Exit(2) from None


def say(line: str) -> None:
    err.print(line, highlight=False, markup=False, soft_wrap=True)


def load(path: Path) -> Any:
    from tfrec.config import load_config

    return load_config(path)
