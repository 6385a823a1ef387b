"""TensorProto and numpy, against TensorFlow's own two functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.errors import Code, ServingError
from serving.tensors import decode, encode

NUMBERS = st.sampled_from(
    ["f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16"]
)
ARRAYS = NUMBERS.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
STRINGS = st.lists(st.binary(max_size=200), max_size=6).map(lambda v: np.array([*v, b"x"], object))


def same(left: np.ndarray, right: np.ndarray) -> None:
    assert left.shape == right.shape
    assert left.dtype == right.dtype
    if left.dtype == object:
        assert left.tolist() == right.tolist()
    else:
        np.testing.assert_array_equal(left, right)


@given(st.one_of(ARRAYS, STRINGS))
@settings(max_examples=300, deadline=None)
def test_three_ways_agree(array: np.ndarray) -> None:
    proto = encode(array)
    assert proto.tensor_content == b""
    same(np.asarray(tf.make_ndarray(proto)), array)  # TensorFlow reads what we write
    same(decode(proto), array)
    if array.size or array.dtype != object:
        same(decode(tf.make_tensor_proto(array)), array)  # and we read what it writes


def test_strings_in_tensor_content() -> None:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING)
    proto.tensor_shape.dim.add().size = 3
    long = b"z" * 300
    proto.tensor_content = bytes([1, 0, 0xAC, 0x02]) + b"a" + long
    assert decode(proto).tolist() == [b"a", b"", long]


def proto_of(shape: list[int], dtype: int = types_pb2.DT_FLOAT, **fields: Any) -> Any:
    made = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in shape:
        made.tensor_shape.dim.add().size = size
    return made


def test_fewer_values_repeat_the_last_and_more_are_dropped() -> None:
    assert decode(proto_of([4], float_val=[1, 2])).tolist() == [1, 2, 2, 2]
    assert decode(proto_of([2])).tolist() == [0, 0]
    assert decode(proto_of([1], float_val=[5, 6, 7])).tolist() == [5]
    assert decode(proto_of([2], types_pb2.DT_STRING, string_val=[b"a"])).tolist() == [b"a", b"a"]


@pytest.mark.parametrize(
    "proto",
    [
        proto_of([2], tensor_content=b"\0" * 7),
        proto_of([-1], float_val=[1]),
        proto_of([2**40], float_val=[1]),
        proto_of([2**62, 2**62], float_val=[1]),
        proto_of([1], types_pb2.DT_RESOURCE),
        proto_of([1], 0),
        proto_of([1], 12345),
        proto_of([1] * 100, float_val=[1]),
        proto_of([2], types_pb2.DT_STRING, tensor_content=b"\x01\x05a"),
        proto_of([2], types_pb2.DT_STRING, tensor_content=b"\xff\xff\xff"),
        tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape={"unknown_rank": True}),
    ],
)
def test_what_does_not_fit_is_refused(proto: Any) -> None:
    with pytest.raises(ServingError, match="tensor parsing error: alias") as caught:
        decode(proto, "alias")
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_an_array_no_field_can_hold() -> None:
    with pytest.raises(ServingError, match="datetime64"):
        encode(np.array(["2026-01-01"], "datetime64[s]"))
