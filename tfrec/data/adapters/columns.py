"""Any CSV, TSV or Parquet by the column maps of the configuration."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import DataConfig
from tfrec.data.adapters.attributes import most_frequent, read_attributes
from tfrec.data.adapters.events import read_interactions
from tfrec.data.quarantine import Quarantine
from tfrec.data.tables import Tables
from tfrec.schema import ITEM_ID, USER_ID, FeatureTable


def raw_file(base: Path, name: str) -> Path:
    """The file that a map names; ``data.path`` may be the file itself."""
    return base if base.is_file() and name in ("", base.name) else base / name


def read_columns(data: DataConfig, features: FeatureTable, quarantine: Quarantine) -> Tables:
    """Reads the files that the sections interactions, users and items map.

    Without a map of users (or items) their table holds the ids alone.
    """
    base, log = Path(data.path or ""), data.interactions
    assert log is not None
    maps = {USER_ID: data.users, ITEM_ID: data.items}
    same_file = {key: m for key, m in maps.items() if m is not None and m.file == log.file}
    keep = tuple(
        dict.fromkeys(
            column
            for key, m in same_file.items()
            for name, column in m.columns.items()
            if name != key
        )
    )
    events, raw = read_interactions(raw_file(base, log.file), log, features, quarantine, keep)
    attributes: dict[str, pa.Table] = {}
    for key, table in maps.items():
        if table is None:
            attributes[key] = pa.table({key: pc.unique(events.column(key))})
        elif key in same_file:
            attributes[key] = most_frequent(events.column(key), raw, table, key, features)
        else:
            path = raw_file(base, table.file)
            attributes[key] = read_attributes(path, table, key, features, quarantine)
    return Tables(events, attributes[USER_ID], attributes[ITEM_ID])
