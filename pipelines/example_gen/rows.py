"""Joined rows out of canonical tables: point-in-time history, attributes, labels, negatives.

Pure Arrow and NumPy: a block of events of some users in, record batches of rows out. One call sees
*all* events of the users it is given.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import RankingConfig
from tfrec.config.objectives import primary_of
from tfrec.data.objectives import OBSERVED, column_of, objective_labels, unobserved_label
from tfrec.schema import (
    HISTORY,
    ITEM_ID,
    LABEL,
    TIMESTAMP,
    USER_ID,
    WEIGHT,
    Feature,
    FeatureTable,
)

SPLIT = "split"
ORDER = "log_order"  # position in the log: events of equal time keep it
SPLITS = ("train", "eval", "test")
ITEMS = "items"


@dataclass(frozen=True)
class RowPlan:
    """What a row holds.

    Attributes:
        features: the feature table.
        ranking: label, negatives and history length.
        seed: of the sampled negatives.
    """

    features: FeatureTable
    ranking: RankingConfig
    seed: int = 0


def stable_hash(ids: pa.Array | pa.ChunkedArray, buckets: int) -> np.ndarray:
    """Bucket of each id, int64 [row], the same in every process; one hash a distinct id."""
    coded = _combined(ids).dictionary_encode()
    values = coded.dictionary.to_pylist()
    hashed = np.fromiter((zlib.crc32(v.encode()) for v in values), np.int64, len(values))
    return hashed[coded.indices.to_numpy()] % buckets


def raw_column(table: pa.Table, feature: Feature) -> pa.Array:
    """One feature as its example holds it; missing values are '', NaN or an empty list.

    Returns:
        list<string> or list<float32> [row]: one value a row for scalars.
    """
    if feature.name not in table.column_names:
        return missing(feature, table.num_rows)
    column = _combined(table.column(feature.name))
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if feature.kind == "numeric":
        return _single(pc.fill_null(pc.cast(column, pa.float32()), float("nan")))
    if feature.kind == "embedding":
        return _vectors(column, feature)
    if feature.kind == "image":
        return _single(pc.fill_null(pc.cast(column, pa.binary()), b""))
    if is_list:
        values = pc.fill_null(pc.cast(pc.list_flatten(column), pa.string()), "")
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        return _lists(lengths, values)
    return _single(pc.fill_null(pc.cast(column, pa.string()), ""))


def missing(feature: Feature, rows: int) -> pa.Array:
    """A column in which no row has the value; see ``raw_column``."""
    if feature.kind == "numeric":
        return _single(pa.array(np.full(rows, np.nan, np.float32)))
    if feature.kind == "embedding":
        flat = np.full(rows * feature.dim, np.nan, np.float32)
        return _lists(np.full(rows, feature.dim), pa.array(flat))
    if feature.kind == "image":
        return _single(pa.repeat(pa.scalar(b"", pa.binary()), rows))
    if feature.kind == "multi":
        return _lists(np.zeros(rows, np.int64), pa.array([], pa.string()))
    return _single(pa.repeat("", rows))


def _vectors(column: pa.Array, feature: Feature) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    wrong = (lengths != feature.dim) & (lengths != 0)
    if wrong.any():
        raise ValueError(
            f"feature {feature.name!r} holds {feature.dim} numbers a row; got a row of "
            f"{int(lengths[wrong][0])}; mend 'dim' or the column"
        )
    out = np.full((len(lengths), feature.dim), np.nan, np.float32)
    flat = pc.cast(pc.list_flatten(column), pa.float32()).to_numpy(zero_copy_only=False)
    out[lengths > 0] = flat.reshape(-1, feature.dim)
    return _lists(np.full(len(lengths), feature.dim), pa.array(out.ravel()))


def _combined(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # several chunks only past 2 GiB of text
        column = pa.concat_arrays(column.chunks)
    return column


def _lists(lengths: np.ndarray, values: pa.Array) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _single(values: pa.Array) -> pa.Array:
    return _lists(np.ones(len(values), np.int64), values)


def history_bounds(
    user: np.ndarray, timestamp: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where the strictly earlier events of each event lie.

    Args:
        user, timestamp: int64 [event], sorted by user, then time.
        length: most events taken.

    Returns:
        start, stop: int64 [event]; ``events[start:stop]`` are the last ``length`` events of the
        same user with a smaller time, oldest first.
    """
    n = len(user)
    at = np.arange(n)
    new_user = np.ones(n, bool)
    new_user[1:] = user[1:] != user[:-1]
    new_time = new_user.copy()
    new_time[1:] |= timestamp[1:] != timestamp[:-1]
    first = np.maximum.accumulate(np.where(new_user, at, 0))
    stop = np.maximum.accumulate(np.where(new_time, at, 0))
    return np.maximum(first, stop - length), stop


