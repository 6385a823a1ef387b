"""From the pipeline's transformed examples to the arrays that every model trains on.

Reads in blocks and columns; no Python per row. The events of the three evaluation splits come from
their rows, the users' features from any row of the user, the catalogue from the split ``items``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.data.objectives import OBSERVED, PREFIX
from tfrec.features.encode import decode_prepared
from tfrec.features.encoder import Encoder, TransformEncoder, parse_examples
from tfrec.features.fit import by_index
from tfrec.features.image_prepare import image_features
from tfrec.schema import ITEM_ID, LABEL, TIMESTAMP, USER_ID, WEIGHT, Feature, FeatureTable

LOG_ORDER = "log_order"  # int64, position in the log: orders events of equal time
BLOCK = 16_384

Columns = dict[str, np.ndarray]


def split_files(examples: str | Path, split: str) -> list[str]:
    """Files of one split of an Examples artifact, in order.

    Raises:
        ValueError: there are none.
    """
    folder = Path(examples) / f"Split-{split}"
    files = sorted(str(p) for p in folder.glob("*") if p.is_file())
    if not files:
        raise ValueError(f"{folder}: a split holds at least one file; got none; run the pipeline")
    return files


def read_records(files: Sequence[str], batch: int = BLOCK) -> tf.data.Dataset:
    """Serialized examples, string [batch]; gzipped where the name ends in ``.gz``."""
    compression = "GZIP" if files[0].endswith(".gz") else ""
    records = tf.data.TFRecordDataset(list(files), compression, num_parallel_reads=1)
    return records.batch(batch)


def blocks(files: Sequence[str], spec: Mapping[str, Any]) -> Iterator[Columns]:
    """Parsed columns, each [batch, ...]."""
    parsed = read_records(files).map(
        lambda serialized: tf.io.parse_example(serialized, spec), num_parallel_calls=2
    )
    for columns in parsed.prefetch(2):
        yield {name: values.numpy() for name, values in columns.items()}


def _encoded_names(features: Sequence[Feature], spec: Mapping[str, Any]) -> list[str]:
    """Columns that encode these features: themselves and the buckets of numbers."""
    names = [f.name for f in features] + [f"{f.name}_bucket" for f in features]
    return [name for name in names if name in spec]


def _with_images(columns: Columns, features: FeatureTable) -> Columns:
    """The catalogue with prepared images as arrays; see ``decode_prepared``."""
    for feature in image_features(features):
        if feature.name in columns:
            decoded = decode_prepared(feature, tf.constant(columns[feature.name], tf.string))
            columns |= {name: values.numpy() for name, values in decoded.items()}
    return columns


class _Users:
    """Features of users, gathered from the rows that pass by; any row of a user has them."""

    def __init__(self, names: Sequence[str], size: int) -> None:
        self._names, self._size = names, size
        self._rows: list[Columns] = []

    def add(self, columns: Columns) -> None:
        _, first = np.unique(columns[USER_ID], return_index=True)
        self._rows.append({name: columns[name][first] for name in (*self._names, USER_ID)})

    def arrays(self) -> Columns:
        joined = _joined(self._rows)
        index = joined[USER_ID]
        laid = by_index({name: joined[name] for name in self._names}, index, self._size)
        laid[USER_ID] = np.arange(self._size, dtype=np.int64)
        return laid


def _joined(rows: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}


def _events(columns: Columns, context: Sequence[str], encoder: Encoder) -> Interactions:
    """Events whose user and item the vocabularies know, by user, time and place in the log."""
    n_users = len(encoder.vocabulary(USER_ID)) - 1
    n_items = len(encoder.vocabulary(ITEM_ID)) - 1
    user, item = columns[USER_ID], columns[ITEM_ID]
    known = (user >= 1) & (user <= n_users) & (item >= 1) & (item <= n_items)
    kept = np.flatnonzero(known)
    kept = kept[np.argsort(columns[LOG_ORDER][kept], kind="stable")]
    return Interactions.from_arrays(
        user[kept],
        item[kept],
        n_users,
        n_items,
        columns[TIMESTAMP][kept],
        columns[WEIGHT][kept],
        {name: columns[name][kept] for name in context},
        {
            name.removeprefix(PREFIX): values[kept]
            for name, values in columns.items()
            if name.startswith(PREFIX)
        },
    )


def load_transformed(
    examples: str | Path,
    transform_output: str | Path,
    features: FeatureTable,
    *,
    history_length: int,
    sampled_negatives: bool,
) -> tuple[RetrievalData, TransformEncoder]:
    """Reads the splits ``train``, ``eval``, ``test`` and ``items``.

    Args:
        examples: folder of the transformed examples.
        transform_output: folder of the transform graph.
        features: the feature table that both were made with.
        history_length: H of the column ``history``; the arrays make histories of their own.
        sampled_negatives: True where rows with label 0 are sampled items that nobody had (ranking
            label ``purchase``); they are no events. Rows of objectives say so themselves.

    Returns:
        The encoded data, and the encoder that exports carry.

    Raises:
        ValueError: a split is missing.
    """
    import tensorflow_transform as tft

    encoder = TransformEncoder(str(transform_output), features, history_length)
    spec = dict(tft.TFTransformOutput(str(transform_output)).transformed_feature_spec())
    context = _encoded_names(features.of("context"), spec)
    user_names = _encoded_names(features.of("user", ids=False), spec)
    item_names = _encoded_names(features.of("item"), spec)
    labels = [name for name in spec if name.startswith(PREFIX)]
    observed = [OBSERVED] if labels else []
    event_names = (
        *(USER_ID, ITEM_ID, WEIGHT, TIMESTAMP, LABEL, LOG_ORDER),
        *context,
        *labels,
        *observed,
    )

    users = _Users(user_names, encoder.sizes[USER_ID])
    events: dict[str, Interactions] = {}
    for split in ("train", "eval", "test"):
        wanted = {name: spec[name] for name in (*event_names, *user_names)}
        rows: list[Columns] = []
        for columns in blocks(split_files(examples, split), wanted):
            users.add(columns)
            real: slice | np.ndarray = slice(None)
            if sampled_negatives:
                real = columns[OBSERVED if labels else LABEL] > 0
            rows.append({name: columns[name][real] for name in event_names})
        events[split] = _events(_joined(rows), context, encoder)

    wanted = {name: spec[name] for name in item_names}
    found = blocks(split_files(examples, "items"), wanted)
    catalogue = _joined([_with_images(columns, features) for columns in found])
    items = by_index(catalogue, catalogue[ITEM_ID], encoder.sizes[ITEM_ID])
    items[ITEM_ID] = np.arange(encoder.sizes[ITEM_ID], dtype=np.int64)
    data = RetrievalData(
        train=events["train"],
        validation=events["eval"],
        test=events["test"],
        users=users.arrays(),
        items=items,
        features=features,
        sizes=dict(encoder.sizes),
        user_ids=encoder.vocabulary(USER_ID),
        item_ids=encoder.vocabulary(ITEM_ID),
    )
    return data, encoder


def read_raw_events(
    examples: str | Path,
    split: str,
    features: FeatureTable,
    data: RetrievalData,
    events: Interactions,
) -> pa.Table:
    """Raw user and context features of a split's events, as ExampleGen wrote them.

    Args:
        examples: folder of the raw examples (of ExampleGen).
        split: which one to read.
        features: the feature table.
        data: supplies the ids by index.
        events: the split as ``load_transformed`` encoded it; rows of other pairs (sampled items
            that nobody had, ids that the vocabularies lack) are left out.

    Returns:
        One row an event, in the order of time and log: ``user_id``, ``item_id`` string,
        ``timestamp`` int64 and the features, binary, float, or lists of them.
    """
    wanted = (*features.of("user", ids=False), *features.of("context"))
    single = {name: tf.io.FixedLenFeature([], tf.string) for name in (USER_ID, ITEM_ID)}
    single |= {name: tf.io.FixedLenFeature([], tf.int64) for name in (TIMESTAMP, LOG_ORDER)}
    known = {USER_ID: _binary(data.user_ids), ITEM_ID: _binary(data.item_ids)}
    width = data.n_items + 1
    pairs = np.unique(events.user.astype(np.int64) * width + events.item)
    parts = []
    for serialized in read_records(split_files(examples, split)):
        keys = {k: v.numpy() for k, v in tf.io.parse_example(serialized, single).items()}
        user, item = (_places(keys[name], known[name]) for name in (USER_ID, ITEM_ID))
        kept = np.flatnonzero(np.isin(user * width + item, pairs))
        columns = {name: values[kept] for name, values in keys.items()}
        if wanted:
            parsed = parse_examples(tf.gather(serialized, kept), wanted, False)
            columns |= {name: values.numpy() for name, values in parsed.items()}
        parts.append(pa.table({name: _arrow(values) for name, values in columns.items()}))
    table = pa.concat_tables(parts).sort_by([(TIMESTAMP, "ascending"), (LOG_ORDER, "ascending")])
    return table.drop_columns([LOG_ORDER])


def _binary(ids: np.ndarray) -> pa.Array:
    return pa.array([str(i) for i in ids], pa.string()).cast(pa.binary())


def _places(values: np.ndarray, known: pa.Array) -> np.ndarray:
    """Positions of bytes [row] among known ones, int64; 0 where unknown."""
    found = pc.fill_null(pc.index_in(pa.array(values, pa.binary()), known), 0)
    return found.to_numpy(zero_copy_only=False).astype(np.int64)


def _arrow(values: np.ndarray) -> pa.Array:
    """A column of numbers or bytes, [row] or [row, n]."""
    flat = pa.array(values.ravel(), pa.binary() if values.dtype == object else None)
    if values.ndim == 1:
        return flat
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), flat)
