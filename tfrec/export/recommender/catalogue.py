"""What the recommender knows of items: ids, titles, numbers, groups, popularity, by index.

Index 0 is no item; 1..n follow the retrieval model's catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrec.config import UtilityConfig
from tfrec.export.raw import string_table
from tfrec.schema import ITEM_ID, FeatureTable


class Groups(tf.Module):
    """Values of one item feature by item.

    Args:
        name: of the feature.
        values: one list of texts an item, n of them.
    """

    def __init__(self, name: str, values: Sequence[Sequence[str]]) -> None:
        super().__init__(name=f"groups_{name}")
        distinct = sorted({v for row in values for v in row if v})
        code = {value: i for i, value in enumerate(distinct, 1)}
        width = max((len(set(row)) for row in values), default=0) or 1
        codes = np.zeros((len(values) + 1, width), np.int32)
        for place, row in enumerate(values, 1):
            own = [code[v] for v in dict.fromkeys(row) if v]
            codes[place, : len(own)] = own
        self.size = len(distinct)
        self.codes = tf.Variable(codes, trainable=False, name=f"codes_{name}")
        keys = tf.constant(distinct or ["\0"], tf.string)
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                keys, tf.range(1, len(distinct or [""]) + 1, dtype=tf.int64)
            ),
            default_value=0,
        )

    def lookup(self, values: tf.Tensor) -> tf.Tensor:
        """Codes int64 of raw values; 0 where no item has it."""
        codes = self.table.lookup(values)
        return tf.where(codes <= self.size, codes, tf.zeros_like(codes))


class Catalogue(tf.Module):
    """The items.

    Args:
        item_ids: object [n + 1], entry 0 ''.
        titles: the same of names, or None.
        items: canonical table; rows of other items are ignored.
        counts: int [n + 1], how many users had each item.
        features: the feature table.
        grouped: item features whose values are kept, for filters, limits and the like.
        utility: names the columns of price, margin, release and stock.
    """

    def __init__(
        self,
        item_ids: np.ndarray,
        titles: np.ndarray | None,
        items: pa.Table,
        counts: np.ndarray,
        features: FeatureTable,
        grouped: Sequence[str],
        utility: UtilityConfig,
    ) -> None:
        super().__init__(name="catalogue")
        self.n_items = len(item_ids) - 1
        self.item_ids = string_table(item_ids, "item_ids")
        self.titles = None if titles is None else string_table(titles, "titles")
        self._places = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant([str(i) for i in item_ids[1:]], tf.string),
                tf.range(1, len(item_ids), dtype=tf.int64),
            ),
            default_value=0,
        )
        own = pc.index_in(
            pa.array([str(i) for i in item_ids[1:]], pa.string()),
            items.column(ITEM_ID).combine_chunks().cast(pa.string()),
        )
        rows = items.take(pc.fill_null(own, 0))
        absent = np.asarray(pc.is_null(own).to_numpy(zero_copy_only=False))
        self.numbers: dict[str, tf.Variable] = {}
        for part in ("price", "margin", "released", "stock"):
            column = getattr(utility, part)
            if column is not None:
                self.numbers[part] = _numbers(rows, column, absent, part)
        self.groups = {name: Groups(name, _texts(rows, name, features, absent)) for name in grouped}
        boosts = _seller_boosts(rows, utility, features, absent)
        if boosts is not None:
            self.numbers["seller_boost"] = tf.Variable(boosts, trainable=False, name="seller_boost")
        order = 1 + np.argsort(-counts[1:], kind="stable")
        sold_out = np.zeros(self.n_items + 1, bool)
        if "stock" in self.numbers:
            sold_out = self.numbers["stock"].numpy() <= 0
        # What is sold out is never shown, so the popular list need not hold it.
        order = order[~sold_out[order]]
        in_stock = ~sold_out & (np.arange(self.n_items + 1) > 0)
        self.in_stock = tf.Variable(in_stock, trainable=False, name="in_stock")
        self.popular = tf.Variable(order.astype(np.int64), trainable=False, name="popular")

    def positions(self, ids: tf.Tensor) -> tf.Tensor:
        """Item indices int64 of raw ids (any shape); 0 of unknown ones."""
        return self._places.lookup(ids)

    def number(self, name: str, items: tf.Tensor) -> tf.Tensor:
        """A number of items, float32 like ``items``; NaN where unknown."""
        return tf.gather(self.numbers[name], items)


def _texts(
    rows: pa.Table, name: str, features: FeatureTable, absent: np.ndarray
) -> list[list[str]]:
    """The values of a feature, one list an item."""
    if name not in rows.column_names:
        raise ValueError(
            f"the items table has no column {name!r}, by which the recommender filters or limits; "
            f"it has {rows.column_names}"
        )
    separator = features[name].separator if name in features else None
    found: list[list[str]] = []
    for value, missing in zip(rows.column(name).to_pylist(), absent, strict=True):
        if missing or value is None:
            found.append([])
        elif isinstance(value, list):
            found.append([str(v) for v in value if v])
        elif separator:
            found.append([v for v in str(value).split(separator) if v])
        else:
            found.append([str(value)])
    return found


def _numbers(rows: pa.Table, column: str, absent: np.ndarray, part: str) -> tf.Variable:
    if column not in rows.column_names:
        raise ValueError(
            f"utility.{part} names the column {column!r}, which the items table lacks; it has "
            f"{rows.column_names}"
        )
    kind = pa.float64() if part == "released" else pa.float32()
    values = rows.column(column).cast(kind).to_numpy(zero_copy_only=False).astype(np.float64)
    values = np.where(absent, np.nan, values)
    dtype = np.float64 if part == "released" else np.float32
    return tf.Variable(np.concatenate([[np.nan], values]).astype(dtype), trainable=False, name=part)


def _seller_boosts(
    rows: pa.Table, utility: UtilityConfig, features: FeatureTable, absent: np.ndarray
) -> np.ndarray | None:
    """The factor of each item's seller, float32 [n + 1]; of several the product."""
    if utility.seller is None or not utility.seller_boost:
        return None
    factors: Mapping[str, float] = utility.seller_boost
    sellers = _texts(rows, utility.seller, features, absent)
    products: list[Any] = [np.prod([factors.get(s, 1.0) for s in own]) for own in sellers]
    return np.array([1.0, *products], np.float32)
