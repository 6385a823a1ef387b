"""NCF's leave-one-out files (He et al. 2017): train.rating, test.rating, test.negative.

The files hold row numbers of users and items. Where ``item_map.csv`` (columns ``ncf``, ``movie``)
lies beside them and the published ml-1m files in the folder above, times and attributes are taken
from there; the ids stay NCF's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import TableMap
from tfrec.data.adapters.events import read_interactions
from tfrec.data.adapters.movielens import read_movielens_1m
from tfrec.data.files import find_file, open_bytes
from tfrec.data.quarantine import Quarantine
from tfrec.data.raw import Layout, read_text
from tfrec.data.tables import DataError, Tables
from tfrec.schema import ITEM_ID, TIMESTAMP, USER_ID, FeatureTable

NEGATIVES_FILE = "ncf_negatives.parquet"
_FILE = {"separator": "\t", "header": False, "quoting": False}
_EVENT = "rating"


def read_ncf(folder: Path, quarantine: Quarantine) -> tuple[Tables, pa.Table]:
    """Reads the three files, plain or gzipped; train rows come first, the test row of a user last.

    Times: the fourth column where there is one; else those of ml-1m's published ratings (see
    above); else the position of the row within its user. A user's test event is never earlier than
    the training ones, so ``last_out`` tests exactly the published test items.

    Returns:
        The tables, and the fixed candidates: ``user_id``, ``item_id`` string (the test item),
        ``negatives`` list of string, one row a test row.
    """
    prefixes = [p.name.split(".train.rating")[0] for p in sorted(folder.glob("*.train.rating*"))]
    prefix = f"{prefixes[0]}." if prefixes else ""
    train = _ratings(find_file(folder, f"{prefix}train.rating"), quarantine)
    test = _ratings(find_file(folder, f"{prefix}test.rating"), quarantine)
    negatives = _negatives(find_file(folder, f"{prefix}test.negative"), quarantine)
    n_train = train.num_rows
    both = pa.concat_tables([train, test])
    users, items = _ids_only(both, USER_ID), _ids_only(both, ITEM_ID)
    published = _published(folder, quarantine)
    if published is not None:
        users, items = published.users, published.items
        if _has_no_times(train):
            both = _with_times(both, published.interactions)
    elif _has_no_times(train):
        both = _set_times(both, _positions(both.column(USER_ID)))
    return Tables(_test_last(both, n_train), users, items), negatives


def _ratings(path: Path, quarantine: Quarantine) -> pa.Table:
    """Events of one file of three or four columns; without times they are 0."""
    with open_bytes(path) as stream:
        n_columns = stream.readline().count(b"	") + 1
    if n_columns not in (3, 4):
        raise DataError(
            f"{path}: a rating file of NCF has 3 or 4 columns (user, item, rating, time), tab "
            f"separated; got {n_columns}"
        )
    names = ("user_id", "item_id", "weight", "timestamp")[:n_columns]
    table = TableMap(file=path.name, columns={n: n for n in names}, **_FILE)  # type: ignore[arg-type]
    events, _ = read_interactions(
        path, table, FeatureTable(), quarantine, names=names, event=_EVENT
    )
    return events if n_columns == 4 else _set_times(events, np.zeros(events.num_rows, np.int64))


def _negatives(path: Path, quarantine: Quarantine) -> pa.Table:
    """``(user,item)`` and the negatives of each test row."""
    keys, lists = [], []
    for block in read_text(path, Layout(**_FILE), None, quarantine):  # type: ignore[arg-type]
        keys.append(block.table.column(0).combine_chunks())
        rest = [block.table.column(i).combine_chunks() for i in range(1, block.table.num_columns)]
        offsets = pa.array(np.arange(block.table.num_rows + 1) * len(rest), pa.int32())
        order = np.arange(len(rest) * block.table.num_rows).reshape(len(rest), -1).T.ravel()
        lists.append(
            pa.ListArray.from_arrays(offsets, pa.concat_arrays(rest).take(pa.array(order)))
        )
    key = pc.extract_regex(pa.chunked_array(keys), r"^\((?P<user>[^,]+),(?P<item>[^,)]+)\)$")
    wrong = key.null_count
    if wrong:
        raise DataError(
            f"{path}: a row begins with (user,item); got {wrong} rows that do not; is this NCF's "
            f"test.negative?"
        )
    return pa.table(
        {
            USER_ID: pc.struct_field(key, "user"),
            ITEM_ID: pc.struct_field(key, "item"),
            "negatives": pa.chunked_array(lists),
        }
    )


def _published(folder: Path, quarantine: Quarantine) -> Tables | None:
    """ml-1m as published, in NCF's ids, or None where it is not beside."""
    above = folder.parent
    if not (folder / "item_map.csv").is_file() or not (above / "ratings.dat").is_file():
        return None
    tables = read_movielens_1m(above, quarantine)
    block = list(read_text(folder / "item_map.csv", Layout(), ("ncf", "movie"), quarantine))
    mapping = pa.concat_tables([b.table for b in block]).combine_chunks()
    movie, ncf = mapping.column("movie").combine_chunks(), mapping.column("ncf").combine_chunks()

    def items(table: pa.Table) -> pa.Table:
        known = table.filter(pc.is_in(table.column(ITEM_ID), movie))
        ids = ncf.take(pc.index_in(known.column(ITEM_ID), movie))
        return known.set_column(known.column_names.index(ITEM_ID), ITEM_ID, ids)

    def users(table: pa.Table) -> pa.Table:
        # NCF numbers users from 0 in the order of ml-1m's own numbers, which run from 1.
        ids = pc.subtract(table.column(USER_ID).cast(pa.int64()), 1).cast(pa.string())
        return table.set_column(table.column_names.index(USER_ID), USER_ID, ids)

    return Tables(items(users(tables.interactions)), users(tables.users), items(tables.items))


