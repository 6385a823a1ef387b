"""Image files of items into their table: ``data.image_files`` names where they lie."""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from tfrec.config import DataConfig
from tfrec.data.quarantine import Quarantine
from tfrec.data.tables import DataError
from tfrec.schema import ITEM_ID

MAX_FILE_BYTES = 32 << 20
NO_FILE, OUTSIDE, TOO_LARGE = "no_such_file", "outside_data_path", "file_too_large"


def read_image_file(base: Path, name: str) -> tuple[bytes | None, str | None]:
    """The bytes of a file, or the reason why it is not taken.

    Args:
        base: resolved folder that the file has to lie in.
        name: path below it.
    """
    path = (base / name).resolve()
    if not path.is_file():
        return None, NO_FILE
    if not path.is_relative_to(base):
        return None, OUTSIDE
    if path.stat().st_size > MAX_FILE_BYTES:
        return None, TOO_LARGE
    return path.read_bytes(), None


def with_image_files(items: pa.Table, data: DataConfig, quarantine: Quarantine) -> pa.Table:
    """Adds (or replaces) one column of bytes for each entry of ``data.image_files``.

    An item whose file is not there, lies outside ``data.path`` or is larger than 32 MiB gets null;
    the latter two are quarantined.

    Args:
        items: with ``item_id``.
        data: ``path`` and ``image_files``.
        quarantine: gets one line a file that is not taken.

    Raises:
        DataError: a pattern names a column that the items lack, or not one file was found.
    """
    base = Path(data.path or "").resolve()
    for name, pattern in data.image_files.items():
        columns = [items.column(c).to_pylist() for c in _columns(items, name, pattern)]
        keys = [c for _, c, _, _ in string.Formatter().parse(pattern) if c]
        found: list[bytes | None] = []
        lines, reasons, raws = [], [], []
        for row, values in enumerate(zip(*columns, strict=True)):
            taken = dict(zip(keys, values, strict=True))
            named = pattern.format(**taken)
            content, reason = (
                (None, None)
                if any(v in (None, "") for v in values)
                else read_image_file(base, named)
            )
            found.append(content)
            if reason is not None and reason != NO_FILE:  # without a file there is no image
                lines.append(row + 1)
                reasons.append(reason)
                raws.append(str(base / named))
        label = quarantine.label(Path(name))
        # Not malformed rows: the items stay, only their image is left out.
        quarantine.add(label, lines, reasons, raws, rule=True)
        quarantine.finish_file(label, len(found))
        if not any(found):
            raise DataError(
                f"data.image_files.{name}: at least one item has a file; got none for "
                f"{base / pattern}; mend the pattern or data.path"
            )
        images = pa.array(found, pa.binary())
        if name in items.column_names:
            items = items.drop_columns([name])
        items = items.append_column(name, images)
    return items


def _columns(items: pa.Table, name: str, pattern: str) -> Iterator[str]:
    """The columns that a pattern's braces name."""
    try:
        keys = [key for _, key, _, _ in string.Formatter().parse(pattern) if key is not None]
    except ValueError as error:
        raise DataError(f"data.image_files.{name}: {pattern!r} is no pattern: {error}") from None
    texts = [c.name for c in items.schema if pa.types.is_string(c.type)]
    wrong = [key for key in keys if key not in texts]
    if wrong or not keys:
        raise DataError(
            f"data.image_files.{name}: in braces stand {ITEM_ID} or a text column of the items, "
            f"{texts}; got {pattern!r}"
        )
    return iter(keys)


def image_paths(data: DataConfig) -> list[Path]:
    """All files that the patterns may name, in a fixed order."""
    base = Path(data.path or "")
    out: set[Path] = set()
    for pattern in data.image_files.values():
        parts = string.Formatter().parse(pattern)
        glob = "".join(text + ("*" if key is not None else "") for text, key, _, _ in parts)
        out.update(p for p in base.glob(glob) if p.is_file())
    return sorted(out)