def gather_lists(start: np.ndarray, stop: np.ndarray, values: pa.Array) -> pa.Array:
    """list<value> [row] of ``values[start:stop]`` of each row."""
    lengths = stop - start
    ends = np.cumsum(lengths)
    flat = np.arange(int(ends[-1]) if len(ends) else 0)
    flat = flat + np.repeat(start - (ends - lengths), lengths)
    return _lists(lengths, values.take(pa.array(flat)))


def labels(weight: np.ndarray, ranking: RankingConfig) -> np.ndarray:
    """Label of observed events, float32 [event]; see ``RankingConfig.label``."""
    if ranking.label == "purchase":
        return np.ones(len(weight), np.float32)
    if ranking.task == "rating":
        return weight.astype(np.float32)
    return (weight >= ranking.threshold).astype(np.float32)


@dataclass(frozen=True)
class Labels:
    """Labels of rows.

    Attributes:
        label: float32 [row], the label that the gate measures.
        more: further columns by name, float32 [row]: those of a multi-task ranker.
    """

    label: np.ndarray
    more: dict[str, np.ndarray]

    def take(self, at: np.ndarray) -> Labels:
        """The labels at some positions."""
        return Labels(self.label[at], {name: values[at] for name, values in self.more.items()})


def event_labels(events: pa.Table, items: pa.Table, ranking: RankingConfig) -> Labels:
    """Labels of events of all splits; with objectives the primary's, and a column for each.

    All events of an encounter have its primary label; its objectives stand at its first event.
    """
    if not ranking.objectives:
        return Labels(labels(events.column(WEIGHT).to_numpy(), ranking), {})
    split = pc.index_in(_combined(events.column(SPLIT)), pa.array(SPLITS))
    found, first = objective_labels(
        events, items, ranking.objectives, ranking.window, split.to_numpy(zero_copy_only=False)
    )
    label = found[primary_of(ranking.objectives, ranking.primary)]
    nan = np.float32(np.nan)
    more = {column_of(name): np.where(first, each, nan) for name, each in found.items()}
    return Labels(label, {**more, OBSERVED: np.ones(len(label), np.float32)})


def unseen_labels(rows: int, ranking: RankingConfig) -> Labels:
    """Labels of sampled items that nobody had."""
    zeros = np.zeros(rows, np.float32)
    if not ranking.objectives:
        return Labels(zeros, {})
    nothing = unobserved_label(ranking.objectives)
    names = [column_of(name) for name in ranking.objectives]
    more = {name: np.full(rows, value) for name, value in zip(names, nothing, strict=True)}
    return Labels(zeros, {**more, OBSERVED: zeros})


