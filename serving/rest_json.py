"""JSON <-> arrays and Examples, by the rules of TF Serving's REST API.

A JSON list becomes an array in one numpy call; only its kind is checked afterwards. Python walks
element by element through strings alone.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import input_pb2

from serving.bundle import Signature, TensorRef
from serving.errors import ServingError, invalid
from serving.tensors import KINDS, dtype_name

INT64 = np.iinfo(np.int64)


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."


def parse(body: bytes) -> dict[str, Any]:
    """A request body as a JSON object; NaN and Infinity are allowed.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {_brief(value)} Is not object")
    return value


def signature_name(document: Mapping[str, Any]) -> str:
    """``signature_name`` of a request; empty for the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_brief(name)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return _utf8(name).decode("utf-8")


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise invalid(f"JSON Value: {text!a} is not valid Unicode (a lone surrogate)") from None


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _bytes(value: Any) -> bytes:
    """A JSON string, or ``{"b64": ...}``, as bytes."""
    if isinstance(value, str):
        return _utf8(value)
    if not _is_b64(value):
        raise invalid(f"JSON Value: {_brief(value)} is not of expected type: string")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _strings(value: Any) -> NDArray[Any]:
    """A nested list of strings as an object array of bytes."""
    shape: list[int] = []
    flat = [value]
    while flat and isinstance(flat[0], list):
        size = len(flat[0])
        for item in flat:
            if not isinstance(item, list) or len(item) != size:
                got = len(item) if isinstance(item, list) else "no list"
                raise invalid(
                    f"Encountered list at unexpected size: {got} at level: {len(shape)} "
                    f"expected size: {size}"
                )
        if len(shape) >= 64:
            raise invalid("JSON lists are nested deeper than 64 levels")
        shape.append(size)
        flat = [inner for item in flat for inner in item]
    out: NDArray[Any] = np.empty(len(flat), object)
    out[:] = [_bytes(item) for item in flat]
    return out.reshape(shape)


def tensor(value: Any, ref: TensorRef, alias: str) -> NDArray[Any]:
    """A JSON value as an array of an input's dtype.

    Args:
        value: number, bool, string, ``{"b64"}`` or nested lists of them, all of one shape.
        ref: the input.
        alias: its name, for the error text.

    Raises:
        ServingError: INVALID_ARGUMENT for ragged lists, a wrong kind or a value out of range.
    """
    kind = KINDS.get(ref.dtype)
    if kind is None or kind.dtype.kind == "c":
        raise invalid(f"input {alias}: JSON cannot hold {dtype_name(ref.dtype)}")
    if kind.dtype == object:
        return _strings(value)
    try:
        array = np.array(value)
    except (ValueError, OverflowError) as error:
        raise invalid(f"input {alias}: JSON lists do not form a tensor: {error}") from None
    if array.size == 0 and array.dtype.kind == "f":
        return array.astype(kind.dtype)
    target = kind.dtype.kind if kind.dtype.kind in "iub" else "f"
    if array.dtype.kind not in {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}[target]:
        raise invalid(
            f"input {alias}: JSON Value: {_brief(value)} "
            f"is not of expected type: {dtype_name(ref.dtype)}"
        )
    if target in "iu":
        limits = np.iinfo(kind.dtype)
        if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
            raise invalid(
                f"input {alias}: JSON Value: {_brief(value)} is out of range of "
                f"{dtype_name(ref.dtype)}"
            )
        return array.astype(kind.dtype)
    with np.errstate(over="ignore"):
        narrow = array.astype(kind.dtype)
    if target == "f" and array.dtype.kind == "f":
        lost = np.isinf(narrow.astype(np.float64)) & ~np.isinf(array)
        if lost.any():
            raise invalid(
                f"Cannot convert JSON value: {array[lost].flat[0]!r} to {dtype_name(ref.dtype)} "
                "without loss of precision."
            )
    return narrow


def predict_inputs(
    document: Mapping[str, Any], signature: Signature, optional: Collection[str] = ()
) -> dict[str, NDArray[Any]]:
    """Inputs of a predict request, from ``instances`` (rows) or ``inputs`` (columns).

    Those in ``optional`` may be left out, in all rows alike.

    Raises:
        ServingError: INVALID_ARGUMENT where the document has neither or both, or does not fit.
    """
    refs = signature.inputs
    if "instances" in document and "inputs" in document:
        raise invalid(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        )
    if not refs:
        raise invalid(f"Failed to get input map for signature: {signature.name}")
    if "inputs" in document:
        return _columns(document["inputs"], refs, optional)
    if "instances" not in document:
        raise invalid("Missing 'inputs' or 'instances' key")
    rows = document["instances"]
    if not isinstance(rows, list):
        raise invalid("Expecting 'instances' to be an list/array")
    if not rows:
        raise invalid("No values in 'instances' array")
    return _rows(rows, refs, optional)


def _columns(
    value: Any, refs: Mapping[str, TensorRef], optional: Collection[str]
) -> dict[str, NDArray[Any]]:
    if not isinstance(value, dict) or _is_b64(value):
        if len(refs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        alias, ref = next(iter(refs.items()))
        return {alias: tensor(value, ref, alias)}
    for alias in refs:
        if alias not in value and alias not in optional:
            raise invalid(f"Missing named input: {alias} in 'inputs' object.")
    sent = {alias: ref for alias, ref in refs.items() if alias in value}
    return {alias: tensor(value[alias], ref, alias) for alias, ref in sent.items()}


def _rows(
    rows: list[Any], refs: Mapping[str, TensorRef], optional: Collection[str]
) -> dict[str, NDArray[Any]]:
    def is_object(value: Any) -> bool:
        return isinstance(value, dict) and not _is_b64(value)

    named = is_object(rows[0])
    if named and optional:
        refs = {alias: r for alias, r in refs.items() if alias in rows[0] or alias not in optional}
    if not named and len(refs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    for index, row in enumerate(rows):
        if is_object(row) != named:
            want, got = ("object", "list") if named else ("value/list", "object")
            raise invalid(f"Expecting {want} but got {got} at item {index} of input list")
        if named and row.keys() != refs.keys():
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{_brief(row)} keys must be equal to: {','.join(sorted(refs))}"
            )
    if not named:
        alias, ref = next(iter(refs.items()))
        return {alias: tensor(rows, ref, alias)}
    return {alias: tensor([row[alias] for row in rows], ref, alias) for alias, ref in refs.items()}


def _feature(name: str, value: Any) -> feature_pb2.Feature:
    values = value if isinstance(value, list) else [value]
    feature = feature_pb2.Feature()
    if not values:
        return feature
    if all(isinstance(item, str) or _is_b64(item) for item in values):
        feature.bytes_list.value.extend(map(_bytes, values))
    elif all(isinstance(item, int) for item in values):  # bool is an int: 0 and 1
        if any(not INT64.min <= item <= INT64.max for item in values):
            raise invalid(f"Feature: {name} has an element beyond int64.")
        feature.int64_list.value.extend(map(int, values))
    elif all(isinstance(item, float) for item in values):
        feature.float_list.value.extend(values)
    else:
        raise invalid(
            f"Unexpected element type in feature: {name}; all values of a feature must be strings, "
            f"all whole numbers or all decimal ones: {_brief(value)}"
        )
    return feature


def _example(value: Any) -> example_pb2.Example:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {_brief(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        key = _utf8(name).decode("utf-8")
        example.features.feature[key].CopyFrom(_feature(name, content))
    return example


def examples(document: Mapping[str, Any]) -> input_pb2.Input:
    """Input of a classify or regress request, from ``examples`` and ``context``.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    if "examples" not in document:
        raise invalid("When method is classify, key 'examples' is expected and was not found")
    rows = document["examples"]
    if not isinstance(rows, list):
        raise invalid("Expecting 'examples' value to be an list/array")
    if not rows:
        raise invalid("'examples' value is an empty array")
    given = input_pb2.Input()
    if "context" in document:
        given.example_list_with_context.context.CopyFrom(_example(document["context"]))
        given.example_list_with_context.examples.extend(map(_example, rows))
    else:
        given.example_list.examples.extend(map(_example, rows))
    return given


