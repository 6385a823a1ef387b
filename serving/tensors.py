"""``TensorProto`` <-> numpy, both ways the wire allows: ``tensor_content`` and the typed fields.

The C++ server answers in the typed fields (``float_val``, ``int64_val`` ...), so :func:`encode`
does too; ``tf.make_tensor_proto`` would not. A packed field of fixed-width numbers is, on the wire,
exactly the array's memory, so floats go to the C++ parser as one block instead of one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.errors import invalid

MAX_EXPANDED_BYTES = 256 << 20
"""Most memory a short ``float_val: 1`` with a large shape may ask for (the last value repeats)."""


@dataclass(frozen=True)
class _Kind:
    """How one dtype travels."""

    dtype: np.dtype[Any]  # what numpy and the session use
    field: str  # typed field of TensorProto
    wire: np.dtype[Any] | None = None  # packed layout equal to memory, else None
    number: int = 0  # field number, where ``wire`` is set


def _kinds() -> dict[int, _Kind]:
    import ml_dtypes

    t = types_pb2
    d = np.dtype
    return {
        t.DT_FLOAT: _Kind(d("<f4"), "float_val", d("<f4"), 5),
        t.DT_DOUBLE: _Kind(d("<f8"), "double_val", d("<f8"), 6),
        t.DT_COMPLEX64: _Kind(d("<c8"), "scomplex_val", d("<f4"), 9),
        t.DT_COMPLEX128: _Kind(d("<c16"), "dcomplex_val", d("<f8"), 12),
        t.DT_BOOL: _Kind(d("?"), "bool_val", d("?"), 11),
        t.DT_INT8: _Kind(d("i1"), "int_val"),
        t.DT_UINT8: _Kind(d("u1"), "int_val"),
        t.DT_INT16: _Kind(d("<i2"), "int_val"),
        t.DT_UINT16: _Kind(d("<u2"), "int_val"),
        t.DT_INT32: _Kind(d("<i4"), "int_val"),
        t.DT_INT64: _Kind(d("<i8"), "int64_val"),
        t.DT_UINT32: _Kind(d("<u4"), "uint32_val"),
        t.DT_UINT64: _Kind(d("<u8"), "uint64_val"),
        t.DT_HALF: _Kind(d("<f2"), "half_val"),
        t.DT_BFLOAT16: _Kind(d(ml_dtypes.bfloat16), "half_val"),
        t.DT_STRING: _Kind(d(object), "string_val"),
    }


KINDS: dict[int, _Kind] = _kinds()
_OF_DTYPE: dict[np.dtype[Any], int] = {kind.dtype: number for number, kind in KINDS.items()}


def dtype_name(dtype: int) -> str:
    """``float``, ``int64``, ``string``: the names of TensorFlow's error texts."""
    known = types_pb2.DataType.values()
    return types_pb2.DataType.Name(dtype)[3:].lower() if dtype in known else f"unknown({dtype})"  # type: ignore[arg-type]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(array: NDArray[Any], proto: tensor_pb2.TensorProto | None = None) -> Any:
    """Writes an array into the typed field of its dtype.

    Args:
        array: any shape; dtype one of :data:`KINDS` (object arrays hold ``bytes``).
        proto: message to fill; a new one if None.

    Returns:
        The message, with one value an element and no ``tensor_content``.

    Raises:
        ServingError: INVALID_ARGUMENT where the dtype has no typed field.
    """
    proto = tensor_pb2.TensorProto() if proto is None else proto
    number = _OF_DTYPE.get(array.dtype)
    if number is None:
        raise invalid(f"tensor of dtype {array.dtype} cannot be written as a TensorProto")
    kind = KINDS[number]
    proto.dtype = number  # type: ignore[assignment]
    dims = proto.tensor_shape.dim
    for size in array.shape:
        dims.add().size = size
    if kind.wire is not None:
        payload = np.ascontiguousarray(array).tobytes()
        if payload:
            head = _varint(kind.number << 3 | 2) + _varint(len(payload))
            proto.MergeFromString(head + payload)
        return proto
    if kind.field == "half_val":
        array = np.ascontiguousarray(array).view(np.uint16)
    getattr(proto, kind.field).extend(array.ravel().tolist())
    return proto


