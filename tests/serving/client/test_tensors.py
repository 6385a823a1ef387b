"""The codec against TensorFlow's own: every dtype, both encodings, any shape."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2

from serving.client import BadAnswerError, BadInputError, decode, encode, tensors, wire_pb2

NUMERIC = [name for name in tensors.KINDS if name not in ("string", "bfloat16")]


def official(tensor: wire_pb2.Tensor) -> tensor_pb2.TensorProto:
    """Our message read by TensorFlow's class: the wire is what both share."""
    return tensor_pb2.TensorProto.FromString(tensor.SerializeToString())


def ours(proto: tensor_pb2.TensorProto) -> wire_pb2.Tensor:
    return wire_pb2.Tensor.FromString(proto.SerializeToString())


def typed(array: np.ndarray, name: str) -> tensor_pb2.TensorProto:
    """The array in the typed field, as TensorFlow Serving answers."""
    proto = tf.make_tensor_proto(np.zeros(0, array.dtype), shape=[0])
    del proto.tensor_shape.dim[:]
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    field = getattr(proto, tensors.KINDS[name].field)
    if name in ("float16", "bfloat16"):
        field.extend(array.ravel().view(np.uint16).tolist())
    elif name.startswith("complex"):
        field.extend(array.ravel().view(array.real.dtype).tolist())
    else:
        field.extend(array.ravel().tolist())
    return proto


def arrays() -> st.SearchStrategy[tuple[str, np.ndarray]]:
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    return st.sampled_from(NUMERIC).flatmap(
        lambda name: hnp.arrays(tensors.KINDS[name].dtype, shapes).map(lambda a: (name, a))
    )


def texts() -> st.SearchStrategy[np.ndarray]:
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    return hnp.arrays(object, shapes, elements=st.binary(max_size=12))


@settings(max_examples=150, deadline=None)
@given(arrays())
def test_numbers_both_ways_in_both_encodings(case: tuple[str, np.ndarray]) -> None:
    name, array = case
    proto = official(encode(array))
    assert proto.dtype == tf.as_dtype(array.dtype).as_datatype_enum
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)
    for answer in (tf.make_tensor_proto(array), typed(array, name)):
        read = decode(ours(answer))
        assert read.dtype == array.dtype
        assert read.shape == array.shape
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("name", NUMERIC)
@pytest.mark.parametrize("count", [tensors.MANY, tensors.MANY + 1, 1000])
def test_many_values_in_the_typed_field(name: str, count: int) -> None:
    values = np.random.default_rng(count).integers(-100, 100, 2 * count)
    array = values[:count].astype(tensors.KINDS[name].dtype)
    if name.startswith("complex"):
        array += 1j * values[count:].astype(array.real.dtype)
    proto = typed(array, name)
    np.testing.assert_array_equal(decode(ours(proto)), array)
    proto.tensor_shape.dim[0].size = count + 5  # the last value fills the rest
    read = decode(ours(proto))
    np.testing.assert_array_equal(read, np.concatenate([array, array[-1:].repeat(5)]))


def test_floats_in_several_pieces_and_unpacked() -> None:
    """Both are allowed on the wire, though no server is known to write them."""
    values = np.arange(100, dtype="<f4")

    def field(data: bytes) -> bytes:
        return bytes([5 << 3 | 2, len(data)]) + data

    head = wire_pb2.Tensor(dtype="DT_FLOAT")
    head.tensor_shape.dim.add(size=100)
    unpacked = b"".join(bytes([5 << 3 | 5]) + one.tobytes() for one in values[60:])
    body = field(values[:30].tobytes()) + field(values[30:60].tobytes()) + unpacked
    read = decode(wire_pb2.Tensor.FromString(head.SerializeToString() + body))
    np.testing.assert_array_equal(read, values)


@settings(max_examples=100, deadline=None)
@given(texts())
def test_strings_both_ways(array: np.ndarray) -> None:
    read = tf.make_ndarray(official(encode(array)))
    assert read.shape == array.shape
    assert read.tolist() == array.tolist()
    back = decode(ours(tf.make_tensor_proto(array, tf.string, array.shape)))
    assert back.shape == array.shape
    assert back.tolist() == array.tolist()