def shortest(array: NDArray[np.float32]) -> NDArray[np.float64]:
    """Doubles that print as the shortest decimal of the same float32: 0.2, not 0.2000000029."""
    with np.errstate(invalid="ignore"):  # signalling NaNs
        exact = array.astype(np.float64)
    out = exact.copy()
    open_ = np.isfinite(exact) & (exact != 0)
    if not open_.any():
        return out
    magnitude = np.zeros_like(exact)
    magnitude[open_] = np.floor(np.log10(np.abs(exact[open_])))
    for digits in (7, 8, 9):
        power = digits - 1 - magnitude
        scale = 10.0 ** np.abs(power)
        with np.errstate(all="ignore"):
            up = power >= 0
            rounded = np.where(up, np.rint(exact * scale) / scale, np.rint(exact / scale) * scale)
            hit = open_ & (rounded.astype(np.float32) == array)
        out[hit] = rounded[hit]
        open_ &= ~hit
        if not open_.any():
            break
    return out


def numbers(values: list[float]) -> list[float]:
    """Float32 scores as the shortest decimals."""
    return shortest(np.array(values, np.float32)).tolist()


def plain(array: NDArray[Any], alias: str) -> Any:
    """An output as nested lists; bytes as UTF-8, or ``{"b64"}`` if its name ends in ``_bytes``."""
    if array.dtype == object:
        flat: NDArray[Any] = np.empty(array.size, object)
        if alias.endswith("_bytes"):
            flat[:] = [
                {"b64": base64.b64encode(item).decode("ascii")} for item in array.ravel().tolist()
            ]
        else:
            flat[:] = [item.decode("utf-8", "replace") for item in array.ravel().tolist()]
        return flat.reshape(array.shape).tolist()
    if array.dtype.kind == "c":
        raise invalid(f"output {alias}: JSON cannot hold {array.dtype}")
    if array.dtype.kind == "V" or array.dtype == np.float16:
        array = array.astype(np.float32)  # half and bfloat16
    return (shortest(array) if array.dtype == np.float32 else array).tolist()


def predictions(outputs: Mapping[str, NDArray[Any]], by_rows: bool) -> dict[str, Any]:
    """Body of a predict answer: ``predictions`` for a request by rows, else ``outputs``.

    Raises:
        ServingError: INVALID_ARGUMENT where rows are asked for and an output has none, or another
            number of them.
    """
    if not by_rows:
        columns = {alias: plain(array, alias) for alias, array in outputs.items()}
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    size: int | None = None
    for alias, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {alias} has no shape information ")
        if size is not None and len(array) != size:
            raise invalid(
                f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {size}"
            )
        size = len(array)
    columns = {alias: plain(array, alias) for alias, array in outputs.items()}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    names = list(columns)
    return {
        "predictions": [
            dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
    }


def dump(value: Any) -> bytes:
    """JSON text; NaN and Infinity as bare tokens."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8")


def error_body(error: ServingError) -> bytes:
    return dump({"error": error.details})
