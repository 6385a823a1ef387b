"""Which items a request allows: among some values of item features, and not those it excludes."""

from __future__ import annotations

from collections.abc import Mapping

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


def _admits(groups: Groups, wanted: tf.Tensor) -> tf.Tensor:
    """Bool [batch, n + 1]: items that have one of the wanted values; all where none is named."""
    codes = groups.lookup(wanted)
    named = tf.reduce_any(tf.not_equal(wanted, ""), axis=1, keepdims=True)
    marks = tf.reduce_any(tf.one_hot(codes, groups.size + 1, True, False, dtype=tf.bool), axis=1)
    # Code 0 is "no such value": an unknown name admits nothing.
    marks &= tf.range(groups.size + 1) > 0
    return tf.reduce_any(tf.gather(marks, groups.codes, axis=1), axis=2) | ~named


def allowed_items(catalogue: Catalogue, raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Bool [batch, n_items + 1] of the filters of a request; index 0 is never allowed."""
    rows = tf.shape(next(iter(raw.values())))[0]
    allowed = tf.ones([rows, catalogue.n_items + 1], tf.bool)
    for name, groups in catalogue.groups.items():
        if AMONG + name in raw:
            allowed &= _admits(groups, raw[AMONG + name])
    return allowed & (tf.range(catalogue.n_items + 1) > 0)


def is_member(items: tf.Tensor, among: tf.Tensor) -> tf.Tensor:
    """Whether each of ``items`` int64 [batch, c] is in its row of ``among`` int64 [batch, e]."""
    ordered = tf.sort(among, axis=1)
    at = tf.searchsorted(ordered, items)
    padded = tf.pad(ordered, [[0, 0], [0, 1]], constant_values=-1)
    return tf.equal(tf.gather(padded, at, batch_dims=1), items)
