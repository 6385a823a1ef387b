"""A wish as the arrays that a signature takes; batch of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfrec.explore.offer import EXCLUDE, SEED, K
from tfrec.explore.source import Signature, Spec
from tfrec.explore.wish import Wish
from tfrec.schema import HISTORY, ITEM_ID, USER_ID

HISTORY_GIVEN = 1000  # most recent items handed on; a model reads the last it was built for


def recommend_inputs(
    signature: Signature, wish: Wish, history: Sequence[str], facts: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The inputs of ``recommend``, every one of them.

    Args:
        signature: of the model.
        wish: what is asked; what this model has no input for is left out.
        history: raw item ids, oldest first.
        facts: attributes of the user by column; a field typed in the wish goes before them.

    Returns:
        Arrays [1, ...] by name. What is not known is '' or NaN, weights included: NaN is "as the
        model is configured".

    Raises:
        ValueError: an attribute that does not fit its input.
    """
    own = {
        USER_ID: [wish.user],
        HISTORY: list(history)[-HISTORY_GIVEN:],
        EXCLUDE: [*wish.exclude, *([] if wish.seen else history)],
    }
    out: dict[str, np.ndarray] = {}
    for name, spec in signature.inputs.items():
        if name == K:
            out[name] = _number_input(wish.k, spec)
        elif name in own:
            out[name] = strings(own[name], spec)
        elif name in wish.knobs:
            out[name] = _number_input(wish.knobs[name], spec)
        elif name in wish.among:
            out[name] = strings(wish.among[name], spec)
        else:
            known = wish.fields.get(name, facts.get(name))
            if name == SEED and known is None:
                known = 1  # 0 would draw anew at every move of a slider
            out[name] = _feature(name, known, spec, signature.defaults.get(name))
    return out


def similar_inputs(signature: Signature, item: str, k: int) -> dict[str, np.ndarray]:
    """The inputs of ``similar``.

    Raises:
        ValueError: it takes more than an item and k.
    """
    extra = sorted(set(signature.inputs) - {ITEM_ID, K})
    if extra:
        raise ValueError(f"'similar' takes item_id and k; this model's takes also {extra}")
    given = {ITEM_ID: strings([item], signature.inputs[ITEM_ID])}
    if K in signature.inputs:
        given[K] = _number_input(k, signature.inputs[K])
    return given


def strings(values: Sequence[str], spec: Spec) -> np.ndarray:
    """Texts as object [1] or, where the input has two axes, [1, n]; '' where there are none.

    Where the second axis is fixed, the last values count and '' fills up behind.
    """
    rank = 2 if spec.shape is None else len(spec.shape)
    if rank == 1:
        return np.array([values[0] if values else ""], object)
    width = spec.shape[1] if spec.shape is not None and spec.shape[1] else max(1, len(values))
    row = list(values)[-width:]
    out = np.full((1, width), "", object)
    out[0, : len(row)] = row
    return out


def _number_input(value: float, spec: Spec) -> np.ndarray:
    array = np.asarray(value, spec.dtype)
    return array if spec.shape == () else array.reshape([1] * len(spec.shape or (1,)))


def _feature(name: str, known: Any, spec: Spec, default: np.ndarray | None) -> np.ndarray:
    rank = 1 if spec.shape is None else len(spec.shape)
    if known is None and default is not None:
        array = np.asarray(default)
        return array if array.ndim == rank else np.broadcast_to(array, (1,) * rank)
    if spec.dtype == "string":
        listed = [] if known is None else known if isinstance(known, (list, tuple)) else [known]
        return strings([str(v) for v in listed], spec)
    if not spec.dtype.startswith(("float", "int")):
        raise ValueError(f"input {name!r} is {spec.dtype}; the page fills text and numbers only")
    empty: float = np.nan if spec.dtype.startswith("float") else 0
    if rank <= 1:
        return _number_input(empty if known is None else known, spec)
    width = spec.shape[1] if spec.shape is not None and spec.shape[1] else None
    row = np.full(width or 1, empty, spec.dtype) if known is None else np.asarray(known, spec.dtype)
    if width is not None and row.shape != (width,):
        raise ValueError(
            f"input {name!r} takes {width} numbers; the users table has {row.size}; pass the "
            f"tables that the model was trained on"
        )
    return row.reshape(1, -1)
