"""Images of new items: read, decoded and resized as preparation does, before the model sees them.

The exported model's ``item_rows`` takes prepared images. What prepares them here is the function
that ExampleGen runs on all items (``tfrec.features.image_prepare.prepare_column``), so an item has
the same vector whether it came with the training data or was added later. An image that cannot be
read goes to the quarantine file with its reason; its item is added without an image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tfrec.data.image_files import read_image_file
from tfrec.data.quarantine import Quarantine
from tfrec.data.tables import DataError
from tfrec.export.feature_table import read_features
from tfrec.features.image_prepare import (
    BAD,
    MISSING,
    Counts,
    check_limit,
    image_features,
    prepare_column,
    report,
)
from tfrec.schema import ITEM_ID, Feature

QUARANTINE = Path("assets.extra") / "index_add" / "quarantine.jsonl"


@dataclass(frozen=True)
class NewImages:
    """New items whose images are prepared.

    Attributes:
        items: the table.
        counts: by feature: items ``decoded``, ``missing``, ``bad:<reason>``.
        quarantine: path of the quarantine below the version's folder; None where it is empty.
    """

    items: pa.Table
    counts: dict[str, dict[str, int]]
    quarantine: Path | None


def prepare_new_images(
    items: pa.Table,
    names: Iterable[str],
    folder: Path,
    base: str | Path,
    max_bad: float | None,
) -> NewImages:
    """Prepares all image columns of a table of new items.

    Args:
        items: the table; an image column holds the bytes of files, or paths below ``base``.
        names: item columns that the model reads.
        folder: of the version that is being made; it holds the model's feature table and gets the
            quarantine.
        base: folder of the image files.
        max_bad: share of unreadable images above which nothing is added; None takes any.

    Raises:
        DataError: a column holds neither bytes nor paths, or bytes that nothing says how to read.
        BadDataError: too many unreadable images.
    """
    path = folder / QUARANTINE
    path.unlink(missing_ok=True)  # that of an earlier addition
    table = read_features(folder)
    chosen = [f for f in image_features(table or ()) if f.name in items.column_names]
    for name in names if table is None else ():
        if name in items.column_names and pa.types.is_binary(items.column(name).type):
            raise DataError(
                f"column {name!r} holds bytes, and the model does not say how to prepare images "
                f"(no assets.extra/features.json): an earlier version of tfrec wrote it; export "
                f"the model again"
            )
    if not chosen:
        return NewImages(items, {}, None)
    path.parent.mkdir(parents=True, exist_ok=True)
    counts: Counts = Counter()
    with Quarantine(path, 1.0) as quarantine:
        for feature in chosen:
            read, unread = _with_bytes(items, feature, Path(base).resolve(), quarantine)
            column, found = prepare_column(read, feature, quarantine)
            for reason, rows in unread.items():  # counted as missing, for want of bytes
                found[feature.name, MISSING] -= rows
                found[feature.name, f"{BAD}:{reason}"] += rows
            counts += found
            items = _replaced(items, feature.name, column)
    if max_bad is not None:
        check_limit(counts, [f.model_copy(update={"max_bad": max_bad}) for f in chosen])
    if not path.stat().st_size:
        path.unlink()
        path.parent.rmdir()
        return NewImages(items, report(counts), None)
    return NewImages(items, report(counts), QUARANTINE)


def _replaced(items: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return items.set_column(items.column_names.index(name), name, column)


def _with_bytes(
    items: pa.Table, feature: Feature, base: Path, quarantine: Quarantine
) -> tuple[pa.Table, Counter[str]]:
    """The table with the files' bytes in place of their paths, and what was not taken by reason."""
    column = items.column(feature.name)
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return items, Counter()
    texts = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not (texts or pa.types.is_null(column.type)):
        raise DataError(
            f"column {feature.name!r} holds images: the bytes of files, or paths below {base}; got "
            f"{column.type}"
        )
    found: list[bytes | None] = []
    unread: Counter[str] = Counter()
    pairs = zip(items.column(ITEM_ID).to_pylist(), column.to_pylist(), strict=True)
    for line, (item, name) in enumerate(pairs, 1):
        data, reason = read_image_file(base, name) if name else (None, None)
        found.append(data)
        if reason is not None:
            unread[reason] += 1
            raw = f"item {item}: {base / name}"
            quarantine.add(feature.name, [line], [reason], [raw])
    return _replaced(items, feature.name, pa.array(found, pa.binary())), unread
