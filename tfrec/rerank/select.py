"""One call for all methods: candidates with a worth in, lists under rules out."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfrec.rerank import dpp
from tfrec.rerank.calibrated import Calibrated
from tfrec.rerank.constraints import Constraints, Limit
from tfrec.rerank.greedy import Objective, Relevance, Selection, greedy
from tfrec.rerank.inputs import candidates
from tfrec.rerank.mmr import MMR

METHODS = ("none", "mmr", "dpp", "calibrated")


def unit_range(relevance: tf.Tensor, valid: tf.Tensor | None = None) -> tf.Tensor:
    """Each row's valid candidates on 0..1: ``(r - min) / (max - min)``.

    Brings any score to the scale of a cosine, so that a trade-off means the same in every request.
    A row whose candidates are all worth the same becomes 0.

    Args:
        relevance: float [batch, candidate]; -inf or NaN is no candidate.
        valid: bool [batch, candidate] or None.

    Returns:
        float32 [batch, candidate]; invalid candidates are -inf.
    """
    value, allowed = candidates(relevance, valid)
    endless = tf.constant(float("inf"), value.dtype)
    low = tf.reduce_min(tf.where(allowed, value, endless), axis=1, keepdims=True)
    high = tf.reduce_max(tf.where(allowed, value, -endless), axis=1, keepdims=True)
    scaled = tf.math.divide_no_nan(value - low, high - low)
    return tf.where(allowed, tf.cast(scaled, tf.float32), tf.constant(float("-inf")))


def by_worth(worth: tf.Tensor, valid: tf.Tensor, k: int | tf.Tensor) -> Selection:
    """The plain order without a loop; equal ones in the order they came.

    Args:
        worth: float64 [batch, candidate], finite.
        valid: bool [batch, candidate].
        k: as in ``rerank``.
    """
    k = tf.maximum(tf.cast(k, tf.int32), 0)
    batch, width = tf.unstack(tf.shape(worth))
    lowest = tf.constant(float("-inf"), worth.dtype)
    found = tf.math.top_k(tf.where(valid, worth, lowest), tf.minimum(k, width), sorted=True)
    indices = tf.where(tf.equal(found.values, lowest), tf.constant(-1), found.indices)
    missing = k - tf.minimum(k, width)
    indices = tf.pad(indices, [[0, 0], [0, missing]], constant_values=-1)
    return Selection(indices, tf.zeros(tf.stack([batch, 0]), tf.int32))


def rerank(
    relevance: tf.Tensor,
    k: int | tf.Tensor,
    *,
    method: str = "none",
    trade_off: float | tf.Tensor = 0.0,
    vectors: tf.Tensor | None = None,
    categories: tf.Tensor | None = None,
    target: tf.Tensor | None = None,
    valid: tf.Tensor | None = None,
    window: int | None = None,
    ridge: float = dpp.RIDGE,
    normalise: bool = False,
    limits: Sequence[Limit] = (),
    pinned: tf.Tensor | None = None,
    must: tf.Tensor | None = None,
) -> Selection:
    """Makes the lists.

    Args:
        relevance: float [batch, candidate], the worth; -inf or NaN is no candidate.
        k: length of the lists, int scalar (a tensor where it comes with the request).
        method: ``none``, ``mmr``, ``dpp`` or ``calibrated``; fixed when the graph is built.
        trade_off: scalar or [batch], 0 worth alone, 1 the method's other aim alone.
        vectors: float [batch, candidate, dim], for ``mmr`` and ``dpp``.
        categories, target: [batch, candidate, category], [batch, category], for ``calibrated``.
        valid: bool [batch, candidate], False is padding.
        window, ridge: see ``tfrec.rerank.dpp.select``.
        normalise: whether the worth goes through ``unit_range`` first.
        limits, pinned, must: see ``Constraints``.

    Returns:
        ``Selection(indices int32 [batch, k], relaxed int32 [batch, limit])``.

    Raises:
        ValueError: no such method, what it needs is missing, or shapes that do not fit.
    """
    needs = {"mmr": {"vectors": vectors}, "dpp": {"vectors": vectors}}
    needs["calibrated"] = {"categories": categories, "target": target}
    if method not in METHODS:
        raise ValueError(f"the method is one of {METHODS}; got {method!r}")
    missing = [name for name, value in needs.get(method, {}).items() if value is None]
    if missing:
        raise ValueError(f"method {method!r} needs {missing}; pass them, one row a candidate")
    if normalise:
        relevance = unit_range(relevance, valid)
    worth, allowed = candidates(relevance, valid)
    rules = Constraints(tuple(limits), pinned, must)
    if method == "none" and not limits and pinned is None and must is None:
        return by_worth(worth, allowed, k)
    objective: Objective = Relevance(worth)
    if method == "mmr":
        objective = MMR(worth, vectors, trade_off, window)
    elif method == "dpp":
        objective = dpp.objective(worth, vectors, trade_off, window, ridge)
    elif method == "calibrated":
        objective = Calibrated(worth, categories, target, trade_off, window)
    return greedy(objective, allowed, k, rules)
