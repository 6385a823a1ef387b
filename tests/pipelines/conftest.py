"""One pipeline for all tests of the room: killed half way, resumed, and asked again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.apart import environment, run_script

DRIVE = Path(__file__).with_name("drive.py")
KILL_AT = "RankingTrainer ..."


@dataclass(frozen=True)
class Ran:
    """What the runs left.

    Attributes:
        root: their folder; ``run/`` is ``pipeline.root``.
        before_kill: lines of the run that was killed.
        output: lines of the later runs.
        found: reports and errors by step; see ``drive.all_steps``.
    """

    root: Path
    before_kill: str
    output: str
    found: dict[str, Any]

    def artifact(self, node: str, key: str, number: int = -1) -> Path:
        """Folder of an output; by default of its newest execution."""
        folders = (self.root / "run/artifacts" / node / key).glob("*")
        return sorted(folders, key=lambda p: int(p.name))[number]


def _run_and_kill(root: Path) -> str:
    """Kills the run with SIGKILL as soon as the named component begins."""
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, str(DRIVE), "one", str(root)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if KILL_AT in line:
                os.killpg(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL, "".join(lines[-60:])
    return "".join(lines)


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All runs; about three minutes on two idle cores."""
    root = tmp_path_factory.mktemp("pipeline")
    before = _run_and_kill(root)
    printed = run_script("drive.py", "all", root)
    return Ran(root, before, printed, json.loads((root / "found.json").read_text()))
