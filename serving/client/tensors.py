"""NumPy arrays to the wire's tensors and back, in both of the wire's encodings.

A tensor's values travel either as raw little-endian bytes (``tensor_content``), which is what we
write because it is one copy, or in the typed field of the dtype, which is what TensorFlow Serving
answers with. There fewer values than elements mean that the last one repeats to the end.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serving.client import wire_pb2
from serving.client.errors import BadAnswerError, BadInputError
from serving.client.raw import packed, varint

try:  # optional: gives bfloat16 as an array dtype
    import ml_dtypes
except ImportError:  # pragma: no cover - taken in the clean environment of the tests
    ml_dtypes = None  # type: ignore[assignment]

MAX_ELEMENTS = 1 << 31
"""An answer that claims more elements than this is refused before memory is taken for it."""


MANY = 32
"""From so many floats on, reading them from the message's bytes is the faster way."""


class _Kind(NamedTuple):
    number: int  # of the wire's DataType
    dtype: np.dtype[Any]  # of the elements as stored in tensor_content
    field: str  # the typed field
    stored: np.dtype[Any]  # of one value of the typed field, once read


def _kind(name: str, dtype: Any, field: str, stored: Any = None) -> _Kind:
    number = wire_pb2.DataType.Value(f"DT_{name.upper()}")
    return _Kind(number, np.dtype(dtype), field, np.dtype(stored if stored else dtype))


KINDS: dict[str, _Kind] = {
    "float32": _kind("float", np.float32, "float_val"),
    "float64": _kind("double", np.float64, "double_val"),
    "int32": _kind("int32", np.int32, "int_val"),
    "uint8": _kind("uint8", np.uint8, "int_val"),
    "int16": _kind("int16", np.int16, "int_val"),
    "int8": _kind("int8", np.int8, "int_val"),
    "string": _kind("string", object, "string_val"),
    "complex64": _kind("complex64", np.complex64, "scomplex_val", np.float32),
    "int64": _kind("int64", np.int64, "int64_val"),
    "bool": _kind("bool", np.bool_, "bool_val"),
    "bfloat16": _kind("bfloat16", np.uint16, "half_val"),
    "uint16": _kind("uint16", np.uint16, "int_val"),
    "complex128": _kind("complex128", np.complex128, "dcomplex_val", np.float64),
    "float16": _kind("half", np.float16, "half_val", np.uint16),
    "uint32": _kind("uint32", np.uint32, "uint32_val"),
    "uint64": _kind("uint64", np.uint64, "uint64_val"),
}
"""The dtypes that travel, by their names here (NumPy's, plus ``string`` and ``bfloat16``)."""

_NAME_OF = {kind.number: name for name, kind in KINDS.items()}


def dtype_name(number: int) -> str:
    """Name of a wire DataType: ``"float32"``, or ``"dtype 20"`` for one that does not travel."""
    return _NAME_OF.get(number, f"dtype {number}")


def name_of(array: NDArray[Any]) -> str:
    """Name of an array's dtype on the wire; text, bytes and objects are ``"string"``.

    Raises:
        BadInputError: for a dtype the wire does not have.
    """
    if array.dtype.kind in "OUS":
        return "string"
    name = array.dtype.name
    if name not in KINDS:
        raise BadInputError(
            f"A tensor's dtype must be one of {', '.join(KINDS)}; got {array.dtype}.",
            cure="Cast the array, for instance with `.astype(np.float32)`.",
        )
    return name


def to_array(value: ArrayLike) -> NDArray[Any]:
    """``np.asarray``, but text and bytes stay Python objects.

    NumPy's fixed-width text cannot hold a trailing NUL, which serialized messages may end in.

    Raises:
        BadInputError: for rows of unequal length.
    """
    try:
        array = np.asarray(value)
    except UnicodeDecodeError:  # text and bytes mixed
        return np.asarray(value, object)
    except ValueError as error:
        raise BadInputError(f"A tensor must be a regular array: {error}.") from None
    if array.dtype.kind in "US" and not isinstance(value, np.ndarray):
        return np.asarray(value, object)
    return array


def to_bytes(array: NDArray[Any]) -> list[bytes]:
    """The elements of a text, bytes or object array as UTF-8, in row-major order."""
    if array.dtype.kind == "S":
        return array.ravel().tolist()
    values = array.ravel().tolist()
    try:
        return [one.encode() if isinstance(one, str) else bytes(memoryview(one)) for one in values]
    except TypeError:
        odd = next(v for v in values if not isinstance(v, (str, bytes, bytearray, memoryview)))
        raise BadInputError(
            f"An element of a string tensor must be str or bytes; got {type(odd).__name__} {odd!r}."
        ) from None
    except UnicodeEncodeError as error:
        raise BadInputError(
            f"Text must be encodable as UTF-8: {error}.", cure="Pass the raw bytes instead."
        ) from None


