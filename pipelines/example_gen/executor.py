"""Beam graph of ExampleGen: log in blocks -> all events of some users together -> joined rows.

The events are cut by a hash of the user, so that all rows of a user lie in one shard: history is
exact, and no shard needs another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact

from pipelines.example_gen import images
from pipelines.example_gen.rows import (
    ITEMS,
    ORDER,
    SPLIT,
    SPLITS,
    RowPlan,
    item_rows,
    joined_rows,
    stable_hash,
)
from pipelines.example_gen.write import write_examples
from tfrec.config import RankingConfig, SplitConfig
from tfrec.data import splits
from tfrec.data.tables import ITEMS as ITEMS_FILE
from tfrec.data.tables import (
    DataError,
    open_interactions,
    read_item_range,
    read_items,
    read_users,
)
from tfrec.features.image_prepare import image_features
from tfrec.schema import TIMESTAMP, USER_ID, FeatureTable

BLOCK = 262_144  # events read at a time
EVENTS_A_SHARD = 250_000
ITEMS_A_SHARD = 100_000


def plan_of(exec_properties: dict[str, Any]) -> tuple[RowPlan, SplitConfig]:
    """What the component was given by value."""
    split = SplitConfig.model_validate_json(exec_properties["split"])
    ranking = RankingConfig.model_validate_json(exec_properties["ranking"])
    features = FeatureTable.model_validate_json(exec_properties["features"])
    return RowPlan(features, ranking, split.seed), split


def check_columns(folder: Path, features: FeatureTable) -> None:
    """Every feature is a column of its table.

    Raises:
        DataError: one is not; all are named at once.
    """
    columns = {
        "context": open_interactions(folder).schema.names,
        "user": read_users(folder).column_names,
        "item": pq.read_schema(folder / ITEMS_FILE).names,
    }
    lacking = [f for f in features if f.kind != "id" and f.name not in columns[f.role]]
    if lacking:
        lines = [f"  {f.name!r} (role {f.role}); there are {columns[f.role]}" for f in lacking]
        raise DataError(
            "every feature is a column of the table of its role; missing are\n"
            + "\n".join(lines)
            + "\nmend 'features' in the configuration, or the column map of the data"
        )


def write_splits(folder: Path, split: SplitConfig, out: Path) -> dict[str, int]:
    """Assigns each event its split by ``tfrec.data.splits``; one column in the log's order.

    Only ids and times are in memory. A column ``split`` of the tables themselves wins: sets that
    were published with their split carry it.

    Returns:
        Events of each split.
    """
    dataset = open_interactions(folder)
    if SPLIT in dataset.schema.names:
        assigned = dataset.to_table(columns=[SPLIT]).column(SPLIT).combine_chunks()
    else:
        assigned = splits.assign(dataset.to_table(columns=[USER_ID, TIMESTAMP]), split)
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({SPLIT: assigned}), out, row_group_size=BLOCK)
    counted = pc.value_counts(assigned)
    return {str(v["values"]): int(v["counts"]) for v in counted.to_pylist()}


class ReadBlock(beam.DoFn):
    """A block of a part file -> (shard, events as Arrow IPC)."""

    def __init__(self, splits_file: str, shards: int) -> None:
        self._splits_file = splits_file
        self._shards = shards

    def process(self, block: tuple[str, int, int, int]) -> Iterator[tuple[int, bytes]]:
        path, first, offset, rows = block
        events = pq.read_table(path).slice(offset, rows)
        start = first + offset
        split = pq.read_table(self._splits_file).column(SPLIT).slice(start, rows)
        if SPLIT in events.column_names:
            events = events.drop_columns([SPLIT])
        events = events.append_column(SPLIT, split)
        events = events.append_column(ORDER, pa.array(np.arange(start, start + rows)))
        shard = stable_hash(events.column(USER_ID), self._shards)
        for number in range(self._shards):
            part = events.filter(pa.array(shard == number))
            if part.num_rows:
                yield number, to_ipc(part)


class WriteShard(beam.DoFn):
    """All events of a shard's users -> files of examples, one a split; yields (split, rows)."""

    def __init__(self, folder: str, plan: RowPlan, output: str, shards: int) -> None:
        self._folder, self._plan, self._output, self._shards = folder, plan, output, shards

    def setup(self) -> None:
        images = [f.name for f in image_features(self._plan.features)]
        self._users, self._items = read_users(self._folder), read_items(self._folder, images)

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[str, int]]:
        shard, blocks = element
        events = pa.concat_tables([from_ipc(block) for block in blocks])
        found: dict[str, list[pa.Table]] = {}
        for split, table in joined_rows(events, self._users, self._items, self._plan):
            found.setdefault(split, []).append(table)
        for split, tables in found.items():
            path = shard_path(self._output, split, shard, self._shards)
            yield split, write_examples(pa.concat_tables(tables), path)