@settings(max_examples=100, deadline=None)
@given(texts())
def test_strings_in_tensor_content_as_tensorflow_reads_them(array: np.ndarray) -> None:
    def varint(n: int) -> bytes:
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

    values = [one * 20 for one in array.ravel().tolist()]  # some lengths of more than a byte
    proto = tensor_pb2.TensorProto(dtype=tf.string.as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_content = b"".join(varint(len(v)) for v in values) + b"".join(values)
    oracle = tf.io.parse_tensor(proto.SerializeToString(), tf.string).numpy()
    read = decode(ours(proto))
    assert read.tolist() == np.asarray(oracle, object).tolist()
    assert read.ravel().tolist() == values


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=5)))
def test_bfloat16_rounds_as_tensorflow_does(array: np.ndarray) -> None:
    oracle = tf.cast(array, tf.bfloat16).numpy()
    sent = tf.make_ndarray(official(encode(array, "bfloat16")))
    np.testing.assert_array_equal(sent.astype(np.float32), oracle.astype(np.float32))
    for proto in (typed(oracle, "bfloat16"), official(encode(oracle))):
        read = decode(ours(proto))
        assert read.dtype == oracle.dtype
        np.testing.assert_array_equal(read.astype(np.float32), oracle.astype(np.float32))


def test_bfloat16_reads_as_float32_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array([1.5, -2.0, 3.140625, np.inf, np.nan], np.float32)
    proto = typed(tf.cast(values, tf.bfloat16).numpy(), "bfloat16")
    monkeypatch.setattr(tensors, "ml_dtypes", None)
    read = decode(ours(proto))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("name", [*NUMERIC, "string"])
@pytest.mark.parametrize("given_values", [0, 1, 2])
def test_few_values_repeat_the_last_to_the_end(name: str, given_values: int) -> None:
    dtype = tensors.KINDS[name].dtype
    values: Any = np.array([b"a", b"b"], object) if name == "string" else np.array([1, 0], dtype)
    values = values[:given_values]
    proto = typed(values, name) if name != "string" else tf.make_tensor_proto(values, tf.string)
    proto.tensor_shape.dim[0].size = 4
    oracle = tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(proto.dtype)).numpy()
    read = decode(ours(proto))
    assert read.tolist() == oracle.tolist()
    assert len(read) == 4


def test_text_and_objects_are_encoded_as_utf8() -> None:
    rows: Any = [["Zoë", b"\xff\x00"], [b"x", ""]]
    read = decode(encode(rows))
    assert read.tolist() == [["Zoë".encode(), b"\xff\x00"], [b"x", b""]]
    assert decode(encode(np.array(["a", "bc"]))).tolist() == [b"a", b"bc"]
    assert decode(encode(np.array([b"a", b"bc"]))).tolist() == [b"a", b"bc"]


def test_foreign_byte_order_and_strides() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4)
    np.testing.assert_array_equal(tf.make_ndarray(official(encode(array))), array)
    np.testing.assert_array_equal(tf.make_ndarray(official(encode(array.T[::2]))), array.T[::2])


def test_a_decoded_array_can_be_written() -> None:
    read = decode(encode(np.zeros(3, np.float32)))
    read += 1
    assert read.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (np.array(["2020-01-01"], "datetime64[D]"), "dtype must be one of"),
        ([{"a": 1}], "must be str or bytes"),
        ([None, "a"], "must be str or bytes; got NoneType"),
        (["\ud800"], "UTF-8"),
        ([[1, 2], [3]], "regular array"),
    ],
)
def test_what_cannot_travel_is_refused(value: Any, rule: str) -> None:
    with pytest.raises(BadInputError, match=rule):
        encode(value)


def tensor(dtype: str, shape: list[int], **fields: Any) -> wire_pb2.Tensor:
    made = wire_pb2.Tensor(dtype=dtype, **fields)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (tensor("DT_FLOAT", [2], tensor_content=b"123"), "takes 8 bytes; got 3"),
        (tensor("DT_FLOAT", [1], float_val=[1, 2]), "came with 2 values"),
        (tensor("DT_COMPLEX64", [2], scomplex_val=[1, 2, 3]), "came with 1 values"),
        (tensor("DT_FLOAT", [-1]), "known and sane"),
        (tensor("DT_FLOAT", [1 << 40], float_val=[1]), "known and sane"),
        (tensor("DT_STRING", [2], tensor_content=b"\x01"), "cut off"),
        (tensor("DT_STRING", [2], tensor_content=b"\x01\x01a"), "take 2 bytes; got 1"),
        (tensor("DT_STRING", [1], tensor_content=b"\xff" * 9), "cut off"),
        (tensor("DT_INVALID", [1]), "dtype 0"),
        (wire_pb2.Tensor.FromString(b"\x08\x14"), "dtype 20"),
    ],
)
def test_a_malformed_tensor_is_refused(bad: wire_pb2.Tensor, rule: str) -> None:
    with pytest.raises(BadAnswerError, match=rule):
        decode(bad)


def test_unknown_rank_is_refused() -> None:
    bad = tensor("DT_FLOAT", [])
    bad.tensor_shape.unknown_rank = True
    with pytest.raises(BadAnswerError, match="unknown rank"):
        decode(bad)
