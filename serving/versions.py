"""Versions on disk: directories whose names are integers, some of them still being copied."""

from __future__ import annotations

import os
from pathlib import Path

GRAPH_FILES = ("saved_model.pb", "saved_model.pbtxt")
Fingerprint = tuple[int, int, int]


def list_versions(base_path: str | Path) -> dict[int, Path] | None:
    """Version directories below a base path.

    Args:
        base_path: directory of the model; ``00000123`` in it is version 123.

    Returns:
        Version number to directory; None where the base path cannot be listed (it vanished, or
        was never there), which is not the same as listing nothing.
    """
    try:
        with os.scandir(base_path) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return None
    # isdecimal alone would take Arabic and other digits that int() also reads
    found = {name: int(name) for name in names if name.isascii() and name.isdecimal()}
    return {number: Path(base_path, name) for name, number in sorted(found.items())}


def is_complete(path: Path) -> bool:
    """Whether the graph file is there; writers put it last, so a copy without it is unfinished."""
    return any((path / name).is_file() for name in GRAPH_FILES)


def fingerprint(path: Path) -> Fingerprint:
    """Changes whenever a copy grows: (files, bytes, newest mtime in ns)."""
    files = size = newest = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                stat = os.stat(os.path.join(folder, name))
            except OSError:
                continue
            files, size, newest = files + 1, size + stat.st_size, max(newest, stat.st_mtime_ns)
    return files, size, newest
