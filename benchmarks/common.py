"""What every benchmark script shares: the data, the machine, how a number is kept.

A script measures, calls ``Results.add`` once per number and ``Results.write`` at the end; the file
``benchmarks/results/<script>.json`` is a list of records, and ``make results`` renders all of them
into ``benchmarks/RESULTS.md``. Nothing is ever typed into that page by hand.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import resource
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS_DIR = HERE / "results"


def peak_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def shared_data() -> Path | None:
    """Folder of the real data sets, or None where this machine has none.

    ``TFREC_SHARED_DATA`` wins; else ``../shared/data`` beside the repository.
    """
    path = Path(os.environ.get("TFREC_SHARED_DATA", HERE.parent.parent / "shared" / "data"))
    return path if path.is_dir() else None


def machine() -> str:
    """What the numbers were measured on: cores, memory, processor, TensorFlow."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    from importlib.metadata import version

    own = len(os.sched_getaffinity(0))
    cores = f"{own} of {os.cpu_count()}" if own != os.cpu_count() else f"{own}"
    return f"{cores} cores, {memory:.0f} GiB, {model}, tensorflow {version('tensorflow')}"


class Results:
    """Collects the records of one benchmark script.

    Args:
        script: name of the script without ``.py``; names the JSON file.
        quick: True where the run was the two-minute variant. Quick records go to
            ``<script>.quick.json`` so that they never replace the full run's.
        resume: True to go on with the records that the file holds: a long script can be stopped and
            started again, or run in parts.
    """

    def __init__(self, script: str, quick: bool = False, resume: bool = False) -> None:
        self.script = script
        self.quick = quick
        self.records: list[dict[str, object]] = []
        self._machine = machine()
        path = self._path()
        if resume and path.exists():
            self.records = json.loads(path.read_text())

    def _path(self) -> Path:
        return RESULTS_DIR / f"{self.script}{'.quick' if self.quick else ''}.json"

    def value(
        self, name: str, metric: str, *, protocol: str, seed: int | None = None, note: str = ""
    ) -> float | None:
        """A number kept so far; None where there is none. Arguments as of ``add``."""
        wanted = (name, metric, protocol, seed, note)
        for r in self.records:
            if (r["name"], r["metric"], r["protocol"], r["seed"], r.get("note", "")) == wanted:
                return float(r["value"])  # type: ignore[arg-type]
        return None

    def add(
        self,
        name: str,
        metric: str,
        value: float,
        *,
        protocol: str,
        unit: str = "",
        seed: int | None = None,
        note: str = "",
    ) -> None:
        """Keeps one number.

        Args:
            name: the model's registry name (``two_tower``) or the part measured.
            metric: ``recall@10``, ``ndcg@10``, ``rmse``, ``auc``, ``examples_per_s``, ``ratio`` ...
            value: the number itself, unrounded.
            protocol: set, split and candidates, as ``ml-1m/last-out/full``.
            unit: unit of ``value`` where it has one (``ms``, ``MiB``).
            seed: random seed of the run; None where nothing is random.
            note: variant or remark (``logq off``); part of the row's identity in RESULTS.md.
        """
        record: dict[str, object] = {
            "name": name,
            "metric": metric,
            "value": float(value),
            "unit": unit,
            "seed": seed,
            "protocol": protocol,
            "machine": self._machine,
            "date": dt.date.today().isoformat(),
        }
        if note:
            record["note"] = note
        self.records.append(record)
        print(f"{protocol:32s} {name:24s} {note:24s} {metric:18s} {value:.4f} {unit}", flush=True)

    def write(self) -> Path:
        """Writes (replaces) this script's JSON file and returns its path."""
        RESULTS_DIR.mkdir(exist_ok=True)
        path = self._path()
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.records, indent=1) + "\n")
        temporary.replace(path)
        return path


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the flags all scripts share: ``--quick`` and ``--seeds N``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="finish within two minutes")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (0..N-1)")
    return parser
