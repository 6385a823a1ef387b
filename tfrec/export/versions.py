"""Numbers of versions below a folder that a server watches."""

from __future__ import annotations

from pathlib import Path


def next_version(base: Path, source: Path, version: int | None = None) -> Path:
    """Where a new version belongs.

    Args:
        base: the folder of versions; need not be there.
        source: the version that the new one is made of.
        version: its number; by default one more than the highest in ``base`` and than the source's.

    Raises:
        ValueError: the version is there already.
    """
    numbers = [int(p.name) for p in base.glob("*") if p.name.isdigit()]
    numbers += [int(source.name)] if source.name.isdigit() else []
    number = max([*numbers, 0]) + 1 if version is None else version
    target = base / str(number)
    if target.exists():
        raise ValueError(f"{target} is there already; pass another version than {number}")
    return target