def _decode_strings(content: bytes, count: int) -> list[bytes]:
    """Strings in ``tensor_content``: all lengths as varints, then all bytes."""
    lengths: list[int] = []
    at = 0
    for _ in range(count):
        value = shift = 0
        while True:
            if at >= len(content) or shift > 63:
                raise ValueError("string lengths run past the end")
            byte = content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(value)
    if at + sum(lengths) != len(content):
        raise ValueError(f"{len(content) - at} bytes for strings of {sum(lengths)} in all")
    out = []
    for length in lengths:
        out.append(content[at : at + length])
        at += length
    return out


def _typed_values(proto: tensor_pb2.TensorProto, kind: _Kind) -> NDArray[Any]:
    values = getattr(proto, kind.field)
    if kind.dtype == object:
        out: NDArray[Any] = np.empty(len(values), object)
        out[:] = list(values)
        return out
    if kind.field == "half_val":
        return np.array(values, np.int64).astype(np.uint16).view(kind.dtype)
    if kind.wire is not None and kind.dtype.kind == "c":
        return np.array(values, kind.wire)[: len(values) // 2 * 2].view(kind.dtype)
    if kind.field == "int_val":
        return np.array(values, np.int64).astype(kind.dtype)  # narrows by wrapping, as C++ does
    return np.array(values, kind.dtype)


def decode(proto: tensor_pb2.TensorProto, alias: str = "") -> NDArray[Any]:
    """Reads a tensor in either form.

    Fewer values than elements repeat the last one and none at all mean zeros; surplus values are
    dropped: the rules of ``Tensor::FromProto``.

    Args:
        proto: the message.
        alias: input's name, for the error text.

    Returns:
        Array of the proto's shape; it may share memory with the message.

    Raises:
        ServingError: INVALID_ARGUMENT for an unknown dtype, a bad shape or unfitting content.
    """
    kind = KINDS.get(proto.dtype)
    if kind is None:
        raise invalid(
            f"tensor parsing error: {alias}: dtype {dtype_name(proto.dtype)} is not supported"
        )
    if proto.tensor_shape.unknown_rank:
        raise invalid(f"tensor parsing error: {alias}: its shape has unknown rank")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if any(size < 0 for size in shape) or len(shape) > 64:
        raise invalid(f"tensor parsing error: {alias}: bad shape {list(shape)}")
    count = math.prod(shape)
    content = proto.tensor_content
    if content:
        try:
            if kind.dtype == object:
                flat = np.empty(count, object)
                flat[:] = _decode_strings(content, count)
            elif len(content) != count * kind.dtype.itemsize:
                raise ValueError(f"{len(content)} bytes")
            else:
                flat = np.frombuffer(content, kind.dtype)
        except ValueError as error:
            raise invalid(
                f"tensor parsing error: {alias}: tensor_content does not hold {count} values of "
                f"{dtype_name(proto.dtype)} for shape {list(shape)} ({error})"
            ) from None
        return flat.reshape(shape)
    flat = _typed_values(proto, kind)
    if len(flat) < count:
        size = kind.dtype.itemsize
        if count * size > MAX_EXPANDED_BYTES:
            raise invalid(
                f"tensor parsing error: {alias}: {len(flat)} values for shape {list(shape)}; "
                f"at most {MAX_EXPANDED_BYTES} bytes may be filled by repetition"
            )
        last = flat[-1] if len(flat) else (b"" if kind.dtype == object else kind.dtype.type(0))
        full = np.empty(count, kind.dtype)
        full[: len(flat)] = flat
        full[len(flat) :] = last
        flat = full
    return flat[:count].reshape(shape)
