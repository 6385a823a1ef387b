"""Raw logs to canonical tables, splits, encoded arrays."""

from __future__ import annotations

from tfrec.data.prepare import Summary, prepare
from tfrec.data.quarantine import BadDataError
from tfrec.data.splits import assign
from tfrec.data.tables import (
    DataError,
    Tables,
    canonical,
    open_interactions,
    read_items,
    read_tables,
    read_users,
    titles,
    write_tables,
)

__all__ = [
    "BadDataError",
    "DataError",
    "Summary",
    "Tables",
    "assign",
    "canonical",
    "open_interactions",
    "prepare",
    "read_items",
    "read_tables",
    "read_users",
    "titles",
    "write_tables",
]