def _with_times(events: pa.Table, published: pa.Table) -> pa.Table:
    """Times of the same user and item in the published ratings."""

    def keys(table: pa.Table) -> pa.Array:
        pairs = pc.binary_join_element_wise(table.column(USER_ID), table.column(ITEM_ID), " ")
        return pairs.combine_chunks()

    at = pc.index_in(keys(events), keys(published))
    if at.null_count:
        raise DataError(
            f"every rating of NCF's files is one of ml-1m's; {at.null_count} are not; remove "
            f"item_map.csv, or put the right one there"
        )
    times = published.column(TIMESTAMP).combine_chunks().take(at)
    return _set_times(events, times.to_numpy())


def _test_last(events: pa.Table, n_train: int) -> pa.Table:
    """Raises each test time to its user's latest training time, so that file order decides."""
    codes = events.column(USER_ID).combine_chunks().dictionary_encode().indices.to_numpy()
    times = events.column(TIMESTAMP).to_numpy().copy()
    latest = np.zeros(codes.max() + 1, np.int64)
    np.maximum.at(latest, codes[:n_train], times[:n_train])
    times[n_train:] = np.maximum(times[n_train:], latest[codes[n_train:]])
    return _set_times(events, times)


def _positions(users: pa.ChunkedArray) -> np.ndarray:
    """The position of each row within its user, int64 [row]."""
    codes = users.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes))[:-1]])
    positions = np.empty(len(codes), np.int64)
    positions[order] = np.arange(len(codes)) - starts[codes[order]]
    return positions


def _has_no_times(events: pa.Table) -> bool:
    return pc.max(events.column(TIMESTAMP)).as_py() == 0


def _set_times(events: pa.Table, times: np.ndarray) -> pa.Table:
    at = events.column_names.index(TIMESTAMP)
    return events.set_column(at, TIMESTAMP, pa.array(times, pa.int64()))


def _ids_only(events: pa.Table, key: str) -> pa.Table:
    return pa.table({key: pc.unique(events.column(key))})
