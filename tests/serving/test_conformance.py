"""The protocol table over gRPC, by the official stubs: answers, codes and texts."""

from __future__ import annotations

import re
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.serving.conftest import Client, array, tensor

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def request(model: str = "half_plus_two", **inputs: Any) -> Any:
    made = predict_pb2.PredictRequest()
    made.model_spec.name = model
    for alias, value in inputs.items():
        made.inputs[alias].CopyFrom(tensor(value, np.float32) if alias == "x" else value)
    return made


def example(x: float | None = None) -> example_pb2.Example:
    made = example_pb2.Example()
    if x is not None:
        made.features.feature["x"].float_list.value.append(x)
    return made


def examples(*values: float) -> input_pb2.Input:
    made = input_pb2.Input()
    made.example_list.examples.extend(map(example, values))
    return made


def refused(call: Any, message: Any, code: grpc.StatusCode, text: str) -> None:
    """The call fails with this code and a text that contains this one."""
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=30)
    assert (caught.value.code(), text in caught.value.details()) == (code, True), caught.value


# -- Predict -----------------------------------------------------------------------------------


def test_predict_answers_in_typed_fields_with_the_resolved_spec(client: Client) -> None:
    response = client.prediction.Predict(request(x=[[1.0], [2.0], [5.0]]), timeout=30)
    assert list(response.outputs["y"].float_val) == [2.5, 3.0, 4.5]
    assert response.outputs["y"].tensor_content == b""
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (
        "half_plus_two",
        123,
        "serving_default",
    )


def test_both_input_encodings_are_read(client: Client) -> None:
    made = request()
    made.inputs["x"].CopyFrom(tf.make_tensor_proto(array.float32([[1], [2]])))
    assert made.inputs["x"].tensor_content
    response = client.prediction.Predict(made, timeout=30)
    assert list(response.outputs["y"].float_val) == [2.5, 3.0]


def test_a_shape_unlike_the_placeholders_is_the_ops_affair(client: Client) -> None:
    response = client.prediction.Predict(request(x=[4.0]), timeout=30)  # (None, 1) placeholder
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [4.0]


def test_one_value_fills_a_shape(client: Client) -> None:
    made = request()
    made.inputs["x"].CopyFrom(
        text_format.Parse(
            "dtype: DT_FLOAT tensor_shape { dim { size: 3 } dim { size: 1 } } float_val: 2",
            tensor_pb2.TensorProto(),
        )
    )
    response = client.prediction.Predict(made, timeout=30)
    assert list(response.outputs["y"].float_val) == [3.0, 3.0, 3.0]


def test_versions_and_labels(client: Client) -> None:
    def version(**spec: Any) -> int:
        made = request("two_versions", x=[[0.0]])
        if "number" in spec:
            made.model_spec.version.value = spec["number"]
        if "label" in spec:
            made.model_spec.version_label = spec["label"]
        response = client.prediction.Predict(made, timeout=30)
        assert response.outputs["y"].float_val[0] == response.model_spec.version.value + 1
        return response.model_spec.version.value

    assert version() == 2  # the largest
    assert (version(number=1), version(number=2)) == (1, 2)
    assert (version(label="stable"), version(label="canary")) == (1, 2)


def test_output_filter(client: Client) -> None:
    made = request("types", a=tensor(2.0, np.float32), b=tensor(3, np.int64))
    assert set(client.prediction.Predict(made, timeout=30).outputs) == {"sum", "first"}
    made.output_filter.append("sum")
    response = client.prediction.Predict(made, timeout=30)
    assert {k: list(v.float_val) for k, v in response.outputs.items()} == {"sum": [5.0]}
    made.output_filter.append("sum")
    refused(client.prediction.Predict, made, INVALID, "duplicate output tensor alias: sum")
    made.output_filter[:] = ["nope"]
    refused(
        client.prediction.Predict,
        made,
        INVALID,
        "output tensor alias not found in signature: nope",
    )


