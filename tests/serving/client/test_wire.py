"""The messages against the official ones, and the package without TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.unknown_fields import UnknownFieldSet
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    status_pb2,
)

from serving.client import generate, messages, wire_pb2

PAIRS = {
    "TensorShape": tensor_shape_pb2.TensorShapeProto,
    "Tensor": tensor_pb2.TensorProto,
    "ModelSpec": model_pb2.ModelSpec,
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "TensorInfo": meta_graph_pb2.TensorInfo,
    "SignatureDef": meta_graph_pb2.SignatureDef,
    "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
    "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
    "Status": status_pb2.StatusProto,
    "ModelVersionStatus": get_model_status_pb2.ModelVersionStatus,
    "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
}
ROOT = Path(__file__).resolve().parents[3]


def wire_type(field: FieldDescriptor) -> object:
    """What decides a field's bytes: an enum travels as an int32 does."""
    kinds = {FieldDescriptor.TYPE_ENUM: FieldDescriptor.TYPE_INT32}
    return kinds.get(field.type, field.type), field.is_repeated


def same_fields(mine: Descriptor, theirs: Descriptor) -> None:
    for field in mine.fields:
        other = theirs.fields_by_name[field.name]
        assert other.number == field.number, field.full_name
        assert wire_type(other) == wire_type(field), field.full_name
        # TensorInfo.name is left alone in its oneof here, which the wire cannot tell.
        names = [one and one.name for one in (field.containing_oneof, other.containing_oneof)]
        assert names[0] == names[1] or names == [None, "encoding"], field.full_name
        if field.message_type is not None and other.message_type is not None:
            same_fields(field.message_type, other.message_type)


@pytest.mark.parametrize("name", PAIRS)
def test_every_field_has_the_official_number_and_type(name: str) -> None:
    same_fields(getattr(wire_pb2, name).DESCRIPTOR, PAIRS[name].DESCRIPTOR)


def test_every_message_is_compared() -> None:
    assert set(PAIRS) | {"Int64Value", "Any"} == set(wire_pb2.DESCRIPTOR.message_types_by_name)


def test_enums_have_the_official_numbers() -> None:
    official = dict(types_pb2.DataType.items())
    assert all(official[name] == number for name, number in wire_pb2.DataType.items())
    states = get_model_status_pb2.ModelVersionStatus.State.items()
    assert wire_pb2.ModelVersionStatus.State.items() == states


def test_a_full_request_round_trips() -> None:
    mine = wire_pb2.PredictRequest(output_filter=["a", "b"])
    mine.model_spec.name, mine.model_spec.signature_name = "m", "recommend"
    mine.model_spec.version.value = 1 << 40
    mine.inputs["x"].CopyFrom(messages.tensors.encode(np.arange(6.0).reshape(2, 3)))
    theirs = predict_pb2.PredictRequest.FromString(mine.SerializeToString())
    assert theirs.model_spec.version.value == 1 << 40
    np.testing.assert_array_equal(tf.make_ndarray(theirs.inputs["x"]), np.arange(6.0).reshape(2, 3))
    assert len(UnknownFieldSet(theirs)) == len(UnknownFieldSet(theirs.inputs["x"])) == 0
    again = wire_pb2.PredictRequest.FromString(theirs.SerializeToString(deterministic=True))
    assert again == mine


def test_signatures_are_read_from_the_official_message() -> None:
    signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    signature.inputs["x"].dtype = types_pb2.DT_FLOAT
    signature.inputs["x"].tensor_shape.dim.add(size=-1)
    signature.inputs["x"].tensor_shape.dim.add(size=3)
    signature.inputs["any"].dtype = types_pb2.DT_STRING
    signature.inputs["any"].tensor_shape.unknown_rank = True
    signature.defaults["x"].CopyFrom(tf.make_tensor_proto(np.array([[1, 2, 3]], np.float32)))
    found = get_model_metadata_pb2.SignatureDefMap(signature_def={"s": signature})
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    answer.model_spec.version.value = 7
    answer.metadata["signature_def"].Pack(found)
    mine = wire_pb2.GetModelMetadataResponse.FromString(answer.SerializeToString())
    read = messages.to_metadata(messages.ModelRef("m"), mine)
    assert read.version == 7
    one = read.signatures["s"]
    assert one.inputs["x"] == messages.TensorSpec("float32", (None, 3))
    assert one.inputs["any"] == messages.TensorSpec("string", None)
    assert one.defaults["x"].tolist() == [[1, 2, 3]]


def test_our_messages_stay_out_of_the_default_pool() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("serving_client.wire.Tensor")
    assert wire_pb2.Tensor.DESCRIPTOR.file.pool is not descriptor_pool.Default()


def test_the_generated_files_are_up_to_date() -> None:
    for name, text in generate.render().items():
        assert (generate.HERE / name).read_text() == text, "run python -m serving.client.generate"


CLEAN = """
import sys
assert not any("site-packages" in p for p in sys.path), sys.path
for name in ("tensorflow", "tf_keras", "tensorflow_serving", "ml_dtypes", "tfrec"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} can be imported here: the environment is not clean")
import numpy as np
import serving.client as sc
from serving.client import tensors
assert tensors.ml_dtypes is None
bf16 = sc.decode(sc.encode(np.float32([1.5, -2]), "bfloat16"))
assert bf16.dtype == np.float32 and bf16.tolist() == [1.5, -2.0]
client = sc.Client("127.0.0.1:1", "m", timeout=0.5, retries=1)
try:
    client.recommend("u", 3)
except sc.UnavailableError as error:
    print("unavailable:", error.code)
loaded = {m.split(".")[0] for m in sys.modules}
print("third party:", sorted(loaded & {"numpy", "grpc", "google", "tensorflow", "absl", "yaml"}))
"""


def test_it_works_where_only_numpy_grpcio_and_protobuf_are(tmp_path: Path) -> None:
    import google.protobuf
    import grpc
    import typing_extensions  # what grpcio itself needs

    packages = tmp_path / "packages"
    (packages / "google").mkdir(parents=True)
    google_home = Path(google.protobuf.__file__).parents[1]
    links = {"numpy": Path(np.__file__).parent, "grpc": Path(grpc.__file__).parent}
    libraries = links["numpy"].with_name("numpy.libs")
    if libraries.is_dir():
        links["numpy.libs"] = libraries
    links |= {f"google/{part}": google_home / part for part in ("protobuf", "_upb")}
    links["typing_extensions.py"] = Path(typing_extensions.__file__)
    links["serving"] = ROOT / "serving"
    for name, target in links.items():
        (packages / name).symlink_to(target)
    first = f"import sys; sys.path.insert(0, {str(packages)!r})"
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-B",
            "-c",
            f"{first}\n{CLEAN}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "unavailable: UNAVAILABLE",
        "third party: ['google', 'grpc', 'numpy']",
    ]
