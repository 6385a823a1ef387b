"""Makes the index of an exported model anew, as the next version: new cells, or new vectors.

Items that were added one by one lie in cells made without them (``IndexReport.grown``); new cells
bring back the few probes that the first ones needed. Vectors that come from elsewhere, a nightly
job of the item tower say, replace the index's items and all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec.config.index import IndexConfig
from tfrec.data.tables import TITLE
from tfrec.export.batch import ModelFolderError, latest_version
from tfrec.export.index import Loaded, index_report, refresh_index
from tfrec.export.new_items import check_ids
from tfrec.export.query import VECTOR
from tfrec.export.versions import next_version
from tfrec.retrieval.measure import IndexReport
from tfrec.schema import ITEM_ID


@dataclass(frozen=True)
class Refreshed:
    """What was done.

    Attributes:
        folder: the new version.
        source: the version it was made of.
        before, after: reports of both indexes.
    """

    folder: Path
    source: Path
    before: IndexReport
    after: IndexReport


def read_vectors(path: str | Path) -> pa.Table:
    """Reads a Parquet file with ``item_id``, ``vector`` (lists of numbers) and maybe ``title``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not Parquet, a column is missing, or the ids break a rule.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; pass Parquet with item_id and vector")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not readable as Parquet: {error}") from None
    check_ids(table, str(path))
    at = table.column_names.index(ITEM_ID)
    table = table.set_column(at, ITEM_ID, pc.cast(table.column(ITEM_ID), pa.string()))
    if VECTOR not in table.column_names:
        raise ValueError(
            f"{path} needs a column {VECTOR!r}, a list of numbers an item; it has "
            f"{table.column_names}"
        )
    return table


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of equally long lists of numbers as float32 [row, dim].

    Raises:
        ValueError: no lists of numbers, a missing one, or lengths that differ.
    """
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (lists or pa.types.is_fixed_size_list(kind)):
        raise ValueError(f"{VECTOR!r} is a list of numbers an item; got {kind}")
    lengths = pc.list_value_length(column)
    distinct = pc.unique(lengths).to_pylist()
    flat = pc.list_flatten(column)
    if len(distinct) != 1 or distinct[0] is None or flat.null_count:
        raise ValueError(
            f"{VECTOR!r} holds one number each in lists of one length; got lengths "
            f"{distinct[:5]} and {flat.null_count} missing numbers"
        )
    numbers = pc.cast(flat, pa.float32()).to_numpy()
    return np.ascontiguousarray(numbers.reshape(len(column), distinct[0]))


def refresh(
    model: str | Path,
    out: str | Path | None = None,
    *,
    vectors: pa.Table | None = None,
    version: int | None = None,
    **changed: Any,
) -> Refreshed:
    """Writes a version of an indexed model whose index is made anew.

    Args:
        model: a version folder, or the folder of versions (the highest is taken).
        out: folder of versions that gets the new one; by default that of the model.
        vectors: ``item_id`` and ``vector`` of all items, ``title`` where they have one; None takes
            the vectors that are in the index, and items can still be added afterwards.
        version: number of the new version; see ``next_version``.
        changed: fields of ``IndexConfig``; what is not given stays as the index was made
            (``min_recall``, ``at``, ``quantised``) or is chosen anew (``cells``, ``probes``).

    Raises:
        ModelFolderError: no such model, or one without an index.
        ValueError: ids, vectors or numbers that break a rule; a version that is there.
    """
    source = latest_version(model)
    before = index_report(source)
    if before is None:
        raise ModelFolderError(
            f"{source} has no index (no assets.extra/index.json); train it with retrieval.index: "
            f"{{kind: ivf}}"
        )
    kept = {"min_recall": before.min_recall, "at": before.at, "quantised": before.quantised}
    config = IndexConfig(**{"kind": "ivf", **kept, **changed})
    base = Path(out) if out is not None else source.parent
    target = next_version(base, source, version)
    base.mkdir(parents=True, exist_ok=True)
    titles = None
    if vectors is None:
        loaded = Loaded(source)
        ids, rows = loaded.item_ids[1:].tolist(), loaded.vectors()
    else:
        check_ids(vectors, "the table of vectors")
        ids, rows = vectors.column(ITEM_ID).to_pylist(), matrix(vectors.column(VECTOR))
        if TITLE in vectors.column_names:
            shown = vectors.column(TITLE).to_pylist()
            titles = [t or i for t, i in zip(shown, ids, strict=True)]
    after = refresh_index(source, ids, rows, target, config, titles)
    return Refreshed(target, source, before, after)