class WriteItems(beam.DoFn):
    """A range of the catalogue, its images decoded -> one file of the split ``items``.

    Beside (split, rows) it puts out the counts of images under the tag ``images.IMAGES``.
    """

    def __init__(self, folder: str, plan: RowPlan, output: str, shards: int, size: int) -> None:
        self._folder, self._plan, self._output = folder, plan, output
        self._shards, self._size = shards, size

    def process(self, shard: int) -> Iterator[Any]:
        start = shard * self._size
        items = read_item_range(self._folder, start, self._size)
        if image_features(self._plan.features):
            items, counts = images.prepared(items, self._plan.features, self._output, start)
            yield from images.tagged(counts)
        path = shard_path(self._output, ITEMS, shard, self._shards)
        yield ITEMS, write_examples(item_rows(items, self._plan), path)


def to_ipc(table: pa.Table) -> bytes:
    """A table as Arrow IPC bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_ipc(data: bytes) -> pa.Table:
    """The inverse of ``to_ipc``."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()


def shard_path(output: str, split: str, shard: int, shards: int) -> Path:
    """File of a shard, as TFX lays splits out."""
    return Path(output) / f"Split-{split}" / f"data_tfrecord-{shard:05d}-of-{shards:05d}"


class Executor(BaseBeamExecutor):
    """Reads the canonical tables, writes one Examples artifact with four splits."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See ``pipelines.example_gen.component``."""
        tables = artifact_utils.get_single_instance(input_dict["tables"])
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        folder, output = Path(tables.uri), Path(examples.uri)
        plan, split = plan_of(exec_properties)
        check_columns(folder, plan.features)
        splits_file = Path(self._get_tmp_dir()) / "splits.parquet"
        events = write_splits(folder, split, splits_file)
        if not events.get("eval") or not events.get("test"):
            raise DataError(
                f"the splits eval and test hold at least one event each; got {events}; raise "
                f"'split.validation' and 'split.test', or bring users with three events and more"
            )
        blocks, total = blocks_of(folder)
        shards = max(2, -(-total // EVENTS_A_SHARD))
        pictured = bool(image_features(plan.features))
        size = images.ITEMS_A_SHARD if pictured else ITEMS_A_SHARD
        item_shards = -(-pq.read_metadata(folder / ITEMS_FILE).num_rows // size)
        counts_file = output / "rows.json"
        with self._make_beam_pipeline() as p:
            rows = (
                p
                | "Blocks" >> beam.Create(blocks)
                | "Spread" >> beam.Reshuffle()
                | "Read" >> beam.ParDo(ReadBlock(str(splits_file), shards))
                | "ByUser" >> beam.GroupByKey()
                | "WriteRows" >> beam.ParDo(WriteShard(str(folder), plan, str(output), shards))
            )
            catalogue = (
                p
                | "ItemShards" >> beam.Create(list(range(item_shards)))
                | "SpreadItems" >> beam.Reshuffle()
                | "WriteItems"
                >> beam.ParDo(
                    WriteItems(str(folder), plan, str(output), item_shards, size)
                ).with_outputs(images.IMAGES, main=ITEMS)
            )
            if pictured:
                images.write_report(catalogue[images.IMAGES], output)
            _ = (
                (rows, catalogue[ITEMS])
                | beam.Flatten()
                | beam.CombinePerKey(sum)
                | beam.combiners.ToDict()
                | beam.Map(json.dumps)
                | beam.Map(counts_file.write_text)
            )
        images.finish(output, plan.features)
        examples.split_names = artifact_utils.encode_split_names([*SPLITS, ITEMS])
        examples.span = tables.get_int_custom_property("span")
        examples.version = tables.get_int_custom_property("version")
        examples.set_string_custom_property("file_format", "tfrecords_gzip")
        examples.set_string_custom_property(
            "payload_format",
            example_gen_pb2.PayloadFormat.Name(example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE),
        )


def blocks_of(folder: Path) -> tuple[list[tuple[str, int, int, int]], int]:
    """``(file, events before the file, offset in it, rows)`` of each block, and all events."""
    blocks, total = [], 0
    for path in open_interactions(folder).files:
        rows = pq.ParquetFile(path).metadata.num_rows
        for offset in range(0, rows, BLOCK):
            blocks.append((path, total, offset, min(BLOCK, rows - offset)))
        total += rows
    return blocks, total
