"""Raw log to canonical tables: read, filter, write; once for each configuration and input.

The folder is built beside its final place and renamed at the end, so a reader sees all of it or
nothing; a second call with the same configuration and inputs returns at once.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec.config import Config, DataConfig
from tfrec.data import synthetic
from tfrec.data.adapters.columns import raw_file, read_columns
from tfrec.data.adapters.movielens import read_movielens_1m, read_movielens_100k
from tfrec.data.adapters.ncf import NEGATIVES_FILE, read_ncf
from tfrec.data.filters import apply_filters, has_filters, of_events
from tfrec.data.fingerprint import fingerprint
from tfrec.data.image_files import with_image_files
from tfrec.data.progress import progress
from tfrec.data.quarantine import BadDataError, Quarantine
from tfrec.data.tables import (
    INTERACTION_SCHEMA,
    ITEM_SCHEMA,
    USER_SCHEMA,
    DataError,
    Tables,
    canonical,
    read_tables,
    write_attributes,
    write_interactions,
    write_tables,
)
from tfrec.schema import ITEM_ID, TIMESTAMP, USER_ID, FeatureTable

SUMMARY = "summary.json"
QUARANTINE = "quarantine.jsonl"


@dataclass(frozen=True)
class Summary:
    """What ``prepare`` did.

    Attributes:
        fingerprint: of the configuration and the inputs.
        format: the adapter.
        rows_in: rows of the raw file(s) of interactions, good and bad.
        rows_out, users, items: rows of the canonical tables.
        time_min, time_max: seconds since 1970.
        quarantined: file -> reason -> rows.
        filtered: filter -> events it dropped.
        dropped_attributes: users and items of the attribute files that have no event.
        seconds: how long it took.
    """

    fingerprint: str
    format: str
    rows_in: int
    rows_out: int
    users: int
    items: int
    time_min: int
    time_max: int
    quarantined: dict[str, dict[str, int]] = field(default_factory=dict)
    filtered: dict[str, int] = field(default_factory=dict)
    dropped_attributes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """What was put aside, a line a file, as a run prints it; none where nothing was."""
        return [
            f"put aside from {file}: " + ", ".join(f"{n:,} {reason}" for reason, n in why.items())
            for file, why in self.quarantined.items()
        ]

    @classmethod
    def read(cls, directory: str | Path) -> Summary:
        """The summary of a canonical folder."""
        return cls(**json.loads((Path(directory) / SUMMARY).read_text()))


def prepare(config: Config, out: str | Path) -> Summary:
    """Makes the canonical folder ``out`` of the configured data.

    Args:
        config: its sections ``data`` and ``features`` are used.
        out: the folder; replaced when it was made from something else.

    Returns:
        What was read, dropped and written; also in ``summary.json``.

    Raises:
        DataError: missing files or columns, no rows left.
        BadDataError: too many malformed rows; they are kept in ``<out>.quarantine.jsonl``.
    """
    out = Path(out)
    mark = fingerprint(config)
    if (out / SUMMARY).is_file():
        summary = Summary.read(out)
        if summary.fingerprint == mark:
            return summary
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"{out}: the folder to write is new, empty or one made by prepare (it has {SUMMARY}); "
            f"got something else; choose another, or remove it yourself"
        )
    began = time.monotonic()
    work = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with Quarantine(work / QUARANTINE, config.data.max_bad_rate) as quarantine:
            if config.data.format == "synthetic" and not has_filters(config.data):
                counts = _stream_synthetic(config.data, work)
            else:
                counts = _in_memory(config, work, quarantine)
            quarantined = quarantine.counts()
        summary = Summary(
            mark,
            config.data.format,
            quarantined=quarantined,
            seconds=round(time.monotonic() - began, 3),
            **counts,  # type: ignore[arg-type]
        )
        (work / SUMMARY).write_text(json.dumps(asdict(summary), indent=1) + "\n")
        _swap(work, out)
    except BadDataError as error:
        kept = out.with_name(f"{out.name}.{QUARANTINE}")
        (work / QUARANTINE).replace(kept)
        raise BadDataError(f"{error}\nall of them: {kept}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return summary


def _swap(work: Path, out: Path) -> None:
    """Puts the finished folder in its place; what was there goes only after."""
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.exists():
        out.rename(old)
    work.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _stream_synthetic(data: DataConfig, work: Path) -> dict[str, object]:
    """Writes the synthetic shop block by block; memory does not grow with its rows."""
    shop = synthetic.generate(data)
    rows, low, high = 0, None, None
    with progress("synthetic events", shop.rows) as advance:
        for part in write_interactions(shop.interactions(), work):
            rows += part.num_rows
            advance(part.num_rows)
            times = pc.min_max(part.column(TIMESTAMP)).as_py()
            low = times["min"] if low is None else min(low, times["min"])
            high = times["max"] if high is None else max(high, times["max"])
    write_attributes(shop.users, shop.items, work)
    return {
        "rows_in": rows,
        "rows_out": rows,
        "users": shop.users.num_rows,
        "items": shop.items.num_rows,
        "time_min": low,
        "time_max": high,
    }


def _in_memory(config: Config, work: Path, quarantine: Quarantine) -> dict[str, object]:
    data = config.data
    tables, negatives = _read(data, config.feature_table, quarantine)
    interactions = canonical(tables.interactions, INTERACTION_SCHEMA)
    rows_in = _rows_in(data, quarantine) or interactions.num_rows
    filtered: dict[str, int] = {}
    for name, kept in apply_filters(interactions, data):
        filtered[name] = interactions.num_rows - kept.num_rows
        interactions = kept
    if interactions.num_rows == 0:
        raise DataError(
            f"at least one event is needed after reading and filtering; got none of {rows_in:,} "
            f"rows; quarantined: {quarantine.counts()}; filtered: {filtered}"
        )
    users = of_events(canonical(tables.users, USER_SCHEMA), interactions, USER_ID, data.keep_cold)
    items = of_events(canonical(tables.items, ITEM_SCHEMA), interactions, ITEM_ID, data.keep_cold)
    items = with_image_files(items, data, quarantine)
    write_tables(Tables(interactions, users, items), work)
    if negatives is not None:
        pq.write_table(negatives, work / NEGATIVES_FILE, compression="zstd")
    times = pc.min_max(interactions.column(TIMESTAMP)).as_py()
    cold = {
        name: int(pc.sum(pc.invert(pc.is_in(raw.column(key), kept.column(key)))).as_py() or 0)
        for name, raw, kept, key in (
            ("users", tables.users, users, USER_ID),
            ("items", tables.items, items, ITEM_ID),
        )
    }
    return {
        "rows_in": rows_in,
        "rows_out": interactions.num_rows,
        "users": users.num_rows,
        "items": items.num_rows,
        "time_min": times["min"],
        "time_max": times["max"],
        "filtered": filtered,
        "dropped_attributes": {name: count for name, count in cold.items() if count},
    }


def _rows_in(data: DataConfig, quarantine: Quarantine) -> int:
    """Raw rows of the files of interactions."""
    if data.format == "columns" and data.interactions is not None:
        return quarantine.rows.get(raw_file(Path(data.path or ""), data.interactions.file).name, 0)
    marks = {
        "movielens_1m": ("ratings.dat",),
        "movielens_100k": ("u.data", "ml-100k.inter"),
        "ncf": (".rating", "train.rating", "test.rating"),
    }.get(data.format, ())
    return sum(
        rows
        for file, rows in quarantine.rows.items()
        if file.removesuffix(".gz").endswith(tuple(marks))
        and not (data.format == "ncf" and file == "ratings.dat")
    )


def _read(
    data: DataConfig, features: FeatureTable, quarantine: Quarantine
) -> tuple[Tables, pa.Table | None]:
    """The tables by the adapter, and NCF's fixed candidates."""
    base = Path(data.path or "")
    if data.format == "synthetic":
        return synthetic.generate(data).tables(), None
    if data.format == "canonical":
        return read_tables(base), None
    if data.format == "movielens_1m":
        return read_movielens_1m(base, quarantine), None
    if data.format == "movielens_100k":
        return read_movielens_100k(base, quarantine), None
    if data.format == "ncf":
        return read_ncf(base, quarantine)
    return read_columns(data, features, quarantine), None
