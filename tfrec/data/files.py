"""Plain and gzipped files as blocks of whole lines."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfrec.data.progress import progress
from tfrec.data.tables import DataError

BLOCK_BYTES = 16 << 20


def open_bytes(path: Path) -> io.BufferedIOBase:
    """Opens a plain or gzipped file (told by its first bytes, not its name)."""
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value]


def find_file(folder: Path, *names: str) -> Path:
    """The first of the names that is there, plain or with ``.gz`` behind.

    Raises:
        DataError: none is there.
    """
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise DataError(
        f"{folder}: one of {list(names)} (plain or .gz) is needed; got neither; check data.path"
    )


def whole_lines(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Blocks of whole lines, the last with a line end added, and whether it is the last.

    Raises:
        DataError: a damaged gzip file.
    """
    carry = b""
    with progress(path.name, path.stat().st_size) as advance, open_bytes(path) as stream:
        position = 0
        while True:
            try:
                chunk = stream.read(BLOCK_BYTES)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise DataError(
                    f"{path}: the gzip stream is damaged or cut short ({error}); fetch it again"
                ) from None
            under: Any = stream.fileobj if isinstance(stream, gzip.GzipFile) else stream
            advance(under.tell() - position)
            position = under.tell()
            if not chunk:
                break
            cut = chunk.rfind(b"\n") + 1
            if cut:
                yield carry + chunk[:cut], False
                carry = chunk[cut:]
            else:
                carry += chunk
    yield (carry + b"\n" if carry else b""), True
