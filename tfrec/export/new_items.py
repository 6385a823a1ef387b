"""Reads a file of new items into the tensors that an exported item tower takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import tensorflow as tf

from tfrec.export.inputs import feature_rows
from tfrec.schema import ITEM_ID

LIST_SEPARATOR = "|"  # between the values of a list in a CSV file

Specs = Mapping[str, tf.TensorSpec]


def read_new_items(path: str | Path, specs: Specs) -> pa.Table:
    """Reads a Parquet or CSV file with ``item_id`` and any of the model's item columns.

    Args:
        path: ``.parquet``, else CSV with a header; there a list is written ``a|b``.
        specs: inputs of the signature ``item_rows``; other columns are kept (``title``).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not readable, or the ids break a rule (see ``check_ids``).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; pass Parquet or CSV with a column item_id")
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
        else:
            texts = {name: pa.string() for name, s in specs.items() if s.dtype == tf.string}
            texts |= {ITEM_ID: pa.string(), "title": pa.string()}
            options = pyarrow.csv.ConvertOptions(column_types=texts, strings_can_be_null=True)
            table = pyarrow.csv.read_csv(path, convert_options=options)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not readable as Parquet or CSV: {error}") from None
    if ITEM_ID in table.column_names:
        at = table.column_names.index(ITEM_ID)
        table = table.set_column(at, ITEM_ID, pc.cast(table.column(ITEM_ID), pa.string()))
    check_ids(table, str(path))
    return table


def check_ids(items: pa.Table, origin: str) -> None:
    """Each item has one id, and no two the same.

    Raises:
        ValueError: no column ``item_id``, no rows, an empty id, or one that stands twice.
    """
    if ITEM_ID not in items.column_names:
        raise ValueError(f"{origin} needs a column {ITEM_ID!r}; it has {items.column_names}")
    ids = items.column(ITEM_ID).to_pylist()
    if not ids:
        raise ValueError(f"{origin} holds at least one item; it has no rows")
    empty = sum(not i for i in ids)
    if empty:
        raise ValueError(f"{origin}: every item has an id; {empty} of {len(ids)} rows have none")
    twice = [i for i, n in Counter(ids).items() if n > 1]
    if twice:
        raise ValueError(f"{origin}: an item stands in one row; listed twice: {twice[:5]}")


def item_inputs(items: pa.Table, start: int, stop: int, specs: Specs) -> dict[str, tf.Tensor]:
    """Rows ``start:stop`` as inputs of the signature ``item_rows``; '' and NaN where missing.

    Raises:
        ValueError: a column of another type than the model was trained with.
    """
    rows = np.arange(start, stop)
    inputs = {}
    for name, spec in specs.items():
        table = items
        if spec.shape.rank == 2 and name in items.column_names:
            column = items.column(name)
            if pa.types.is_string(column.type) and spec.dtype == tf.string:
                lists = pc.split_pattern(column, LIST_SEPARATOR)
                table = pa.table({name: lists})
        try:
            inputs[name] = feature_rows(table, rows, spec, name)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, TypeError) as error:
            kind = {0: "", 1: "", 2: " list"}.get(spec.shape.rank, "")
            raise ValueError(
                f"column {name!r} is a {spec.dtype.name}{kind} of shape {spec.shape[1:]} a row, as "
                f"in training; got {items.column(name).type}: {error}"
            ) from None
    return inputs
