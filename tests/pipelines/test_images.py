"""Images in ExampleGen's graph: ranges prepared apart give the whole; rows of events hold none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.example_gen import images
from pipelines.example_gen.rows import RowPlan, item_rows, joined_rows
from tests.pictures import LOOK, items_with_looks, picture
from tfrec.config import RankingConfig
from tfrec.data.quarantine import BadDataError
from tfrec.features.image_prepare import prepare_items
from tfrec.schema import FeatureTable


def table(**changed: object) -> FeatureTable:
    return FeatureTable.model_validate({"features": [{**LOOK, **changed}]})


def broken(n: int = 50) -> pa.Table:
    items = items_with_looks(n, lacking=(4, 41))
    looks = items.column("look").to_pylist()
    looks[3], looks[30] = b"nonsense", looks[30][:-60]
    return items.set_column(1, "look", pa.array(looks, pa.binary()))


def run(items: pa.Table, features: FeatureTable, output: Path, size: int = 16) -> pa.Table:
    """The Beam part on ranges, outside of TFX."""
    import apache_beam as beam

    def one(start: int):  # type: ignore[no-untyped-def]
        ready, counts = images.prepared(items.slice(start, size), features, str(output), start)
        yield from images.tagged(counts)
        yield start, ready.column("look").to_pylist()

    found: dict[int, list[bytes]] = {}
    with beam.Pipeline("DirectRunner") as p:
        out = (
            p
            | beam.Create(list(range(0, items.num_rows, size)))
            | beam.FlatMap(one).with_outputs(images.IMAGES, main="rows")
        )
        images.write_report(out[images.IMAGES], output)
        _ = (
            out["rows"]
            | beam.combiners.ToDict()
            | beam.Map(lambda d: json.dumps({k: [v.hex() for v in d[k]] for k in d}))
            | beam.Map((output / "rows.json").write_text)
        )
    loaded = json.loads((output / "rows.json").read_text())
    found = {int(k): [bytes.fromhex(v) for v in rows] for k, rows in loaded.items()}
    flat = [value for start in sorted(found) for value in found[start]]
    return items.set_column(1, "look", pa.array(flat, pa.binary()))


def test_ranges_give_what_one_call_gives(tmp_path: Path) -> None:
    features = table(max_bad=0.1)
    expected, counts = prepare_items(broken(), features, tmp_path / "whole")
    output = tmp_path / "beam"
    output.mkdir()
    found = run(broken(), features, output)
    assert found.column("look").to_pylist() == expected.column("look").to_pylist()
    images.finish(output, features)
    assert json.loads((output / "images.json").read_text()) == counts
    lines, theirs = (
        (folder / "quarantine.jsonl").read_text() for folder in (output, tmp_path / "whole")
    )
    assert lines == theirs
    assert not list(output.glob("quarantine-parts"))
    (output / images._PARTS).mkdir()
    with pytest.raises(BadDataError, match=r"'look'.*max_bad"):
        images.finish(output, table(max_bad=0.01))


def test_only_the_catalogue_holds_images(tmp_path: Path) -> None:
    features = table()
    items, _ = prepare_items(items_with_looks(6), features, tmp_path)
    users = pa.table({"user_id": ["u0", "u1"]})
    events = pa.table(
        {
            "user_id": ["u0", "u0", "u1"],
            "item_id": ["i1", "i2", "i3"],
            "weight": pa.array([1.0, 1.0, 1.0], pa.float32()),
            "timestamp": pa.array([1, 2, 3], pa.int64()),
            "event": ["purchase"] * 3,
            "split": ["train", "eval", "test"],
            "log_order": pa.array(np.arange(3)),
        }
    )
    plan = RowPlan(features, RankingConfig())
    # ExampleGen reads the items of events without their images.
    for _, rows in joined_rows(events, users, items.drop_columns(["look"]), plan):
        assert set(rows.column("look").combine_chunks().flatten().to_pylist()) == {b""}
    looks = item_rows(items, plan).column("look").combine_chunks()
    assert looks.flatten().to_pylist()[5] == picture(1, 5).tobytes()
    assert looks.type == pa.list_(pa.binary())
