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
import tensorflow as tf

from tfrec.export.added_requests import check_and_record
from tfrec.export.batch import ModelFolderError, latest_version
from tfrec.export.catalogue import Places, Values, catalogue_values
from tfrec.export.index import write_report
from tfrec.export.index_grow import index_values, vectors_of_grown
from tfrec.export.new_images import prepare_new_images
from tfrec.export.new_items import check_ids, item_inputs, read_new_items
from tfrec.export.raw import ITEM_ROWS
from tfrec.export.versions import next_version
from tfrec.models.saved import SavedVariables
from tfrec.retrieval.measure import IndexReport

BLOCK = 4096  # items embedded at a time


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
        images: by feature of kind ``image``: items ``decoded``, ``missing``, ``bad:<reason>``.
        quarantine: file of the images that could not be read; None where all could.
        index: report of the grown index; None for a model without one.
    """

    folder: Path
    source: Path
    added: tuple[str, ...]
    updated: tuple[str, ...]
    items: int
    absent: tuple[str, ...]
    images: dict[str, dict[str, int]]
    quarantine: Path | None
    index: IndexReport | None


def growing_model(model: str | Path) -> tuple[Path, Any]:
    """The SavedModel of a folder, loaded, if its catalogue can grow.

    Raises:
        ModelFolderError: there is none, or its items are known by their ids alone.
    """
    source = latest_version(model)
    loaded = tf.saved_model.load(str(source))
    if ITEM_ROWS not in loaded.signatures and hasattr(loaded, "samples"):
        raise ModelFolderError(
            f"{source} has an index, and its items cannot grow: the model inside knows items by "
            f"their ids alone, or the index holds other vectors than the model's (refreshed with "
            f"--vectors), or an earlier version of tfrec wrote it; give the index all vectors "
            f"anew with 'tfrec index refresh --vectors', or train this model again"
        )
    if ITEM_ROWS not in loaded.signatures:
        raise ModelFolderError(
            f"{source} knows items by their ids alone (no signature {ITEM_ROWS!r}), so nothing "
            f"says where a new one lies; train two_tower, gmf, mlp, neumf, vbpr or item2vec "
            f"(attributes: true, match: similar) with item features, or train this model again"
        )
    return source, loaded


def add_items(
    model: str | Path,
    items: pa.Table | str | Path,
    out: str | Path | None = None,
    *,
    update: bool = False,
    version: int | None = None,
    images: str | Path = ".",
    max_bad: float | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Added:
    """Writes a version of the model whose catalogue holds the items too.

    Args:
        model: a version folder, or the folder of versions (the highest is taken).
        items: ``item_id``, the item columns that the model reads, and ``title`` where it has
            titles; or a file of them, see ``read_new_items``. A column that is not there counts
            as missing for all. An image is the bytes of a file, or its path; see
            ``tfrec.export.new_images``.
        out: folder of versions that gets the new one; by default that of the model.
        update: whether items that are in the catalogue take the features given; else they are an
            error. Their ids keep what training gave them.
        version: number of the new version; by default one more than the highest in ``out`` and
            than the model's own.
        images: folder that paths of images begin at, and lie in.
        max_bad: share of unreadable images above which nothing is added; None takes any: the
            items are kept, without an image.
        progress: is told how many items are done.

    Raises:
        ModelFolderError: no such model, or one whose catalogue cannot grow.
        ValueError: ids that break a rule, that are there already, or whose hashes are equal; a
            column of a wrong type; a version that is there; too many unreadable images.
    """
    source, loaded = growing_model(model)
    call = loaded.signatures[ITEM_ROWS]
    specs = call.structured_input_signature[1]
    if not isinstance(items, pa.Table):
        items = read_new_items(items, specs)
    check_ids(items, "the table of new items")
    absent = tuple(n for n in specs if n not in items.column_names)

    saved = SavedVariables(source)
    inside = ("base",) if saved.has("base", "item_ids") else ()
    places = Places.of(saved.read(*inside, "item_ids"), items)
    known = places.ids[~places.fresh]
    present = [i.decode() for i in known]
    if present and not update:
        raise ValueError(
            f"{len(present)} of {len(places.ids)} items are in the catalogue already (first: "
            f"{present[:5]}); leave them out, or pass update=True (--update) to replace their "
            f"features"
        )

    base = Path(out) if out is not None else source.parent
    target = next_version(base, source, version)
    base.mkdir(parents=True, exist_ok=True)
    # Beside its place, on the same disk: the last step is a rename. Servers look at numbers only.
    work = Path(tempfile.mkdtemp(prefix=".adding-", dir=base))
    try:
        shutil.copytree(
            source, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("variables")
        )
        ready = prepare_new_images(items, specs, work, images, max_bad)
        rows = _item_rows(call, ready.items, progress)
        values = {
            saved.key(*inside, "growing", name): places.laid(
                saved.read(*inside, "growing", name), row
            )
            for name, row in rows.items()
        }
        values |= catalogue_values(saved, inside, items, places)
        report = None
        if inside:
            more, report = _index(source, saved, values, items, places)
            values |= more
            write_report(work, report)
        saved.write(work, values)
        new = [i.decode() for i in places.ids[places.fresh]]
        check_and_record(work, loaded, new, present)
        work.chmod(source.stat().st_mode)
        os.rename(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Added(
        folder=target,
        source=source,
        added=tuple(new),
        updated=tuple(present),
        items=places.size,
        absent=absent,
        images=ready.counts,
        quarantine=target / ready.quarantine if ready.quarantine else None,
        index=report,
    )


def _item_rows(
    call: Any, items: pa.Table, progress: Callable[[int], None]
) -> dict[str, np.ndarray]:
    """What the signature ``item_rows`` makes of the items, by block."""
    specs = call.structured_input_signature[1]
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, items.num_rows, BLOCK):
        stop = min(start + BLOCK, items.num_rows)
        rows = call(**item_inputs(items, start, stop, specs))
        parts.append({name: value.numpy() for name, value in rows.items()})
        progress(stop)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _index(
    source: Path, saved: SavedVariables, values: Values, items: pa.Table, places: Places
) -> tuple[Values, IndexReport]:
    """Variables of the index around a model whose own are ``values``, and its report."""
    # A copy in memory is grown and asked for the vectors.
    vectors = vectors_of_grown(tf.saved_model.load(str(source)), saved, values, places.ids)
    # The index has an order of its own: a refresh may have made it of the same items.
    indexed = Places.of(saved.read("item_ids"), items)
    more, report = index_values(saved, indexed, vectors)
    return {**catalogue_values(saved, (), items, indexed), **more}, report