@pytest.mark.parametrize(
    ("spec", "code", "text"),
    [
        ('name: ""', INVALID, "ModelSpec has no name specified."),
        ('name: "m"', NOT_FOUND, "Servable not found for request: Latest(m)"),
        (
            'name: "half_plus_two" version { value: 7 }',
            NOT_FOUND,
            "Servable not found for request: Specific(half_plus_two, 7)",
        ),
        (
            'name: "two_versions" version_label: "x"',
            INVALID,
            "Unrecognized servable version label: x",
        ),
        (
            'name: "half_plus_two" signature_name: "x"',
            PRECONDITION,
            'Serving signature key "x" not found.',
        ),
    ],
)
def test_model_specs_that_name_nothing(
    client: Client, spec: str, code: grpc.StatusCode, text: str
) -> None:
    made = request(x=[[1.0]])
    made.ClearField("model_spec")
    text_format.Merge(spec, made.model_spec)
    made.model_spec.SetInParent()
    refused(client.prediction.Predict, made, code, text)


def test_a_missing_model_spec(client: Client) -> None:
    made = predict_pb2.PredictRequest()
    made.inputs["x"].CopyFrom(tensor([[1.0]], np.float32))
    refused(client.prediction.Predict, made, INVALID, "Missing ModelSpec")


def test_wrong_inputs(client: Client) -> None:
    call = client.prediction.Predict
    refused(call, request(), INVALID, "input size does not match signature: 0!=1 len({})")
    refused(call, request(), INVALID, "Sent extra: {}. Missing but required: {x}.")
    extra = request(x=[[1.0]], z=tensor([[1.0]], np.float32))
    refused(call, extra, INVALID, "input size does not match signature: 2!=1 len({x,z})")
    refused(call, extra, INVALID, "Sent extra: {z}. Missing but required: {}.")
    renamed = request(z=tensor([[1.0]], np.float32))
    refused(call, renamed, INVALID, "Signature input alias: ")


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.int32, bool, object])
def test_dtypes_are_not_cast(client: Client, dtype: Any) -> None:
    value = tensor([["a"]]) if dtype is object else tensor([[1]], dtype)
    made = request()
    made.inputs["x"].CopyFrom(value)
    refused(client.prediction.Predict, made, INVALID, "")


def test_what_an_op_says_reaches_the_caller_cut_at_1024(client: Client) -> None:
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = "types", "matmul"
    made.inputs["x"].CopyFrom(tensor(np.ones([2, 3], np.float32)))
    made.inputs["w"].CopyFrom(tensor(np.ones([2, 3], np.float32)))
    refused(client.prediction.Predict, made, INVALID, "Matrix size-incompatible")
    made = request(x=[[1.0]])
    made.output_filter.append("n" * 5000)
    with pytest.raises(grpc.RpcError) as caught:
        client.prediction.Predict(made, timeout=30)
    assert re.fullmatch(r"output tensor.{1000,}\.\.\.TRUNCATED", caught.value.details(), re.S)
    assert len(caught.value.details()) == 1024 + len("...TRUNCATED")


@pytest.mark.parametrize(
    "value",
    [
        array.float32([1.5, -2.25, np.inf]),
        array.float64([[1e300], [-0.1]]),
        array.float16([0.5, 65504]),
        array.int8([-128, 127]),
        array.int16([-32768, 7]),
        array.int32([[2**31 - 1, -(2**31)]]),
        array.int64([2**63 - 1, -(2**63)]),
        array.uint8([0, 255]),
        array.uint16([0, 65535]),
        array.uint32([0, 2**32 - 1]),
        array.uint64([0, 2**64 - 1]),
        np.array([True, False]),
        np.array([b"", b"\x00\xff", "é".encode()], object),
        array.complex64([1 + 2j, -3j]),
        array.float32(7),
        np.zeros([0, 3], np.float32),
    ],
    ids=lambda value: f"{value.dtype}-{value.shape}",
)
def test_every_dtype_passes_through_both_encodings(client: Client, value: np.ndarray) -> None:
    name = "string" if value.dtype == object else str(value.dtype)
    for proto in (tensor(value), tf.make_tensor_proto(value)):
        made = predict_pb2.PredictRequest()
        made.model_spec.name, made.model_spec.signature_name = "types", f"identity_{name}"
        made.inputs["x"].CopyFrom(proto)
        answer = client.prediction.Predict(made, timeout=30).outputs["y"]
        assert answer.tensor_content == b""
        got = tf.make_ndarray(answer)
        assert got.shape == value.shape
        assert got.tolist() == value.tolist()


