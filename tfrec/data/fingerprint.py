"""A digest of all that decides the canonical tables."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tfrec.config import Config, DataConfig
from tfrec.data.adapters.columns import raw_file
from tfrec.data.image_files import image_paths
from tfrec.data.tables import DataError

# Raise when the tables made from the same inputs change.
_VERSION = 2


def fingerprint(config: Config) -> str:
    """A digest of all that decides the tables: data section, features, contents of the inputs.

    Of image files the name, size and time of change stand for the contents.

    Raises:
        DataError: ``data.path`` does not exist.
    """
    digest = hashlib.blake2b(digest_size=16)
    data = config.data.model_dump(mode="json", exclude={"path"})
    features = [f.model_dump(mode="json") for f in config.feature_table]
    digest.update(json.dumps([_VERSION, data, features], sort_keys=True).encode())
    for path in _inputs(config.data):
        digest.update(path.name.encode())
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    # Images by size and time of change: there may be gigabytes of them.
    for path in image_paths(config.data):
        known = path.stat()
        digest.update(f"{path.name}:{known.st_size}:{known.st_mtime_ns}".encode())
    return digest.hexdigest()


def _inputs(data: DataConfig) -> list[Path]:
    """The files that the adapter may read, in a fixed order."""
    if data.path is None:
        return []
    base = Path(data.path)
    if not base.exists():
        raise DataError(f"data.path: an existing file or folder is needed; got {base}")
    if data.format == "columns":
        maps = [m for m in (data.interactions, data.users, data.items) if m is not None]
        return sorted({p for m in maps if (p := raw_file(base, m.file)).is_file()})
    if data.format == "canonical":
        return sorted(base.rglob("*.parquet"))
    names: tuple[str, ...] = ("*.dat", "*.dat.gz")
    if data.format == "movielens_100k":
        names = ("u.*", "ml-100k.*")
    elif data.format == "ncf":
        beside = [p for n in names for p in sorted(base.parent.glob(n))]
        names = ("*.rating*", "*.negative*", "item_map.csv")
        return beside + [p for n in names for p in sorted(base.glob(n))]
    return [p for n in names for p in sorted(base.glob(n))]
