"""A progress bar for long work, shown only where somebody looks (stderr is a terminal)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(label: str, total: float) -> Iterator[Callable[[float], None]]:
    """Yields a function that advances the bar.

    Args:
        label: what is going on, e.g. the file's name.
        total: amount of work, in the unit of the advances.
    """
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda step: bar.advance(task, step)
