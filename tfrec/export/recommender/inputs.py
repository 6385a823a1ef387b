"""What the one-call signature takes, with a default for everything but the user.

A signature carries its defaults, and servers and clients fill them in: a request names a user and
nothing else, or as much as it likes. A default has one row, so inputs are first brought to the
batch's size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.export.raw import EXCLUDE, K
from tfrec.schema import HISTORY, USER_ID

NOW, TRADE_OFF = "now", "trade_off"
INCLUDE, SEED, EXPLORE, SHOWN = "include", "seed", "explore", "shown"
AMONG, WEIGHT = "among_", "weight_"
Specs = dict[str, tf.TensorSpec]


def joined(*sides: Mapping[str, tf.TensorSpec]) -> Specs:
    """Inputs of several signatures under one name each.

    Raises:
        ValueError: two of them mean different things by one name.
    """
    specs: Specs = {}
    for side in sides:
        for name, spec in side.items():
            known = specs.setdefault(name, spec)
            if known.dtype != spec.dtype or known.shape.rank != spec.shape.rank:
                raise ValueError(
                    f"retrieval and ranking model share the input {name!r}, but one takes "
                    f"{known.dtype.name} {known.shape} and the other {spec.dtype.name} "
                    f"{spec.shape}; train both with the same feature table"
                )
    return specs


def request_specs(
    users: Mapping[str, tf.TensorSpec],
    among: Sequence[str],
    goals: Sequence[str],
    timed: bool,
    trade_off: bool,
    explores: bool = False,
) -> Specs:
    """Inputs of ``recommend``: the users' and the request's own.

    Args:
        users: inputs of the models that speak of a user.
        among: item features to filter by.
        goals: of the utility.
        timed: whether time matters (freshness, campaigns).
        trade_off: whether the re-ranker has one.
        explores: whether anything is left to chance.
    """
    many, one = [None, None], [None]
    specs = {USER_ID: tf.TensorSpec(one, tf.string, USER_ID), **users}
    specs[HISTORY] = tf.TensorSpec(many, tf.string, HISTORY)
    specs[EXCLUDE] = tf.TensorSpec(many, tf.string, EXCLUDE)
    specs[INCLUDE] = tf.TensorSpec(many, tf.string, INCLUDE)
    specs[K] = tf.TensorSpec(None, tf.int32, K)
    for feature in among:
        specs[AMONG + feature] = tf.TensorSpec(many, tf.string, AMONG + feature)
    for goal in goals:
        specs[WEIGHT + goal] = tf.TensorSpec(one, tf.float32, WEIGHT + goal)
    if timed:
        specs[NOW] = tf.TensorSpec(one, tf.int64, NOW)
    if trade_off:
        specs[TRADE_OFF] = tf.TensorSpec(one, tf.float32, TRADE_OFF)
    if explores:
        specs[SEED] = tf.TensorSpec(one, tf.int64, SEED)
        specs[EXPLORE] = tf.TensorSpec(one, tf.float32, EXPLORE)
    return specs


def default_of(spec: tf.TensorSpec, list_length: int) -> tf.Tensor:
    """One row of nothing: '', NaN, 0 for "now", the configured length for ``k``."""
    if spec.name == K:
        return tf.constant(list_length, tf.int32)
    shape = [1 if size is None else size for size in spec.shape]
    return tf.fill(shape, tf.constant(_nothing(spec.dtype), spec.dtype))


def _nothing(dtype: tf.DType) -> Any:
    return {tf.string: "", tf.float32: np.nan}.get(dtype, 0)


def with_defaults(
    function: Callable[..., dict[str, tf.Tensor]], specs: Specs, list_length: int
) -> Any:
    """A ``tf.function`` of named inputs whose defaults go into the SavedModel's signature.

    Args:
        function: of keyword arguments, one an input.
        specs: the inputs; ``user_id`` alone has no default.
        list_length: default of ``k``.
    """
    names = [USER_ID, *(n for n in specs if n != USER_ID)]

    def call(*args: tf.Tensor, **named: tf.Tensor) -> dict[str, tf.Tensor]:
        return function(**dict(zip(names, args, strict=False)), **named)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(USER_ID, kind)]
    for name in names[1:]:
        value = default_of(specs[name], list_length)
        parameters.append(inspect.Parameter(name, kind, default=value))
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    given = [specs[name] for name in names]
    return tf.function(call, input_signature=given, autograph=False)


def to_batch(raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Every input but ``k`` with as many rows as there are users."""
    rows = tf.shape(raw[USER_ID])[0]

    def wide(value: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([[rows], tf.shape(value)[1:]], axis=0)
        return tf.ensure_shape(tf.broadcast_to(value, shape), [None, *value.shape[1:]])

    return {name: value if name == K else wide(value) for name, value in raw.items()}


def parse(examples: tf.Tensor, specs: Specs) -> dict[str, tf.Tensor]:
    """Inputs out of serialized tf.Examples; absent ones are '', NaN and 0. ``k`` is not read."""
    spec: dict[str, Any] = {}
    for name, tensor in specs.items():
        if name == K:
            continue
        if tensor.shape.rank == 2 and tensor.shape[1] is None:
            spec[name] = tf.io.RaggedFeature(tensor.dtype)
        else:
            inner = list(tensor.shape[1:])
            nothing = _nothing(tensor.dtype)
            default = np.full(inner, nothing) if inner else nothing
            spec[name] = tf.io.FixedLenFeature(inner, tensor.dtype, default)
    parsed = tf.io.parse_example(examples, spec)
    return {
        name: value.to_tensor(default_value=_nothing(value.dtype))
        if isinstance(value, tf.RaggedTensor)
        else value
        for name, value in parsed.items()
    }
