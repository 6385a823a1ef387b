"""Raw log to canonical tables: read, filter, write; once for each configuration and input.

The folder is built beside its final place and renamed at the end, so a reader sees all of it or
nothing; a second call with the same configuration and inputs returns at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec.config import Config, DataConfig
from tfrec.data import synthetic
from tfrec.data.adapters.columns import (
    most_frequent,
    read_attributes,
    read_interactions,
)
from tfrec.data.adapters.movielens import read_movielens_1m, read_movielens_100k
from tfrec.data.adapters.ncf import NEGATIVES_FILE, read_ncf
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
from tfrec.schema import EVENT, ITEM_ID, TIMESTAMP, USER_ID, WEIGHT, FeatureTable

SUMMARY = "summary.json"
QUARANTINE = "quarantine.jsonl"
# Raise when the tables made from the same inputs change.
_VERSION = 1


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
    began = time.monotonic()
    work = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with Quarantine(work / QUARANTINE, config.data.max_bad_rate) as quarantine:
            if config.data.format == "synthetic" and not _filters(config.data):
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


def fingerprint(config: Config) -> str:
    """A digest of all that decides the tables: data section, features, contents of the inputs.

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
        return sorted({p for m in maps if (p := _file(base, m.file)).is_file()})
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


def _file(base: Path, name: str) -> Path:
    return base if base.is_file() and name in ("", base.name) else base / name


def _filters(data: DataConfig) -> bool:
    """Whether events may be dropped after reading."""
    return (
        data.min_rating is not None
        or data.events is not None
        or data.min_item_events > 1
        or data.min_user_events > 1
    )


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
    for name, kept in _apply_filters(interactions, data):
        filtered[name] = interactions.num_rows - kept.num_rows
        interactions = kept
    if interactions.num_rows == 0:
        raise DataError(
            f"at least one event is needed after reading and filtering; got none of {rows_in:,} "
            f"rows; quarantined: {quarantine.counts()}; filtered: {filtered}"
        )
    users = _of_events(canonical(tables.users, USER_SCHEMA), interactions, USER_ID, data.keep_cold)
    items = _of_events(canonical(tables.items, ITEM_SCHEMA), interactions, ITEM_ID, data.keep_cold)
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
        return quarantine.rows.get(_file(Path(data.path or ""), data.interactions.file).name, 0)
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
    return _read_columns(data, features, quarantine), None


def _read_columns(data: DataConfig, features: FeatureTable, quarantine: Quarantine) -> Tables:
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
    events, raw = read_interactions(_file(base, log.file), log, features, quarantine, keep)
    attributes: dict[str, pa.Table] = {}
    for key, table in maps.items():
        if table is None:
            attributes[key] = pa.table({key: pc.unique(events.column(key))})
        elif key in same_file:
            attributes[key] = most_frequent(events.column(key), raw, table, key, features)
        else:
            path = _file(base, table.file)
            attributes[key] = read_attributes(path, table, key, features, quarantine)
    return Tables(events, attributes[USER_ID], attributes[ITEM_ID])


def _apply_filters(events: pa.Table, data: DataConfig) -> Iterator[tuple[str, pa.Table]]:
    """Each filter's name and the events left after it."""
    if data.events is not None:
        events = events.filter(pc.is_in(events.column(EVENT), pa.array(data.events)))
        yield "events", events
    if data.min_rating is not None:
        events = events.filter(pc.greater_equal(events.column(WEIGHT), data.min_rating))
        yield "min_rating", events
    for name, key, least in (
        ("min_item_events", ITEM_ID, data.min_item_events),
        ("min_user_events", USER_ID, data.min_user_events),
    ):
        if least > 1 and events.num_rows:
            counts = events.select([key]).group_by([key]).aggregate([([], "count_all")])
            enough = counts.filter(pc.greater_equal(counts.column("count_all"), least))
            ids = enough.column(key).combine_chunks()
            events = events.filter(pc.is_in(events.column(key), ids))
            yield name, events


def _of_events(attributes: pa.Table, events: pa.Table, key: str, keep_cold: bool) -> pa.Table:
    """Attributes of the ids that have events, in order of appearance; null where unknown."""
    ids = pc.unique(events.column(key))
    known = attributes.column(key).combine_chunks()
    if keep_cold:
        ids = pa.concat_arrays([ids, known.filter(pc.invert(pc.is_in(known, ids)))])
    taken = attributes.take(pc.index_in(ids, known))
    return taken.set_column(taken.column_names.index(key), key, ids)
