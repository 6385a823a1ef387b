"""Per-user values of finished trainings on disk, so that a long script can be run in parts.

    python -m benchmarks.content --kept /tmp/kept --limit 280    # again and again until it is done

A paired interval needs every user's value, which the records of ``Results`` do not hold. The folder
belongs to one state of the code: whoever changes a script or a model empties it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]


class OutOfTime(Exception):
    """The time given to this run is used up; what was finished is kept."""


class Kept:
    """Makes each named set of arrays once.

    Args:
        folder: where they are kept; None keeps nothing.
        limit_s: seconds after which no new one is begun; None for no limit.
    """

    def __init__(self, folder: Path | None, limit_s: float | None = None) -> None:
        self._folder = folder
        self._end = None if limit_s is None else time.monotonic() + limit_s

    def __call__(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> Arrays:
        """The arrays kept under a name, made where there are none.

        Raises:
            OutOfTime: they are not there and the time is up.
        """
        path = None
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / (name.replace("/", "-").replace(" ", "_") + ".npz")
            if path.exists():
                with np.load(path) as found:
                    return dict(found)
        if self._end is not None and time.monotonic() > self._end:
            raise OutOfTime(name)
        began = time.monotonic()
        made = dict(make())
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        if path is not None:
            partial = path.with_suffix(".part.npz")
            np.savez(partial, allow_pickle=False, **made)
            partial.replace(path)
        return made


def kept_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--kept FOLDER`` and ``--limit SECONDS``."""
    parser.add_argument("--kept", type=Path, help="folder of what earlier parts of a run finished")
    parser.add_argument("--limit", type=float, help="begin no training after so many seconds")
