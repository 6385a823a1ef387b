"""Runs every benchmark script, one after the other, each in a process of its own."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOT_SCRIPTS = {"__init__", "common", "kept", "render", "run_all"}


def scripts() -> list[str]:
    """Names of the scripts, in alphabetical order."""
    return sorted(p.stem for p in HERE.glob("*.py") if p.stem not in NOT_SCRIPTS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes each")
    parser.add_argument("only", nargs="*", help="names of scripts; all by default")
    arguments = parser.parse_args()
    failed = []
    for name in arguments.only or scripts():
        print(f"== {name}", flush=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        code = subprocess.call([*command, *(["--quick"] if arguments.quick else [])])
        print(f"== {name}: exit {code} after {time.perf_counter() - started:.0f} s", flush=True)
        failed += [name] if code else []
    if failed:
        print(f"failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
