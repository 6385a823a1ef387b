"""Raw logs to canonical tables: rows a second for each set, and what Online Retail's dirt is.

Run: ``python -m benchmarks.data_prepare [--quick]``, some 2 minutes. Real sets are skipped, saying
so, where they are absent. Each set is prepared ``--seeds`` times into an empty folder; the fastest
counts.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.common import Results, arguments, peak_mib, shared_data
from tfrec.config import Config, load_config, parse_config
from tfrec.data import Summary, prepare

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def real_sets(data: Path) -> dict[str, Config]:
    """The bundled configurations and the two that need none, by the name of the set."""

    def plain(name: str, form: str, folder: str) -> Config:
        return parse_config({"name": name, "data": {"format": form, "path": str(data / folder)}})

    sets = {
        "ml-1m": plain("ml-1m", "movielens_1m", "ml-1m"),
        "ml-100k": plain("ml-100k", "movielens_100k", "ml-100k"),
        "ml-1m-ncf": plain("ml-1m-ncf", "ncf", "ml-1m/ncf"),
    }
    for name, folder in (("online_retail", "online-retail"), ("completejourney",) * 2):
        config = load_config(CONFIGS / f"{name}.yaml")
        moved = config.data.model_copy(update={"path": str(data / folder)})
        sets[folder] = config.model_copy(update={"data": moved})
    return sets


def fastest(config: Config, times: int) -> tuple[float, Summary]:
    """Seconds of the fastest of some runs, each into an empty folder, and what it did."""
    seconds = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            summary = prepare(config, Path(folder) / "out")
            seconds.append(time.perf_counter() - began)
    return min(seconds), summary


def main() -> None:
    """Measures and writes ``results/data_prepare.json``."""
    options = arguments(__doc__ or "").parse_args()
    times = 1 if options.quick else options.seeds
    results = Results("data_prepare", options.quick)
    for rows in (10_000, 1_000_000) if options.quick else (10_000, 1_000_000, 10_000_000):
        values = {"name": "synthetic", "data": {"format": "synthetic", "rows": rows}}
        seconds, _ = fastest(parse_config(values), 1 if rows > 1_000_000 else times)
        name = f"synthetic-{rows:.0e}".replace("+0", "")
        results.add("prepare", "rows_per_s", rows / seconds, protocol=name, seed=0)
        # The peak of the process so far: these run first, from small to large.
        peak = peak_mib()
        results.add("prepare", "peak_memory", peak, protocol=name, unit="MiB", seed=0)
    data = shared_data()
    if data is None:
        print("no real data here (set TFREC_SHARED_DATA): only the synthetic shop is measured")
    for name, config in (real_sets(data) if data else {}).items():
        seconds, summary = fastest(config, times)
        results.add("prepare", "seconds", seconds, protocol=name, unit="s")
        results.add("prepare", "rows_per_s", summary.rows_in / seconds, protocol=name)
        if name == "online-retail":
            for reason, count in summary.quarantined["online_retail.csv.gz"].items():
                results.add("quarantine", "rows", count, protocol=name, note=reason)
            for reason, count in summary.filtered.items():
                results.add("filter", "rows", count, protocol=name, note=reason)
            results.add("prepare", "rows", summary.rows_in, protocol=name, note="read")
            results.add("prepare", "rows", summary.rows_out, protocol=name, note="kept")
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
