"""Text preparation in Beam: items a second through Transform, with 1 and 2 worker processes.

    python -m benchmarks.text_prepare [--quick]

Items of the synthetic shop as serialized tf.Examples in eight files, title and description as text
features. Beam reads them, finds the vocabularies and encodes every item (``AnalyzeAndTransform``,
as TFX's Transform does); the time is that of the whole Beam run, start of the workers included, so
small inputs are dominated by it. Each run is a process of its own. ``notebook`` is the same work by
``fit_row_encoder`` and ``encode_table`` in one process without Beam. The fastest of ``--seeds``
runs counts; compare the ratios, and mind how many cores the machine lent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import pyarrow as pa
import tensorflow as tf

from benchmarks.common import Results, arguments
from tfrec.config import parse_config
from tfrec.data.synthetic import generate
from tfrec.schema import FeatureTable

WAYS: dict[str, dict[str, Any]] = {
    "words": {"max_length": 16},
    "n-grams 3-5": {"tokens": "ngrams", "max_length": 128},
}
FILES = 8
COLUMNS = ("title", "description")


def features(way: str) -> FeatureTable:
    """Both texts, read one way."""
    rows = [{"name": n, "role": "item", "kind": "text", **WAYS[way]} for n in COLUMNS]
    return FeatureTable.model_validate({"features": rows})


def catalogue(items: int) -> pa.Table:
    """Titles and descriptions; every fourth title in letters that need normalising."""
    config = parse_config(
        {"name": "x", "data": {"format": "synthetic", "rows": 300, "items_count": items}}
    )
    table = generate(config.data).items.select(["item_id", *COLUMNS])
    titles = [
        f"{title} Café {row}" if row % 4 == 0 else title
        for row, title in enumerate(table.column("title").to_pylist())
    ]
    return table.set_column(1, "title", pa.array(titles))


def write_examples(table: pa.Table, folder: Path) -> None:
    """The items as tf.Examples in ``FILES`` files."""
    writers = [tf.io.TFRecordWriter(str(folder / f"part-{i}")) for i in range(FILES)]
    for number, row in enumerate(table.to_pylist()):
        example = tf.train.Example()
        for name in COLUMNS:
            example.features.feature[name].bytes_list.value.append(row[name].encode())
        writers[number % FILES].write(example.SerializeToString())
    for writer in writers:
        writer.close()


def in_beam(way: str, workers: int, folder: Path) -> float:
    """Seconds of one Beam run."""
    import apache_beam as beam
    import tensorflow_transform.beam as tft_beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from tensorflow_transform.tf_metadata import schema_utils
    from tfx_bsl.public import tfxio

    from tfrec.features.tft_analyzer import preprocessing_fn

    spec = {name: tf.io.VarLenFeature(tf.string) for name in COLUMNS}
    source = tfxio.TFExampleRecord(
        str(folder / "part-*"), schema=schema_utils.schema_from_feature_spec(spec)
    )
    flags = ["--runner=DirectRunner", f"--direct_num_workers={workers}"]
    if workers > 1:
        flags.append("--direct_running_mode=multi_processing")
    began = time.perf_counter()
    with (
        beam.Pipeline(options=PipelineOptions(flags)) as pipeline,
        tft_beam.Context(str(folder / f"work-{workers}-{time.time_ns()}")),
    ):
        batches = pipeline | source.BeamSource()
        raw = (batches, source.TensorAdapterConfig())
        done, _ = raw | tft_beam.AnalyzeAndTransformDataset(
            preprocessing_fn(features(way), 0), output_record_batches=True
        )
        counted = done[0] | beam.Map(_rows) | beam.CombineGlobally(sum)
        _ = counted | beam.io.WriteToText(str(folder / "count"), shard_name_template="")
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "rows": int((folder / "count").read_text())}))
    return seconds


def _rows(batch: Any) -> int:
    """Rows of a transformed batch; Transform hands out the batch and what passed through."""
    return int((batch[0] if isinstance(batch, tuple) else batch).num_rows)


def in_notebook(way: str, table: pa.Table) -> float:
    """Seconds of the same work without Beam."""
    from tfrec.features.fit import encode_table, fit_row_encoder

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        encoder = fit_row_encoder(table, features(way), Path(folder))
        encode_table(table, features(way).of("item", ids=False), encoder)
        return time.perf_counter() - began


def apart(way: str, workers: int, folder: Path, items: int) -> float:
    """``in_beam`` in a fresh process; checks that every item came through."""
    command = [sys.executable, "-m", "benchmarks.text_prepare", "--one", way, str(workers)]
    done = subprocess.run(
        [*command, str(folder)], capture_output=True, text=True, check=False, timeout=3600
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"seconds"')]
    if not lines:
        raise RuntimeError(
            f"the Beam run of {way}, {workers} workers failed:\n{done.stderr[-3000:]}"
        )
    found = json.loads(lines[-1])
    if found["rows"] != items:
        raise RuntimeError(f"{items} items went in, {found['rows']} came out of {way}")
    return float(found["seconds"])


def main() -> None:
    """Measures and writes ``results/text_prepare.json``."""
    if sys.argv[1:2] == ["--one"]:
        in_beam(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
        sys.stdout.flush()
        # Beam and Transform leave objects on which the interpreter's last collection crashes.
        os._exit(0)
    parser = arguments(__doc__ or "")
    parser.add_argument("--items", type=int, help="how many; 5,000 for --quick, else 200,000")
    given = parser.parse_args()
    items, times = (5_000, 1) if given.quick else (200_000, given.seeds)
    items = given.items or items
    results = Results("text_prepare", given.quick)
    table = catalogue(items)
    protocol = f"synthetic/{items} items"
    with tempfile.TemporaryDirectory() as folder:
        write_examples(table, Path(folder))
        for way in list(WAYS)[:1] if given.quick else WAYS:
            seconds = min(in_notebook(way, table) for _ in range(times))
            results.add("notebook", "items_per_s", items / seconds, protocol=protocol, note=way)
            by_workers = {}
            for workers in (1, 2):
                runs = [apart(way, workers, Path(folder), items) for _ in range(times)]
                by_workers[workers] = min(runs)
                note = f"{way}, {workers} worker{'s' * (workers > 1)}"
                rate = items / by_workers[workers]
                results.add("beam", "items_per_s", rate, protocol=protocol, note=note)
            ratio = by_workers[1] / by_workers[2]
            results.add("beam", "ratio", ratio, protocol=protocol, note=f"{way}, 2 over 1 workers")
            results.write()
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
