"""A progress bar where somebody is watching, silence where nobody is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def track(rows: Sequence[T], label: str, progress: bool | None = None) -> Iterator[T]:
    """Yields the rows and shows how far it is.

    Args:
        rows: the work.
        label: said before the bar.
        progress: True or False forces it; None shows the bar on a terminal and only for work of
            more than one step.
    """
    shown = sys.stderr.isatty() and len(rows) > 1 if progress is None else progress
    if not shown:
        yield from rows
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    # A log keeps one line of it, a terminal is left as it was.
    with Progress(console=console, transient=console.is_terminal) as bar:
        task = bar.add_task(label, total=len(rows))
        for row in rows:
            yield row
            bar.advance(task)
