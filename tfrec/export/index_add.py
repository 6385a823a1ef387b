"""Adds items to the catalogue of an exported retrieval model, without training.

The exported item tower makes the vectors of the new items from their features; the SavedModel's
graph stays as it is, byte for byte, and only its variables get more rows. The result is a new
version beside the old one, complete before it has its name, so that a server never sees half of it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrec.data.tables import TITLE
from tfrec.export.added_requests import check_and_record
from tfrec.export.batch import ModelFolderError, latest_version
from tfrec.export.new_items import check_ids, item_inputs
from tfrec.export.raw import hash_ids
from tfrec.models.saved import SavedVariables
from tfrec.schema import ITEM_ID

BLOCK = 4096  # items embedded at a time
ROWS = "item_rows"


@dataclass(frozen=True)
class Added:
    """What was done.

    Attributes:
        folder: the new version.
        source: the version it was made of.
        added: ids that are new.
        updated: ids that were there and have new features now.
        items: size of the catalogue.
        absent: feature columns that the file lacked; they count as missing.
    """

    folder: Path
    source: Path
    added: tuple[str, ...]
    updated: tuple[str, ...]
    items: int
    absent: tuple[str, ...]


def growing_model(model: str | Path) -> tuple[Path, Any]:
    """The SavedModel of a folder, loaded, if its catalogue can grow.

    Raises:
        ModelFolderError: there is none, or its items are known by their ids alone.
    """
    source = latest_version(model)
    loaded = tf.saved_model.load(str(source))
    if ROWS not in loaded.signatures:
        raise ModelFolderError(
            f"{source} knows items by their ids alone (no signature {ROWS!r}), so nothing says "
            f"where a new one lies; train two_tower, gmf, mlp, neumf or item2vec (attributes: "
            f"true, match: similar) with item features, or train this model again"
        )
    return source, loaded


def add_items(
    model: str | Path,
    items: pa.Table,
    out: str | Path | None = None,
    *,
    update: bool = False,
    version: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Added:
    """Writes a version of the model whose catalogue holds the items too.

    Args:
        model: a version folder, or the folder of versions (the highest is taken).
        items: ``item_id``, the item columns that the model reads, and ``title`` where it has
            titles. A column that is not there counts as missing for all.
        out: folder of versions that gets the new one; by default that of the model.
        update: whether items that are in the catalogue take the features given; else they are an
            error. Their ids keep what training gave them.
        version: number of the new version; by default one more than the highest in ``out`` and
            than the model's own.
        progress: is told how many items are done.

    Raises:
        ModelFolderError: no such model, or one whose catalogue cannot grow.
        ValueError: ids that break a rule, that are there already, or whose hashes are equal; a
            column of a wrong type; a version that is there.
    """
    source, loaded = growing_model(model)
    check_ids(items, "the table of new items")
    call = loaded.signatures[ROWS]
    specs = call.structured_input_signature[1]
    absent = tuple(n for n in specs if n not in items.column_names)

    saved = SavedVariables(source)
    every = saved.read("item_ids")
    known = pa.array([i.decode() for i in every[1:]], pa.string())
    ids = items.column(ITEM_ID).combine_chunks()
    at = pc.fill_null(pc.index_in(ids, known), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    present = ids.filter(pa.array(at >= 0)).to_pylist()
    if present and not update:
        raise ValueError(
            f"{len(present)} of {len(ids)} items are in the catalogue already (first: "
            f"{present[:5]}); leave them out, or pass update=True (--update) to replace their "
            f"features"
        )
    fresh = at < 0
    position = np.where(fresh, len(every) - 1 + np.cumsum(fresh), at) + np.where(fresh, 0, 1)

    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, len(ids), BLOCK):
        stop = min(start + BLOCK, len(ids))
        rows = call(**item_inputs(items, start, stop, specs))
        parts.append({name: value.numpy() for name, value in rows.items()})
        progress(stop)
    values = {
        saved.key("growing", name): _laid(
            saved.read("growing", name),
            np.concatenate([part[name] for part in parts]),
            position,
            len(every),
        )
        for name in parts[0]
    }
    texts = np.array([i.encode() for i in ids.to_pylist()], object)
    values[saved.key("item_ids")] = _laid(every, texts, position, len(every))
    if saved.has("titles"):
        shown = _titles(items, texts)
        old = saved.read("titles")
        if TITLE not in items.column_names:  # what is there keeps its title
            shown[~fresh] = old[position[~fresh]]
        values[saved.key("titles")] = _laid(old, shown, position, len(every))
    hashes, places = _hashes(saved, texts[fresh], position[fresh])
    values[saved.key("added", "hashes")] = hashes
    values[saved.key("added", "positions")] = places

    base = Path(out) if out is not None else source.parent
    new = [i.decode() for i in texts[fresh]]

    def finish(grown: Path) -> None:
        check_and_record(grown, loaded, new, present)

    folder = _write(source, saved, values, base, version, finish)
    return Added(
        folder=folder,
        source=source,
        added=tuple(new),
        updated=tuple(present),
        items=len(every) - 1 + int(fresh.sum()),
        absent=absent,
    )


def _laid(old: np.ndarray, rows: np.ndarray, position: np.ndarray, size: int) -> np.ndarray:
    """The old rows with the new ones at their positions, grown as far as these reach.

    A variable of ``size`` rows begins with padding; one of a row less begins with item 1.
    """
    at = position - (size - len(old))
    grown = np.zeros((max(len(old), int(at.max()) + 1), *old.shape[1:]), old.dtype)
    grown[: len(old)] = old
    grown[at] = rows
    return grown


def _titles(items: pa.Table, ids: np.ndarray) -> np.ndarray:
    """Display names, bytes object [row]; the id where there is none."""
    if TITLE not in items.column_names:
        return ids.copy()
    titles = pc.cast(items.column(TITLE), pa.string()).to_pylist()
    shown = [t.encode() if t else i for t, i in zip(titles, ids, strict=True)]
    return np.array(shown, object)


def _hashes(
    saved: SavedVariables, ids: np.ndarray, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted hashes of all added items, and their positions."""
    hashes, places = saved.read("added", "hashes"), saved.read("added", "positions")
    if len(ids):
        hashes = np.concatenate([hash_ids(tf.constant(ids, tf.string)).numpy(), hashes])
        places = np.concatenate([position, places])
    order = np.argsort(hashes, kind="stable")
    hashes, places = hashes[order], places[order]
    if (np.diff(hashes) == 0).any():
        raise ValueError(
            "two added ids have the same 62-bit hash, which the export cannot tell apart; add one "
            "of them under another id"
        )
    return hashes, places


def _write(
    source: Path,
    saved: SavedVariables,
    values: dict[str, np.ndarray],
    base: Path,
    version: int | None,
    finish: Callable[[Path], None],
) -> Path:
    """A complete version folder under its final name, or none at all."""
    base.mkdir(parents=True, exist_ok=True)
    there = [int(p.name) for p in base.glob("*") if p.name.isdigit()]
    own = [int(source.name)] if source.name.isdigit() else []
    number = max([*there, *own, 0]) + 1 if version is None else version
    target = base / str(number)
    if target.exists():
        raise ValueError(f"{target} is there already; pass another version than {number}")
    # Beside its place, on the same disk: the last step is a rename. Servers look at numbers only.
    work = Path(tempfile.mkdtemp(prefix=".adding-", dir=base))
    try:
        shutil.copytree(
            source, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("variables")
        )
        saved.write(work, values)
        finish(work)
        work.chmod(source.stat().st_mode)
        os.rename(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target
