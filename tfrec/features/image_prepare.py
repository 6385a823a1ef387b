"""Image columns of the item table, from files' bytes to what encoding reads.

The same functions run in a notebook (``prepare_items``) and on each range of items in ExampleGen's
Beam graph (``prepare_column``). An unreadable image is written to a quarantine file with its
reason; the item stays, without an image.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec.data.images import BadImage, decode_image
from tfrec.data.progress import progress
from tfrec.data.quarantine import BadDataError, Quarantine
from tfrec.data.tables import DataError
from tfrec.schema import ITEM_ID, Feature, FeatureTable

DECODED, MISSING, BAD = "decoded", "missing", "bad"
BLOCK = 256  # images whose pixels are in memory at a time
QUARANTINE, SUMMARY, PREPARED = "quarantine.jsonl", "summary.json", "prepared.parquet"
_VERSION = 1  # raise when the same bytes are prepared differently

# (feature, "decoded" | "missing" | "bad:<reason>") -> items
Counts = Counter[tuple[str, str]]


def image_features(features: Iterable[Feature]) -> tuple[Feature, ...]:
    """Those of kind ``image``."""
    return tuple(f for f in features if f.kind == "image")


def prepare_column(
    items: pa.Table, feature: Feature, quarantine: Quarantine, first_line: int = 1
) -> tuple[pa.Array, Counts]:
    """One image column.

    Args:
        items: some rows of the item table; the column holds the bytes of image files.
        feature: of kind ``image``.
        quarantine: gets one line an unreadable image: the row, the reason, the item.
        first_line: number of the first row in the whole table.

    Returns:
        binary [row]: ``height * width * 3`` bytes of pixels, rows first, or (for an application)
        the float32 of its pooled vector, little endian; '' where there is no image; and the counts.

    Raises:
        DataError: the column holds no bytes.
    """
    column = _bytes_column(items, feature)
    ids = items.column(ITEM_ID).to_pylist()
    counts: Counts = Counter()
    out: list[bytes] = []
    with progress(f"images {feature.name}", len(column)) as advance:
        for start in range(0, len(column), BLOCK):
            # One buffer of pixels a block; a row that fails stays unused.
            part = column.slice(start, BLOCK).to_pylist()
            pixels = np.empty((len(part), feature.height, feature.width, 3), np.uint8)
            good = np.zeros(len(part), bool)
            for at, data in enumerate(part):
                if not data:
                    counts[feature.name, MISSING] += 1
                    continue
                try:
                    pixels[at] = decode_image(data, feature.height, feature.width, feature.fit)
                    good[at] = True
                except BadImage as error:
                    counts[feature.name, f"{BAD}:{error.reason}"] += 1
                    row = start + at
                    raw = f"item {ids[row]}: {len(data)} bytes; {error}"
                    quarantine.add(feature.name, [first_line + row], [error.reason], [raw])
            counts[feature.name, DECODED] += int(good.sum())
            out += _bytes_of(pixels, good, feature)
            advance(len(part))
    quarantine.rows[feature.name] = len(column)
    return pa.array(out, pa.binary()), counts


def _bytes_column(items: pa.Table, feature: Feature) -> pa.ChunkedArray:
    column = items.column(feature.name)
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise DataError(
            f"feature {feature.name!r} (kind image) is a column of bytes; got {column.type}; name "
            f"the files by data.image_files, or take another kind"
        )
    return column


def _bytes_of(pixels: np.ndarray, good: np.ndarray, feature: Feature) -> list[bytes]:
    """Prepared bytes of a block, b'' where an image is not good."""
    rows = pixels[good]
    if feature.application is not None and len(rows):
        from tfrec.features.image_frozen import pool_images

        rows = pool_images(rows, feature).astype("<f4")
    encoded = iter([row.tobytes() for row in rows])
    return [next(encoded) if there else b"" for there in good]


def check_limit(counts: Mapping[tuple[str, str], int], features: Iterable[Feature]) -> None:
    """Ends a run that has too many unreadable images.

    Raises:
        BadDataError: a feature's share of bad images among those given exceeds its ``max_bad``.
    """
    for feature in image_features(features):
        mine = {kind: n for (name, kind), n in counts.items() if name == feature.name}
        bad = {kind.removeprefix(f"{BAD}:"): n for kind, n in mine.items() if kind.startswith(BAD)}
        given = mine.get(DECODED, 0) + sum(bad.values())
        if sum(bad.values()) > feature.max_bad * given:
            raise BadDataError(
                f"feature {feature.name!r}: at most {feature.max_bad:.2%} of the images may be "
                f"unreadable (its max_bad); got {sum(bad.values()):,} of {given:,}: {bad}; mend "
                f"the files, or raise max_bad"
            )


def report(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Feature -> ``decoded``, ``missing``, ``bad:<reason>`` -> items, for summaries."""
    out: dict[str, dict[str, int]] = {}
    for (name, kind), n in sorted(counts.items()):
        out.setdefault(name, {})[kind] = int(n)
    return out


def prepare_items(
    items: pa.Table, features: FeatureTable, folder: str | Path
) -> tuple[pa.Table, dict[str, dict[str, int]]]:
    """The item table with all image columns prepared; kept in ``folder`` for the next call.

    Args:
        items: the canonical item table.
        features: the feature table.
        folder: gets ``prepared.parquet``, ``quarantine.jsonl`` and ``summary.json``.

    Returns:
        The table, and the counts as ``report`` gives them.

    Raises:
        DataError: a column holds no bytes. BadDataError: too many unreadable images.
    """
    chosen = [f for f in image_features(features) if f.name in items.column_names]
    if not chosen:
        return items, {}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark = _fingerprint(items, chosen)
    summary = folder / SUMMARY
    if summary.is_file() and (known := json.loads(summary.read_text()))["fingerprint"] == mark:
        ready = pq.read_table(folder / PREPARED)
        found = known["images"]
    else:
        summary.unlink(missing_ok=True)
        columns: dict[str, pa.Array] = {}
        counts: Counts = Counter()
        with Quarantine(folder / QUARANTINE, 1.0) as quarantine:
            for feature in chosen:
                columns[feature.name], more = prepare_column(items, feature, quarantine)
                counts += more
        check_limit(counts, chosen)
        ready, found = pa.table(columns), report(counts)
        pq.write_table(ready, folder / PREPARED, compression="zstd")
        summary.write_text(json.dumps({"fingerprint": mark, "images": found}, indent=1) + "\n")
    for feature in chosen:
        at = items.column_names.index(feature.name)
        items = items.set_column(at, feature.name, ready.column(feature.name))
    return items, found


def _fingerprint(items: pa.Table, chosen: Iterable[Feature]) -> str:
    """Of the bytes of all images and of the features that say how they are prepared."""
    digest = hashlib.blake2b(str(_VERSION).encode(), digest_size=16)
    for feature in chosen:
        digest.update(feature.model_dump_json().encode())
        if feature.weights not in (None, "random") and Path(feature.weights).is_file():
            digest.update(Path(feature.weights).read_bytes())
        for chunk in _bytes_column(items, feature).chunks:
            for value in pc.fill_null(chunk, b"").to_pylist():
                digest.update(len(value).to_bytes(8, "little") + value)
    return digest.hexdigest()