def test_bfloat16(client: Client) -> None:
    value = tf.constant([1.5, -2.0], tf.bfloat16).numpy()
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = "types", "identity_bfloat16"
    made.inputs["x"].CopyFrom(tensor(value))
    answer = client.prediction.Predict(made, timeout=30).outputs["y"]
    assert tf.make_ndarray(answer).tolist() == [1.5, -2.0]


def test_a_deadline_stops_the_graph(client: Client) -> None:
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "busy"
    made.inputs["n"].CopyFrom(tensor([10**12], np.int64))
    with pytest.raises(grpc.RpcError) as caught:
        client.prediction.Predict(made, timeout=0.3)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    made.inputs["n"].CopyFrom(tensor([3], np.int64))  # and the server still answers
    assert list(client.prediction.Predict(made, timeout=30).outputs["done"].int64_val) == [3]


# -- Classify, Regress, MultiInference ----------------------------------------------------------


def inference(kind: Any, signature: str, given: input_pb2.Input) -> Any:
    made = kind(input=given)
    made.model_spec.name, made.model_spec.signature_name = "half_plus_two", signature
    return made


def test_classify(client: Client) -> None:
    made = inference(classification_pb2.ClassificationRequest, "classify", examples(2, 4))
    response = client.prediction.Classify(made, timeout=30)
    found = [[(c.label, c.score) for c in r.classes] for r in response.result.classifications]
    assert found == [[("up", 3.0), ("down", -3.0)], [("up", 4.0), ("down", -4.0)]]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (
        "half_plus_two",
        123,
        "classify",
    )


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("classify_scores", [("", 3.0), ("", -3.0)]),
        ("classify_classes", [("up", 0.0), ("down", 0.0)]),
    ],
)
def test_classify_by_scores_or_classes_alone(
    client: Client, signature: str, expected: list[tuple[str, float]]
) -> None:
    made = inference(classification_pb2.ClassificationRequest, signature, examples(2))
    response = client.prediction.Classify(made, timeout=30)
    (row,) = response.result.classifications
    assert [(c.label, c.score) for c in row.classes] == expected


def test_regress(client: Client) -> None:
    made = inference(regression_pb2.RegressionRequest, "regress", examples(2, 4))
    response = client.prediction.Regress(made, timeout=30)
    assert [r.value for r in response.result.regressions] == [3.0, 4.0]
    assert response.model_spec.signature_name == "regress"


def test_a_context_is_merged_and_the_example_wins(client: Client) -> None:
    given = input_pb2.Input()
    given.example_list_with_context.context.CopyFrom(example(10))
    given.example_list_with_context.examples.extend([example(), example(2)])
    made = inference(regression_pb2.RegressionRequest, "regress", given)
    response = client.prediction.Regress(made, timeout=30)
    assert [r.value for r in response.result.regressions] == [7.0, 3.0]


@pytest.mark.parametrize("given", [input_pb2.Input(), examples()])
def test_an_empty_input(client: Client, given: input_pb2.Input) -> None:
    for call, kind, signature in (
        (client.prediction.Classify, classification_pb2.ClassificationRequest, "classify"),
        (client.prediction.Regress, regression_pb2.RegressionRequest, "regress"),
    ):
        refused(call, inference(kind, signature, given), INVALID, "Input is empty")


def test_signatures_that_do_not_fit_the_method(client: Client) -> None:
    classify, regress = client.prediction.Classify, client.prediction.Regress
    text = "No signature was found with the name: x"
    refused(
        classify,
        inference(classification_pb2.ClassificationRequest, "x", examples(1)),
        INVALID,
        text,
    )
    refused(regress, inference(regression_pb2.RegressionRequest, "x", examples(1)), INVALID, text)
    refused(
        classify,
        inference(classification_pb2.ClassificationRequest, "regress", examples(1)),
        INVALID,
        "Expected classification signature method_name to be tensorflow/serving/classify",
    )
    refused(
        regress,
        inference(regression_pb2.RegressionRequest, "", examples(1)),
        INVALID,
        "Expected regression signature method_name to be tensorflow/serving/regress",
    )


