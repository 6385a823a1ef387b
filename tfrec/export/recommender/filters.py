"""Which items a request allows: among some values of item features, and not those it excludes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import tensorflow as tf

from tfrec.export.recommender.catalogue import Catalogue, Groups
from tfrec.export.recommender.inputs import AMONG


def asked_for(raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Bool [batch]: whether a request narrows the catalogue at all."""
    filters = [tf.reduce_any(tf.not_equal(v, ""), axis=1) for n, v in raw.items() if _is(n)]
    rows = tf.shape(next(iter(raw.values())))[0]
    return tf.reduce_any(tf.stack(filters), axis=0) if filters else tf.zeros([rows], tf.bool)


def _is(name: str) -> bool:
    return name.startswith(AMONG)


def admits(groups: Groups, wanted: tf.Tensor, items: tf.Tensor | None = None) -> tf.Tensor:
    """Which items have one of the wanted values; all do where none is named.

    Args:
        groups: values of one feature by item.
        wanted: string [batch, value]; '' is none.
        items: int64 [batch, item], indices; None looks at the whole catalogue.

    Returns:
        Bool [batch, item], or [batch, n_items + 1] of the whole catalogue.
    """
    codes = groups.lookup(wanted)
    named = tf.reduce_any(tf.not_equal(wanted, ""), axis=1, keepdims=True)
    marks = tf.reduce_any(tf.one_hot(codes, groups.size + 1, True, False, dtype=tf.bool), axis=1)
    # Code 0 is "no such value": an unknown name admits nothing.
    marks &= tf.range(groups.size + 1) > 0
    if items is None:
        own = tf.gather(marks, groups.codes, axis=1)
    else:
        own = tf.gather(marks, tf.gather(groups.codes, items), axis=1, batch_dims=1)
    return tf.reduce_any(own, axis=2) | ~named


def allowed_items(
    catalogue: Catalogue,
    raw: Mapping[str, tf.Tensor],
    excluded: tf.Tensor,
    strict: Collection[str] = (),
) -> tf.Tensor:
    """Bool [batch, n_items + 1] of the filters of a request; index 0 is never allowed.

    An item passes all filters. Where no item that could be answered (in stock, not excluded) passes
    them all, the filters named in ``strict`` still hold, and of the others as many as such an item
    passes at most: a list is not left empty for a category that has nothing.

    Args:
        catalogue: the items.
        raw: the inputs of the request.
        excluded: int64 [batch, E], item indices that the request itself excludes.
        strict: item features.
    """
    rows = tf.shape(excluded)[0]
    must = tf.ones([rows, catalogue.n_items + 1], tf.bool) & (tf.range(catalogue.n_items + 1) > 0)
    passed = tf.zeros([rows, catalogue.n_items + 1], tf.int32)
    for name, groups in catalogue.groups.items():
        if AMONG + name not in raw:
            continue
        own = admits(groups, raw[AMONG + name])
        if name in strict:
            must &= own
        else:
            passed += tf.cast(own, tf.int32)
    there = must & catalogue.in_stock
    row = tf.repeat(tf.range(rows, dtype=tf.int64), tf.shape(excluded)[1])
    barred = tf.stack([row, tf.reshape(excluded, [-1])], axis=1)
    there = tf.tensor_scatter_nd_update(there, barred, tf.zeros(tf.shape(row), tf.bool))
    # Where something passes every filter, "as many as possible" is all of them.
    most = tf.reduce_max(tf.where(there, passed, tf.zeros_like(passed)), axis=1, keepdims=True)
    return must & (passed >= most)


def is_member(items: tf.Tensor, among: tf.Tensor) -> tf.Tensor:
    """Whether each of ``items`` int64 [batch, c] is in its row of ``among`` int64 [batch, e]."""
    ordered = tf.sort(among, axis=1)
    at = tf.searchsorted(ordered, items)
    padded = tf.pad(ordered, [[0, 0], [0, 1]], constant_values=-1)
    return tf.equal(tf.gather(padded, at, batch_dims=1), items)
