"""Images in ExampleGen's Beam graph: ranges of the catalogue are decoded by all workers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa

from tfrec.data.quarantine import Quarantine
from tfrec.data.tables import IMAGE_GROUP
from tfrec.features.image_prepare import (
    QUARANTINE,
    Counts,
    check_limit,
    image_features,
    prepare_column,
    report,
)
from tfrec.schema import FeatureTable

ITEMS_A_SHARD = IMAGE_GROUP  # where items have images: a range is as long as a row group
IMAGES = "images"  # tag of the counts that ``WriteItems`` puts out beside its rows
REPORT = "images.json"
_PARTS = "quarantine-parts"


def prepared(
    items: pa.Table, features: FeatureTable, output: str, first_row: int
) -> tuple[pa.Table, Counts]:
    """A range of the items with its image columns prepared.

    What is unreadable goes to a file of this range's own; ``finish`` joins them.

    Args:
        items: rows of the item table.
        features: the feature table.
        output: folder of the examples.
        first_row: position of the first row in the whole table.
    """
    folder = Path(output) / _PARTS
    folder.mkdir(parents=True, exist_ok=True)
    counts: Counts = Counts()
    with Quarantine(folder / f"{first_row:012d}.jsonl", 1.0) as quarantine:
        for feature in image_features(features):
            column, found = prepare_column(items, feature, quarantine, first_row + 1)
            at = items.column_names.index(feature.name)
            items = items.set_column(at, feature.name, column)
            counts += found
    return items, counts


def tagged(counts: Counts) -> Iterator[Any]:
    """The counts as elements of the output ``IMAGES``."""
    for key, number in counts.items():
        yield beam.pvalue.TaggedOutput(IMAGES, (key, number))


def write_report(counts: Any, output: Path) -> Any:
    """Adds to a graph: the counts of all ranges, summed, as ``images.json``."""

    def write(found: dict[tuple[str, str], int]) -> None:
        (output / REPORT).write_text(json.dumps(report(found), indent=1) + "\n")

    return (
        counts
        | "SumImages" >> beam.CombinePerKey(sum)
        | "AllImages" >> beam.combiners.ToDict()
        | "WriteImages" >> beam.Map(write)
    )


def finish(output: Path, features: Iterable[Any]) -> None:
    """Joins the quarantine of all ranges and checks the limit; after the graph has run.

    Raises:
        BadDataError: too many unreadable images.
    """
    chosen = image_features(features)
    if not chosen:
        return
    parts = sorted((output / _PARTS).glob("*.jsonl"))
    with (output / QUARANTINE).open("w", encoding="utf-8") as stream:
        for part in parts:
            stream.write(part.read_text(encoding="utf-8"))
    for part in parts:
        part.unlink()
    (output / _PARTS).rmdir()
    found = json.loads((output / REPORT).read_text())
    counts = {(name, kind): n for name, kinds in found.items() for kind, n in kinds.items()}
    check_limit(counts, chosen)
