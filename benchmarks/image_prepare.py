"""Throughput of image preparation in Beam: items/s with 1 and with 2 workers, and without Beam.

    python -m benchmarks.image_prepare            # ml-1m's posters, several times over
    python -m benchmarks.image_prepare --quick

Each worker is a process of Beam's DirectRunner; a run decodes, resizes to 32 x 32 and packs ranges
of 512 items, as ExampleGen does. Rounds of the variants alternate and the median of each counts.
Every variant is timed on one range too: that is its ``start_s``, the start of Beam and its
processes, and ``items_per_s`` is the rate of the items behind the first range. ``seconds`` is all
together. Without the posters JPEGs of the same size are drawn. Give it as many cores as workers.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.common import Results, arguments, shared_data

RANGE = 512  # items: what one element of the Beam graph prepares
FEATURE = {"name": "poster", "role": "item", "kind": "image", "height": 32, "width": 32}


def encoded(count: int) -> tuple[list[bytes], str]:
    """So many JPEGs of about 96 x 144 pixels, and where they are from."""
    folder = shared_data()
    found: list[bytes] = []
    if folder is not None and (folder / "ml-1m" / "posters").is_dir():
        found = [p.read_bytes() for p in sorted((folder / "ml-1m" / "posters").glob("*.jpg"))]
    origin = "ml-1m/posters"
    if not found:
        from PIL import Image

        origin = "drawn"
        random = np.random.default_rng(0)
        for _ in range(200):
            small = Image.fromarray(random.integers(0, 256, (18, 12, 3), np.uint8))
            stream = io.BytesIO()
            small.resize((96, 144)).save(stream, "JPEG", quality=85)
            found.append(stream.getvalue())
    return [found[i % len(found)] for i in range(count)], origin


def run_beam(folder: str, rows: int, workers: int) -> float:
    """Seconds of one run over the table in ``folder``."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipelines.example_gen import images
    from tfrec.data.tables import read_item_range
    from tfrec.schema import FeatureTable

    features = FeatureTable.model_validate({"features": [FEATURE]})

    def one(start: int) -> int:
        items = read_item_range(folder, start, images.ITEMS_A_SHARD)
        ready, _ = images.prepared(items, features, out, start)
        return ready.num_rows

    options = PipelineOptions(
        runner="DirectRunner",
        direct_num_workers=workers,
        direct_running_mode="in_memory" if workers == 1 else "multi_processing",
        save_main_session=False,
    )
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        with beam.Pipeline(options=options) as p:
            _ = (
                p
                | beam.Create(list(range(0, rows, images.ITEMS_A_SHARD)))
                | beam.Reshuffle()
                | beam.Map(one)
                | beam.CombineGlobally(sum)
            )
        return time.perf_counter() - began


def run_plain(items: pa.Table) -> float:
    """Seconds of the same without Beam."""
    from tfrec.features.image_prepare import prepare_items
    from tfrec.schema import FeatureTable

    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        prepare_items(items, FeatureTable.model_validate({"features": [FEATURE]}), out)
        return time.perf_counter() - began


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    from tfrec.data.tables import write_attributes

    count, rounds = (2_560, 1) if options.quick else (12_288, 2)
    data, origin = encoded(count)
    ids = [f"i{i}" for i in range(count)]
    items = pa.table({"item_id": ids, "poster": pa.array(data, pa.binary())})
    runs: dict[str, Callable[[str, int], float]] = {
        "1 worker": lambda folder, rows: run_beam(folder, rows, 1),
        "2 workers": lambda folder, rows: run_beam(folder, rows, 2),
        "no Beam": lambda _, rows: run_plain(items.slice(0, rows)),
    }
    first: dict[str, list[float]] = {name: [] for name in runs}
    everything: dict[str, list[float]] = {name: [] for name in runs}
    with tempfile.TemporaryDirectory() as folder:
        write_attributes(pa.table({"user_id": ["u"]}), items, Path(folder))
        for _ in range(rounds):
            for name, run in runs.items():
                first[name].append(run(folder, RANGE))
                everything[name].append(run(folder, count))
    results = Results("image_prepare", options.quick)
    shared: dict[str, Any] = {"protocol": f"{origin}/32x32/{count}-items"}
    for name in runs:
        start, all_of_it = statistics.median(first[name]), statistics.median(everything[name])
        rate = (count - RANGE) / max(all_of_it - start, 1e-3)
        results.add("prepare", "items_per_s", rate, note=name, unit="items/s", **shared)
        results.add("prepare", "start_s", start, note=name, unit="s", **shared)
        results.add("prepare", "seconds", all_of_it, note=name, unit="s", **shared)
    print(results.write())


if __name__ == "__main__":
    main()