def test_an_unparsable_example(client: Client) -> None:
    made = inference(regression_pb2.RegressionRequest, "regress", input_pb2.Input())
    made.input.example_list.examples.extend([example()])  # feature x is missing
    refused(client.prediction.Regress, made, INVALID, "")


def multi(*tasks: tuple[str, str, str]) -> Any:
    made = inference_pb2.MultiInferenceRequest(input=examples(2, 4))
    for model, signature, method in tasks:
        task = made.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = model, signature
    return made


def test_multi_inference(client: Client) -> None:
    made = multi(("half_plus_two", "regress", "regress"), ("half_plus_two", "classify", "classify"))
    first, second = client.prediction.MultiInference(made, timeout=30).results
    assert [r.value for r in first.regression_result.regressions] == [3.0, 4.0]
    scores = [c.score for r in second.classification_result.classifications for c in r.classes]
    assert scores == [3.0, -3.0, 4.0, -4.0]
    for result, signature in ((first, "regress"), (second, "classify")):
        assert result.model_spec.signature_name == signature
        assert result.model_spec.version.value == 123


@pytest.mark.parametrize(
    ("tasks", "code", "text"),
    [
        (
            [("half_plus_two", "regress", "regress")] * 2,
            INVALID,
            "Duplicate evaluation of signature: regress",
        ),
        (
            [("half_plus_two", "regress", "regress"), ("types", "classify", "classify")],
            INVALID,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name",
        ),
        ([("half_plus_two", "x", "regress")], INVALID, "Requested signature not found"),
        (
            [("half_plus_two", "regress", "predict")],
            grpc.StatusCode.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        ([("nope", "regress", "regress")], NOT_FOUND, "Servable not found"),
    ],
)
def test_multi_inference_refusals(
    client: Client, tasks: list[tuple[str, str, str]], code: grpc.StatusCode, text: str
) -> None:
    refused(client.prediction.MultiInference, multi(*tasks), code, text)


# -- metadata, status, health -------------------------------------------------------------------


def metadata_request(*fields: str, model: str = "half_plus_two") -> Any:
    made = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    made.model_spec.name = model
    return made


def test_metadata(client: Client) -> None:
    response = client.prediction.GetModelMetadata(metadata_request("signature_def"), timeout=30)
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("half_plus_two", 123, "")
    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    assert set(found.signature_def) >= {"serving_default", "classify", "regress"}
    assert found.signature_def["serving_default"].inputs["x"].dtype == tf.float32.as_datatype_enum


def test_metadata_refusals(client: Client) -> None:
    call = client.prediction.GetModelMetadata
    refused(call, metadata_request(), INVALID, "must specify at least one metadata_field")
    refused(call, metadata_request("x"), INVALID, "is not supported")
    refused(call, metadata_request("signature_def", model="m"), NOT_FOUND, "Latest(m)")
    made = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    refused(call, made, INVALID, "Missing ModelSpec")


def test_status(client: Client) -> None:
    found = client.status("two_versions")
    available = get_model_status_pb2.ModelVersionStatus.State.Value("AVAILABLE")
    assert {version: entry.state for version, entry in found.items()} == {
        1: available,
        2: available,
    }
    assert {entry.status.error_code for entry in found.values()} == {0}
    made = get_model_status_pb2.GetModelStatusRequest()
    made.model_spec.name, made.model_spec.version.value = "two_versions", 2
    (only,) = client.models.GetModelStatus(made, timeout=30).model_version_status
    assert only.version == 2


def test_status_of_what_is_not_there(client: Client) -> None:
    made = get_model_status_pb2.GetModelStatusRequest()
    refused(client.models.GetModelStatus, made, INVALID, "Missing ModelSpec")
    made.model_spec.name = "m"
    refused(client.models.GetModelStatus, made, NOT_FOUND, "Could not find any versions of model m")
    made.model_spec.name, made.model_spec.version.value = "two_versions", 9
    refused(client.models.GetModelStatus, made, NOT_FOUND, "Could not find version 9 of model two_")


def test_session_service_is_unimplemented(client: Client) -> None:
    call = client.channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_bytes_that_are_no_request(embedded: Client) -> None:
    call = embedded.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff", timeout=30)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