def _bfloat16_bits(array: NDArray[Any]) -> NDArray[np.uint16]:
    """The upper halves of float32s, rounded to nearest even; a NaN stays one."""
    if ml_dtypes is not None and array.dtype == ml_dtypes.bfloat16:
        return array.view(np.uint16)
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(array), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def encode(value: ArrayLike, dtype: str | None = None) -> wire_pb2.Tensor:
    """A tensor of the wire from an array.

    Args:
        value: array of any shape, or what ``np.asarray`` makes one of.
        dtype: name in ``KINDS`` to send it as; its own by default. Values are cast to it.

    Raises:
        BadInputError: for a dtype that does not travel, or elements that are not text.
    """
    array = to_array(value)
    name = dtype or name_of(array)
    if name not in KINDS:
        raise BadInputError(f"A tensor's dtype must be one of {', '.join(KINDS)}; got {name!r}.")
    kind = KINDS[name]
    tensor = wire_pb2.Tensor(dtype=kind.number)  # type: ignore[arg-type]
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if not array.shape:
        tensor.tensor_shape.SetInParent()
    if name == "string":
        tensor.string_val.extend(to_bytes(array))
        return tensor
    if name == "bfloat16":
        array = _bfloat16_bits(array)
    raw = np.asarray(array, kind.dtype.newbyteorder("<"))
    tensor.tensor_content = raw.tobytes()
    return tensor


def decode(tensor: wire_pb2.Tensor) -> NDArray[Any]:
    """The array a tensor of the wire holds, in either encoding.

    Returns:
        Array of the tensor's shape and dtype, writable. Strings are ``bytes`` in an object array.
        bfloat16 is ``ml_dtypes.bfloat16`` where that package is installed, else float32.

    Raises:
        BadAnswerError: for an unknown dtype, or values that do not fill the shape.
    """
    name = dtype_name(tensor.dtype)
    if name not in KINDS:
        raise BadAnswerError(f"A tensor of {name} came; known are {', '.join(KINDS)}.")
    kind = KINDS[name]
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = 1
    for size in shape:
        count *= size
        if size < 0 or count > MAX_ELEMENTS:
            raise BadAnswerError(f"A tensor's shape must be known and sane; got {shape}.")
    if tensor.tensor_shape.unknown_rank:
        raise BadAnswerError("A tensor's shape must be known; got one of unknown rank.")
    if tensor.tensor_content:
        flat = _from_content(tensor.tensor_content, name, kind, count)
    else:
        flat = _from_field(tensor, kind, count)
    if name == "bfloat16":
        flat = _widen(flat)
    return flat.reshape(shape)


def _from_content(content: bytes, name: str, kind: _Kind, count: int) -> NDArray[Any]:
    if name == "string":
        return _split(content, count)
    if len(content) != count * kind.dtype.itemsize:
        raise BadAnswerError(
            f"A {name} tensor of {count} elements takes {count * kind.dtype.itemsize} bytes; "
            f"got {len(content)}."
        )
    flat = np.frombuffer(bytearray(content), kind.dtype.newbyteorder("<"))
    return flat if sys.byteorder == "little" else flat.astype(kind.dtype)


def _from_field(tensor: wire_pb2.Tensor, kind: _Kind, count: int) -> NDArray[Any]:
    values = getattr(tensor, kind.field)
    parts = 2 if kind.dtype.kind == "c" else 1
    given = len(values)
    if given > count * parts or given % parts:
        raise BadAnswerError(f"A tensor of {count} elements came with {given // parts} values.")
    if kind.dtype.kind == "O":
        flat = np.empty(count, object)
        flat[:given] = values
        flat[given:] = values[-1] if given else b""
        return flat
    if kind.stored.kind == "f" and given > MANY:
        number = tensor.DESCRIPTOR.fields_by_name[kind.field].number
        stored = np.frombuffer(bytearray(packed(tensor, number)), kind.stored.newbyteorder("<"))
        flat = stored.astype(kind.stored, copy=False).view(kind.dtype)
    else:
        # Negative small integers arrive as int32, halves as the int32 of their bits.
        read = np.int64 if kind.field in ("int_val", "half_val") else kind.stored
        flat = np.fromiter(values, read, given).astype(kind.stored, copy=False).view(kind.dtype)
    if given == count * parts:
        return flat
    return np.concatenate([flat, np.full(count - len(flat), flat[-1] if given else 0, kind.dtype)])


def _split(content: bytes, count: int) -> NDArray[Any]:
    """Strings in ``tensor_content``: all lengths as varints, then all bytes."""
    lengths: list[int] = []
    at = 0
    try:
        for _ in range(count):
            length, at = varint(content, at)
            lengths.append(length)
    except (IndexError, ValueError):
        raise BadAnswerError(f"The lengths of {count} strings are cut off in the tensor.") from None
    if at + sum(lengths) != len(content):
        raise BadAnswerError(
            f"The strings of a tensor take {sum(lengths)} bytes; got {len(content) - at}."
        )
    flat = np.empty(count, object)
    for place, length in enumerate(lengths):
        flat[place] = content[at : at + length]
        at += length
    return flat


def _widen(bits: NDArray[Any]) -> NDArray[Any]:
    if ml_dtypes is not None:
        return bits.view(ml_dtypes.bfloat16)
    return (bits.astype(np.uint32) << 16).view(np.float32)
