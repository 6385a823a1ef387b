"""Time by component: raw MovieLens-1M to pushed models (``--quick``: the synthetic sample).

    python -m benchmarks.pipeline_time

Runs the whole pipeline of ``configs/movielens_1m.yaml`` in an empty folder, without a cache, and
keeps wall and processor seconds of each component. Processor seconds hardly depend on what else the
machine does; wall seconds do.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.common import HERE, Results, arguments, shared_data
from tfrec.config import Config, load_config


def configuration(quick: bool, root: str) -> Config:
    """The configuration to run, below ``root``."""
    name = "sample" if quick else "movielens_1m"
    config = load_config(HERE.parent / f"configs/{name}.yaml")
    pipeline = config.pipeline.model_copy(update={"root": root, "serving": None})
    data = config.data
    if not quick:
        data = data.model_copy(update={"path": str((shared_data() or Path()) / "ml-1m")})
    return config.model_copy(update={"pipeline": pipeline, "data": data})


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--root", help="keep the run in this folder (must not exist)")
    asked = parser.parse_args()
    if not asked.quick and shared_data() is None:
        print("skipped: MovieLens-1M is not here; set TFREC_SHARED_DATA")
        return
    started = time.monotonic()
    from pipelines import local

    imported = time.monotonic() - started
    with tempfile.TemporaryDirectory() as temporary:
        config = configuration(asked.quick, asked.root or temporary)
        report = local.run(config, cache=False)
    protocol = "sample/pipeline" if asked.quick else "ml-1m/pipeline"
    results = Results("pipeline_time", asked.quick)
    results.add("import tfx", "seconds", imported, protocol=protocol, unit="s")
    for part in report.components:
        results.add(part.name, "seconds", part.seconds, protocol=protocol, unit="s")
        results.add(part.name, "cpu_seconds", part.cpu_seconds, protocol=protocol, unit="s")
    busy = sum(part.cpu_seconds for part in report.components)
    pushed = f"pushed: {', '.join(sorted(report.pushed)) or 'nothing'}"
    results.add("whole run", "seconds", report.seconds, protocol=protocol, unit="s", note=pushed)
    results.add("whole run", "cpu_seconds", busy, protocol=protocol, unit="s", note=pushed)
    results.write()


if __name__ == "__main__":
    main()
