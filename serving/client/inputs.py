"""From the arguments of a typed call to exactly the inputs a signature has.

TensorFlow Serving wants every input of a signature in every request, and no other. So what the
caller leaves out is filled in: the model's own default where the signature carries one, else an
empty string, zero or False. What the signature does not have is an error, never dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serving.client import tensors
from serving.client.errors import BadInputError
from serving.client.results import Signature, TensorSpec

Ids = str | Sequence[str]


def as_array(name: str, value: ArrayLike, spec: TensorSpec) -> NDArray[Any]:
    """The value as an array of the spec's dtype and shape.

    Values may change dtype within their kind (float64 to float32, int64 to int32) and from
    integers to floats, if they fit; never from floats to integers or between text and numbers.

    Raises:
        BadInputError: naming the input, the rule and what came.
    """
    array = tensors.to_array(value)
    if spec.dtype == "string":
        if array.dtype.kind not in "OUS" and array.size:
            raise BadInputError(f"Input {name!r} must be text; got dtype {array.dtype}.")
        array = array.astype(object) if array.dtype.kind not in "OUS" else array
    elif spec.dtype in tensors.KINDS:
        array = _cast(name, array, spec.dtype)
    _check_shape(name, array.shape, spec)
    return array


def _held_as(dtype: str) -> np.dtype[Any]:
    # bfloat16 stays float32 here; `tensors.encode` rounds it when it is sent.
    return np.dtype(np.float32) if dtype == "bfloat16" else tensors.KINDS[dtype].dtype


def _cast(name: str, array: NDArray[Any], dtype: str) -> NDArray[Any]:
    target = _held_as(dtype)
    if array.size == 0:
        return np.empty(array.shape, target)
    allowed = np.can_cast(array.dtype, target, "same_kind") or (
        array.dtype.kind in "iu" and target.kind in "iu"
    )
    if not allowed:
        raise BadInputError(f"Input {name!r} must be {dtype}; got dtype {array.dtype}.")
    if target.kind in "iu" and array.dtype.kind in "iu":
        limits = np.iinfo(target)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            raise BadInputError(
                f"Input {name!r} must fit {dtype}, {limits.min} to {limits.max}; "
                f"got values from {low} to {high}."
            )
    return array.astype(target)


def _check_shape(name: str, shape: tuple[int, ...], spec: TensorSpec) -> None:
    if spec.shape is None:
        return
    fits = len(shape) == len(spec.shape) and all(
        want is None or want == got for want, got in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in spec.shape)
        raise BadInputError(f"Input {name!r} must have shape ({wanted}); got {shape}.")


def texts(values: Sequence[str]) -> NDArray[Any]:
    """A vector of strings as an object array."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def padded(name: str, rows: Sequence[Sequence[str]], spec: TensorSpec) -> NDArray[Any]:
    """Rows of ids as one matrix `[batch, width]`, short rows filled up with ``""``.

    The width is the signature's where it is fixed, else the longest row rounded up to a power of
    two, so that the server meets few shapes and its batching can merge requests. Where a history
    is longer than a fixed width, the newest ids, its end, are kept; an exclude list that does not
    fit is an error, since an id left off would be recommended.
    """
    longest = max((len(row) for row in rows), default=0)
    fixed = spec.shape[1] if spec.shape is not None and len(spec.shape) == 2 else None
    width = fixed if fixed is not None else 1 << max(longest - 1, 0).bit_length()
    if longest > width:
        if name != "history":
            raise BadInputError(
                f"Input {name!r} takes at most {width} ids a user; got {longest}.",
                cure="Leave some out, or export the model with a wider input.",
            )
        rows = [row[-width:] for row in rows]
    matrix = np.full((len(rows), width), "", object)
    for row, ids in enumerate(rows):
        matrix[row, : len(ids)] = ids
    return matrix


def batched(name: str, value: Any, batch: int, spec: TensorSpec) -> NDArray[Any]:
    """A number for the whole call, such as ``k``: a scalar, or one a row if the signature says so.

    Signatures with a scalar cannot be batched by the server (every input needs the batch's axis),
    so both forms exist.
    """
    scalar = spec.shape is not None and len(spec.shape) == 0
    return as_array(name, value if scalar else np.full(batch, value), spec)


def default_for(name: str, batch: int, signature: Signature) -> NDArray[Any]:
    """What to send for an input the caller left out: `[batch, ...]`, or the model's own default.

    Where the model has none: ``""``, NaN, 0 or False. NaN, since 0 would be a value (an age of 0);
    our models take it for missing, and so does the server where it fills in itself.
    """
    if name in signature.defaults:
        value = signature.defaults[name]
        return np.broadcast_to(value, (batch, *value.shape[1:])) if value.ndim else value
    spec = signature.inputs[name]
    if spec.shape is None:
        shape: tuple[int, ...] = (batch,)
    elif not spec.shape:
        shape = ()
    else:
        first = batch if spec.shape[0] is None else spec.shape[0]
        shape = (first, *(1 if size is None else size for size in spec.shape[1:]))
    if spec.dtype == "string":
        return np.full(shape, "", object)
    if spec.dtype not in tensors.KINDS:
        raise BadInputError(f"Input {name!r} is {spec.dtype}, which this client cannot fill in.")
    held = _held_as(spec.dtype)
    return np.full(shape, np.nan if np.issubdtype(held, np.floating) else 0, held)


def complete(given: Mapping[str, NDArray[Any]], batch: int, signature: Signature) -> dict[str, Any]:
    """The given inputs and the defaults of all others.

    Raises:
        BadInputError: if an input is given that the signature does not have.
    """
    unknown(given, signature)
    return {
        name: given[name] if name in given else default_for(name, batch, signature)
        for name in signature.inputs
    }


def unknown(given: Iterable[str], signature: Signature) -> None:
    """Raises BadInputError where an input is given that the signature does not have."""
    extra = sorted(set(given) - set(signature.inputs))
    if extra:
        raise BadInputError(
            f"Signature {signature.name!r} has the inputs {sorted(signature.inputs)}; "
            f"got also {extra}.",
            cure="Leave them out, or export the model with these inputs.",
        )
