"""New items in the index of an indexed model: vectors from the model inside, cells from the index.

The index lies in the SavedModel's variables as the model's tables do, so it grows as they do: the
graph stays, each new vector goes to its nearest cell, and recall is measured again.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.export.catalogue import Places, Values
from tfrec.export.index import BLOCK, index_report
from tfrec.export.query import ITEM_VECTOR, VECTOR
from tfrec.models.saved import SavedVariables
from tfrec.retrieval.grow import Cells, grow_ivf
from tfrec.retrieval.measure import IndexReport

INDEX = "index"
# Variables that have a row an item or a slot; the others stay as they are.
GROWN = ("items", "slot", "cell", "first", "blocks", "probes", "rows", "scales", "exact")


def saved_cells(saved: SavedVariables) -> Cells:
    """The inverted file of an indexed SavedModel, by item."""
    slot = saved.read(INDEX, "slot")
    if saved.has(INDEX, "exact"):
        vectors = saved.read(INDEX, "exact")
    else:
        rows = saved.read(INDEX, "rows")
        vectors = rows.reshape(-1, rows.shape[-1])[slot[1:]]
    return Cells(vectors, saved.read(INDEX, "cell")[1:], saved.read(INDEX, "centroids"))


def vectors_of_grown(
    loaded: Any, saved: SavedVariables, values: Values, ids: np.ndarray
) -> np.ndarray:
    """Vectors float32 [row, dim] that the model inside gives items once its catalogue has grown.

    Args:
        loaded: the indexed SavedModel; its variables are changed, it is of no use afterwards.
        saved: its variables on disk.
        values: new values of the variables of the model inside.
        ids: bytes object [row].
    """
    base = loaded.base
    tables = {saved.key("base", "growing", n): v for n, v in dict(base.growing).items()}
    tables[saved.key("base", "item_ids")] = base.item_ids
    tables[saved.key("base", "added", "hashes")] = base.added.hashes
    tables[saved.key("base", "added", "positions")] = base.added.positions
    for key, variable in tables.items():
        variable.assign(values[key])
    ask = dict(loaded.calls)[ITEM_VECTOR]
    parts = [
        ask(item_id=tf.constant(ids[at : at + BLOCK], tf.string))[VECTOR].numpy()
        for at in range(0, len(ids), BLOCK)
    ]
    return np.concatenate(parts)


def index_values(
    saved: SavedVariables, places: Places, vectors: np.ndarray
) -> tuple[Values, IndexReport]:
    """The index's variables with the items in it, and its report.

    Args:
        saved: variables of the indexed SavedModel.
        places: of the items in the index's catalogue.
        vectors: float32 [row, dim] of the items.

    Raises:
        ValueError: the report beside the model is lost.
    """
    report = index_report(saved.folder)
    if report is None:
        raise ValueError(
            f"{saved.folder} has an index without its report (assets.extra/index.json); copy a "
            f"version as a whole, or export the model again"
        )
    grown, report = grow_ivf(
        saved_cells(saved), places.position, vectors, saved.read("samples"), report
    )
    values = {
        saved.key(INDEX, name): getattr(grown, name).numpy()
        for name in GROWN
        if saved.has(INDEX, name)
    }
    values[saved.key("report")] = np.array(json.dumps(report.as_dict()).encode(), object)
    return values, report
