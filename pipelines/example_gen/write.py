"""Arrow tables to files of tf.Examples, a block at a time and without Python per row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

BLOCK = 16_384  # rows encoded at a time


def write_examples(table: pa.Table, path: Path) -> int:
    """Writes one TFRecord file, whole or not at all; an existing one is replaced.

    Args:
        table: list columns, one row an example; see ``rows.joined_rows``.
        path: the file; no compression, as every later component reads it at least once.

    Returns:
        Number of examples.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    encoder = RecordBatchToExamplesEncoder()
    temporary = path.parent.parent / f".{path.parent.name}-{path.name}.tmp"

    # The encoder takes text as bytes; the cast copies nothing.
    schema = pa.schema([pa.field(f.name, _encodable(f.type)) for f in table.schema])

    def blocks() -> Iterator[list[bytes]]:
        for batch in table.cast(schema).combine_chunks().to_batches(max_chunksize=BLOCK):
            yield encoder.encode(batch)

    dataset = tf.data.Dataset.from_generator(
        blocks, output_signature=tf.TensorSpec([None], tf.string)
    ).unbatch()
    tf.raw_ops.DatasetToTFRecord(
        input_dataset=tf.data.experimental.to_variant(dataset),
        filename=str(temporary),
        compression_type="",
    )
    temporary.replace(path)
    return table.num_rows


def _encodable(kind: pa.ListType) -> pa.DataType:
    return pa.list_(pa.binary()) if pa.types.is_string(kind.value_type) else kind