def sample_unseen(
    user: np.ndarray, item: np.ndarray, rows: np.ndarray, n_items: int, each: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Items that the user of a row never had, uniform over the catalogue.

    Args:
        user, item: int64 [event], all events of these users; items 0..n_items - 1, or n_items
            where the catalogue lacks the item.
        rows: int64 [row], positions of events to sample for.
        n_items: size of the catalogue.
        each: items sampled a row.
        seed: of the draw.

    Returns:
        rows, items: int64 [<= row * each]; draws that after 20 tries still hit a seen item (the
        user had almost all of the catalogue) are left out.
    """
    random = np.random.default_rng(seed)
    width = n_items + 1
    seen = np.unique(user * width + item)
    rows = np.repeat(rows, each)
    drawn = random.integers(0, n_items, len(rows))
    bad = np.arange(len(rows))
    for _ in range(20):
        code = user[rows[bad]] * width + drawn[bad]
        at = np.minimum(np.searchsorted(seen, code), len(seen) - 1)
        bad = bad[seen[at] == code]
        if not len(bad):
            break
        drawn[bad] = random.integers(0, n_items, len(bad))
    code = user[rows] * width + drawn
    at = np.minimum(np.searchsorted(seen, code), len(seen) - 1)
    kept = seen[at] != code
    return rows[kept], drawn[kept]


def joined_rows(
    events: pa.Table, users: pa.Table, items: pa.Table, plan: RowPlan
) -> Iterable[tuple[str, pa.Table]]:
    """All rows of some users, by split.

    Args:
        events: canonical interactions with ``split`` and ``log_order``: every event of these users.
        users, items: attribute tables.
        plan: what a row holds.

    Yields:
        split and its table of list columns: ids, attributes, context, ``history``, ``weight``,
        ``timestamp``, ``label``, ``log_order`` and, with objectives, a column for each and
        ``observed``. Evaluation splits get ``ranking.negatives`` unseen
        items for each event where the label is ``purchase``; training draws its own, new in each
        epoch.
    """
    events = events.combine_chunks().sort_by(
        [(USER_ID, "ascending"), (TIMESTAMP, "ascending"), (ORDER, "ascending")]
    )
    user_ids, item_ids = _combined(events.column(USER_ID)), _combined(events.column(ITEM_ID))
    user = user_ids.dictionary_encode().indices.to_numpy().astype(np.int64)
    time = events.column(TIMESTAMP).to_numpy()
    weight = events.column(WEIGHT).to_numpy()
    bounds = history_bounds(user, time, plan.ranking.history_length)
    user_row = pc.index_in(user_ids, _combined(users.column(USER_ID)))
    item_row = pc.index_in(item_ids, _combined(items.column(ITEM_ID)))
    label = event_labels(events, items, plan.ranking)
    split, order = _combined(events.column(SPLIT)), _combined(events.column(ORDER))

    def table(
        at: np.ndarray, item_row: pa.Array, ids: pa.Array, label: Labels, w: np.ndarray
    ) -> pa.Table:
        taken = pa.array(at)
        context = events.select(
            [f.name for f in plan.features.of("context") if f.name in events.column_names]
        ).take(taken)
        columns: dict[str, pa.Array] = {}
        for feature in plan.features:
            if feature.name == USER_ID:
                columns[USER_ID] = _single(user_ids.take(taken))
            elif feature.name == ITEM_ID:
                columns[ITEM_ID] = _single(ids)
            elif feature.role == "user":
                columns[feature.name] = raw_column(
                    users.select([feature.name]).take(user_row.take(taken)), feature
                )
            elif feature.kind == "image":
                # Only the split ``items`` holds images; everybody takes them from there.
                columns[feature.name] = missing(feature, len(at))
            elif feature.role == "item":
                columns[feature.name] = raw_column(
                    items.select([feature.name]).take(item_row), feature
                )
            else:
                columns[feature.name] = raw_column(context, feature)
        if plan.ranking.history_length:
            columns[HISTORY] = gather_lists(bounds[0][at], bounds[1][at], item_ids)
        columns[WEIGHT] = _single(pa.array(w.astype(np.float32)))
        columns[TIMESTAMP] = _single(pa.array(time[at]))
        for name, values in {LABEL: label.label, **label.more}.items():
            columns[name] = _single(pa.array(values))
        columns[ORDER] = _single(order.take(taken))
        return pa.table(columns)

    for name in SPLITS:
        at = np.flatnonzero(pc.equal(split, name).to_numpy(zero_copy_only=False))
        if not len(at):
            continue
        taken = pa.array(at)
        yield (
            name,
            table(at, item_row.take(taken), item_ids.take(taken), label.take(at), weight[at]),
        )
        if plan.ranking.samples_negatives and name != "train":
            known = pc.fill_null(item_row, items.num_rows).to_numpy(zero_copy_only=False)
            rows, drawn = sample_unseen(
                user, known.astype(np.int64), at, items.num_rows, plan.ranking.negatives, plan.seed
            )
            ids = _combined(items.column(ITEM_ID)).take(pa.array(drawn))
            nothing = unseen_labels(len(rows), plan.ranking)
            yield name, table(rows, pa.array(drawn), ids, nothing, np.zeros(len(rows), np.float32))


def item_rows(items: pa.Table, plan: RowPlan) -> pa.Table:
    """One row a catalogue item; what belongs to an event or a user is missing."""
    columns: dict[str, pa.Array] = {}
    for feature in plan.features:
        if feature.role == "item":
            columns[feature.name] = raw_column(items, feature)
        else:
            columns[feature.name] = missing(feature, items.num_rows)
    if plan.ranking.history_length:
        none = np.zeros(items.num_rows, np.int64)
        columns[HISTORY] = _lists(none, pa.array([], pa.string()))
    zeros = np.zeros(items.num_rows)
    columns[WEIGHT] = _single(pa.array(zeros.astype(np.float32)))
    columns[TIMESTAMP] = _single(pa.array(zeros.astype(np.int64)))
    nothing = unseen_labels(items.num_rows, plan.ranking)
    for name, values in {LABEL: nothing.label, **nothing.more}.items():
        columns[name] = _single(pa.array(values))
    columns[ORDER] = _single(pa.array(zeros.astype(np.int64)))
    return pa.table(columns)
