"""The catalogue in a SavedModel's variables: ids, titles, and where added ids are found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrec.data.tables import TITLE
from tfrec.export.raw import hash_ids
from tfrec.models.saved import SavedVariables
from tfrec.schema import ITEM_ID

Values = dict[str, np.ndarray]  # new values of variables by their key in the bundle


@dataclass(frozen=True)
class Places:
    """Where the rows of a table of items belong in one catalogue.

    Attributes:
        every: bytes object [n + 1], ids that are there by position; entry 0 is ''.
        ids: bytes object [row], those of the table.
        position: int64 [row]; new ids follow on those that are there.
        fresh: bool [row], whether the id is new.
    """

    every: np.ndarray
    ids: np.ndarray
    position: np.ndarray
    fresh: np.ndarray

    @classmethod
    def of(cls, every: np.ndarray, items: pa.Table) -> Places:
        """The places of a table's rows in a catalogue of these ids."""
        known = pa.array([i.decode() for i in every[1:]], pa.string())
        ids = items.column(ITEM_ID).combine_chunks()
        at = pc.fill_null(pc.index_in(ids, known), -1).to_numpy(zero_copy_only=False)
        at = at.astype(np.int64)
        fresh = at < 0
        return cls(
            every=every,
            ids=np.array([i.encode() for i in ids.to_pylist()], object),
            position=np.where(fresh, len(every) - 1 + np.cumsum(fresh), at) + ~fresh,
            fresh=fresh,
        )

    @property
    def size(self) -> int:
        """Items of the catalogue with the table's rows in it."""
        return len(self.every) - 1 + int(self.fresh.sum())

    def laid(self, old: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """A variable's old rows with the table's at their positions, grown as far as these reach.

        A variable as long as ``every`` begins with padding; one of a row less begins with item 1.
        """
        at = self.position - (len(self.every) - len(old))
        grown = np.zeros((max(len(old), int(at.max()) + 1), *old.shape[1:]), old.dtype)
        grown[: len(old)] = old
        grown[at] = rows
        return grown


def catalogue_values(
    saved: SavedVariables, prefix: tuple[str, ...], items: pa.Table, places: Places
) -> Values:
    """The variables ``item_ids``, ``titles`` and ``added`` of a module, with the items in them.

    Args:
        saved: variables of the SavedModel.
        prefix: attributes that lead from its root to the module.
        items: the table; with ``title`` or without.
        places: of its rows in this module's catalogue.

    Raises:
        ValueError: two added ids have the same hash.
    """
    values = {saved.key(*prefix, "item_ids"): places.laid(places.every, places.ids)}
    if saved.has(*prefix, "titles"):
        shown = _titles(items, places.ids)
        old = saved.read(*prefix, "titles")
        if TITLE not in items.column_names:  # what is there keeps its title
            shown[~places.fresh] = old[places.position[~places.fresh]]
        values[saved.key(*prefix, "titles")] = places.laid(old, shown)
    hashes, positions = _hashes(saved, prefix, places)
    values[saved.key(*prefix, "added", "hashes")] = hashes
    values[saved.key(*prefix, "added", "positions")] = positions
    return values


def _titles(items: pa.Table, ids: np.ndarray) -> np.ndarray:
    """Display names, bytes object [row]; the id where there is none."""
    if TITLE not in items.column_names:
        return ids.copy()
    titles = pc.cast(items.column(TITLE), pa.string()).to_pylist()
    shown = [t.encode() if t else i for t, i in zip(titles, ids, strict=True)]
    return np.array(shown, object)


def _hashes(
    saved: SavedVariables, prefix: tuple[str, ...], places: Places
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted hashes of all added items, and their positions."""
    hashes = saved.read(*prefix, "added", "hashes")
    positions = saved.read(*prefix, "added", "positions")
    ids = places.ids[places.fresh]
    if len(ids):
        hashes = np.concatenate([hash_ids(tf.constant(ids, tf.string)).numpy(), hashes])
        positions = np.concatenate([places.position[places.fresh], positions])
    order = np.argsort(hashes, kind="stable")
    hashes, positions = hashes[order], positions[order]
    if (np.diff(hashes) == 0).any():
        raise ValueError(
            "two added ids have the same 62-bit hash, which the export cannot tell apart; add one "
            "of them under another id"
        )
    return hashes, positions
