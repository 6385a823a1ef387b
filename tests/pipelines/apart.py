"""Runs one of the scripts beside the tests in a process of its own, as it leaves its output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def environment() -> dict[str, str]:
    """Of a script that imports this checkout and says things as they happen."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def run_script(name: str, *arguments: str | Path) -> str:
    """What ``python NAME ARGUMENTS`` printed; fails with the end of it where it failed."""
    ran = subprocess.run(
        [sys.executable, str(HERE / name), *map(str, arguments)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-8000:]
    return ran.stdout
