"""From canonical tables to encoded data without Beam: the notebook's and the benchmark's way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrec.config.objectives import Objectives
from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.data.objectives import row_labels
from tfrec.features.encoder import Encoder, FittedEncoder
from tfrec.features.fitted import (
    count_values,
    number_statistics,
    order_vocabulary,
    save_statistics,
)
from tfrec.features.text import tokens
from tfrec.schema import ITEM_ID, TIMESTAMP, USER_ID, WEIGHT, Feature, FeatureTable, Role

BLOCK = 65_536  # rows encoded at a time


def arrow_column(table: pa.Table, feature: Feature) -> np.ndarray | tf.Tensor:
    """One raw column as ``encode`` takes it: strings with '' for null, float32 with NaN, lists."""
    column = table.column(feature.name).combine_chunks()
    if feature.kind == "numeric":
        return pc.cast(column, pa.float32()).to_numpy(zero_copy_only=False).astype(np.float32)
    if feature.kind == "image":
        return _prepared(column, feature)
    if feature.kind == "embedding":
        filled = [row if row is not None else [0.0] * feature.dim for row in column.to_pylist()]
        return np.asarray(filled, np.float32).reshape(len(filled), feature.dim)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        flat = pc.fill_null(pc.cast(pc.list_flatten(column), pa.string()), "")
        values = np.asarray(flat.to_pylist(), dtype=object)
        return tf.RaggedTensor.from_row_lengths(
            tf.constant(values, tf.string), lengths.astype(np.int64)
        )
    text = pc.fill_null(pc.cast(column, pa.string()), "")
    return np.asarray(text.to_pylist(), dtype=object)


def _prepared(column: pa.Array, feature: Feature) -> np.ndarray:
    """Prepared images, bytes [row]; b'' where there is none."""
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise ValueError(f"feature {feature.name!r} (kind image) is bytes; got {column.type}")
    column = pc.fill_null(column, b"")
    lengths = pc.binary_length(column).to_numpy(zero_copy_only=False)
    wrong = (lengths != 0) & (lengths != feature.image_bytes)
    if wrong.any():
        raise ValueError(
            f"feature {feature.name!r}: a prepared image has {feature.image_bytes} bytes; got one "
            f"of {int(lengths[wrong][0])}; call tfrec.features.image_prepare.prepare_items first"
        )
    return np.asarray(column.to_pylist(), dtype=object)


def encode_table(
    table: pa.Table, features: tuple[Feature, ...], encoder: Encoder
) -> dict[str, np.ndarray]:
    """Encodes the rows of an Arrow table in blocks; columns the table lacks are left out."""
    known = [f for f in features if f.name in table.column_names]
    blocks: list[dict[str, np.ndarray]] = []
    for start in range(0, max(table.num_rows, 1), BLOCK):
        part = table.slice(start, BLOCK)
        raw = {f.name: _tensor(arrow_column(part, f)) for f in known}
        blocks.append({name: t.numpy() for name, t in encoder(raw).items()})
    return {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}


def _tensor(values: Any) -> Any:
    if isinstance(values, tf.RaggedTensor):
        return values
    return tf.constant(values, tf.string if values.dtype == object else tf.float32)


def _counts(table: pa.Table, feature: Feature) -> Counter[str]:
    values = arrow_column(table, feature)
    if isinstance(values, tf.RaggedTensor):
        flat = values.flat_values.numpy()
        return Counter(count_values(pa.array([v.decode() for v in flat], pa.string())))
    if feature.kind == "text":
        counts: Counter[str] = Counter()
        for start in range(0, len(values), BLOCK):
            cut = tokens(tf.constant(values[start : start + BLOCK], tf.string), feature)
            strings = pa.array(cut.numpy().ravel(), pa.binary()).cast(pa.string())
            counts.update(count_values(strings))
        return counts
    strings = pa.array(list(values), pa.string())
    if feature.separator is not None:
        # Trimmed, and nothing between two separators is no value: as the encoding cuts them.
        parts = pc.list_flatten(pc.split_pattern(strings, feature.separator))
        parts = pc.ascii_trim_whitespace(parts)
        strings = parts.filter(pc.not_equal(parts, ""))
    return Counter(count_values(strings))


def fit_encoder(
    interactions: pa.Table,
    users: pa.Table,
    items: pa.Table,
    features: FeatureTable,
    folder: str | Path,
    history_length: int,
) -> FittedEncoder:
    """Finds vocabularies and moments and returns the encoder over them.

    Args:
        interactions: *training* events only: their ids order the vocabularies, their context
            columns are counted.
        users, items: attribute tables; every item and user in them is known to the vocabulary.
        features: the feature table.
        folder: statistics are written here; the encoder reads them (its exports copy them).
        history_length: H.
    """
    tables: Mapping[Role, pa.Table] = {"user": users, "item": items, "context": interactions}
    vocabularies: dict[str, list[str]] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for feature in features:
        counts = _counts(interactions, feature) if feature.kind == "id" else Counter()
        _find(tables[feature.role], feature, counts, vocabularies, numbers)
    save_statistics(folder, vocabularies, numbers)
    return FittedEncoder(folder, features, history_length)


def fit_row_encoder(table: pa.Table, features: FeatureTable, folder: str | Path) -> FittedEncoder:
    """As ``fit_encoder`` for one table of plain rows, which have neither user nor item.

    Args:
        table: *training* rows.
        features: its columns, of any role; the vocabularies of the two ids are empty.
        folder: statistics are written here.
    """
    vocabularies: dict[str, list[str]] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for feature in features:
        if feature.kind == "id":
            vocabularies[feature.name] = []
        else:
            _find(table, feature, Counter(), vocabularies, numbers)
    save_statistics(folder, vocabularies, numbers)
    return FittedEncoder(folder, features, 0)


def _find(
    table: pa.Table,
    feature: Feature,
    counts: Counter[str],
    vocabularies: dict[str, list[str]],
    numbers: dict[str, dict[str, Any]],
) -> None:
    """Adds the vocabulary or the moments of one column; ``counts`` come on top of its own."""
    if feature.name not in table.column_names:
        raise ValueError(
            f"feature {feature.name!r} (role {feature.role}) is no column of the "
            f"{feature.role} table, which has {table.column_names}; mend 'features' or the data"
        )
    if feature.shares is not None:
        return
    if feature.is_lookup:
        counted = _counts(table, feature) + counts
        vocabularies[feature.name] = order_vocabulary(counted, feature)
    elif feature.kind == "numeric":
        values = arrow_column(table, feature)
        if feature.transform == "log":
            values = np.log1p(np.maximum(values, 0))
        numbers[feature.name] = number_statistics(values, feature.buckets)


def by_index(
    encoded: Mapping[str, np.ndarray], index: np.ndarray, size: int
) -> dict[str, np.ndarray]:
    """Attribute rows laid out by id index: row ``i`` of each array belongs to index ``i``.

    Args:
        encoded: encoded columns, each [row, ...].
        index: int [row], the id index of each row.
        size: rows of the result; indices without a row stay 0 (missing).
    """
    out = {}
    for name, values in encoded.items():
        laid = np.zeros((size, *values.shape[1:]), values.dtype)
        laid[index] = values
        laid[0] = 0
        out[name] = laid
    return out


def encode_interactions(
    table: pa.Table, encoder: Encoder, labels: Mapping[str, np.ndarray] | None = None
) -> Interactions:
    """Encodes events; those whose user or item is unknown to the vocabulary are left out.

    Args:
        table: canonical interactions.
        encoder: of ids and context features.
        labels: of the events by objective, float32 [event].
    """
    features = encoder.features
    encoded = encode_table(table, (*features.of("context"), *_ids(features)), encoder)
    n_users = len(encoder.vocabulary(USER_ID)) - 1
    n_items = len(encoder.vocabulary(ITEM_ID)) - 1
    user, item = encoded.pop(USER_ID), encoded.pop(ITEM_ID)
    known = (user >= 1) & (user <= n_users) & (item >= 1) & (item <= n_items)
    weight = table.column(WEIGHT).to_numpy() if WEIGHT in table.column_names else None
    return Interactions.from_arrays(
        user[known],
        item[known],
        n_users,
        n_items,
        table.column(TIMESTAMP).to_numpy()[known],
        None if weight is None else weight[known],
        {name: values[known] for name, values in encoded.items()},
        {name: values[known] for name, values in (labels or {}).items()},
    )


def _ids(features: FeatureTable) -> tuple[Feature, Feature]:
    return features[USER_ID], features[ITEM_ID]


def retrieval_data(
    splits: Mapping[str, pa.Table],
    users: pa.Table,
    items: pa.Table,
    encoder: Encoder,
    objectives: Objectives | None = None,
    window: int = 0,
) -> RetrievalData:
    """Encodes canonical tables.

    Args:
        splits: interactions of ``train``, ``eval`` and ``test``.
        users, items: attribute tables.
        encoder: fitted on the train split.
        objectives, window: of ``ranking``; where given, events carry their labels.
    """
    features = encoder.features

    def events(split: str) -> Interactions:
        labels = row_labels(splits[split], items, objectives, window) if objectives else None
        return encode_interactions(splits[split], encoder, labels)

    def attributes(table: pa.Table, role: Role, id_name: str) -> dict[str, np.ndarray]:
        encoded = encode_table(table, features.of(role), encoder)
        return by_index(encoded, encoded[id_name], encoder.sizes[id_name])

    user_rows = attributes(users, "user", USER_ID)
    item_rows = attributes(items, "item", ITEM_ID)
    for rows, name in ((user_rows, USER_ID), (item_rows, ITEM_ID)):
        rows[name] = np.arange(encoder.sizes[name], dtype=np.int64)
    return RetrievalData(
        train=events("train"),
        validation=events("eval"),
        test=events("test"),
        users=user_rows,
        items=item_rows,
        features=features,
        sizes=dict(encoder.sizes),
        user_ids=encoder.vocabulary(USER_ID),
        item_ids=encoder.vocabulary(ITEM_ID),
    )
