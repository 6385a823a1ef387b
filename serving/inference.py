"""Classify, Regress and MultiInference: tf.Examples in, classes and numbers out. No transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    regression_pb2,
)

from serving.bundle import DEFAULT_SIGNATURE, Signature, TensorRef
from serving.errors import (
    Code,
    ServingError,
    empty_input,
    failed_precondition,
    invalid,
    unknown_signature_inference,
)
from serving.predict import fill_spec
from serving.servable import Servable
from serving.tensors import dtype_name

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
_KIND = {CLASSIFY: "classification", REGRESS: "regression"}
Outputs = Mapping[str, NDArray[Any]]  # tensor name -> value


def serialized_examples(given: input_pb2.Input) -> NDArray[Any]:
    """Examples of an ``Input`` as ``[batch]`` bytes, a context merged into each.

    Where context and example share a feature, the example's wins.

    Raises:
        ServingError: INVALID_ARGUMENT for an empty input.
    """
    kind = given.WhichOneof("kind")
    if kind == "example_list":
        rows = [example.SerializeToString() for example in given.example_list.examples]
    elif kind == "example_list_with_context":
        rows = []
        for example in given.example_list_with_context.examples:
            merged = example_pb2.Example()
            merged.CopyFrom(given.example_list_with_context.context)
            for name, feature in example.features.feature.items():
                merged.features.feature[name].CopyFrom(feature)
            rows.append(merged.SerializeToString())
    else:
        rows = []
    if not rows:
        raise empty_input()
    out: NDArray[Any] = np.empty(len(rows), object)
    out[:] = rows
    return out


def _signature(servable: Servable, name: str, method: str) -> Signature:
    name = name or DEFAULT_SIGNATURE
    signature = servable.runner.signatures.get(name)
    if signature is None:
        raise unknown_signature_inference(name)
    _check(signature, method)
    return signature


def _check(signature: Signature, method: str) -> None:
    """What a classification or regression signature must look like."""
    kind = _KIND[method]
    if signature.method_name != method:
        raise invalid(
            f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if "inputs" not in signature.inputs:
        raise failed_precondition(
            f"No {kind} inputs found in SignatureDef: it must have an input named inputs, "
            f"not {sorted(signature.inputs)}"
        )
    outputs = signature.outputs
    if method == REGRESS:
        if len(outputs) != 1:
            raise invalid("Expected one output Tensor.")
        if "outputs" not in outputs:
            raise failed_precondition(
                f"No regression outputs found in SignatureDef: {sorted(outputs)}"
            )
        return
    if len(outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(outputs)}")
    if not {"classes", "scores"} & set(outputs):
        raise failed_precondition(
            "Expected classification signature outputs to contain at least one of "
            f'"classes" or "scores". Signature was: {sorted(outputs)}'
        )


def _fetches(signature: Signature) -> list[TensorRef]:
    names = ("classes", "scores") if signature.method_name == CLASSIFY else ("outputs",)
    return [signature.outputs[name] for name in names if name in signature.outputs]


def _run(
    servable: Servable, signatures: list[Signature], rows: NDArray[Any], timeout_s: float | None
) -> Outputs:
    """One graph call for the outputs of all signatures, which share their input."""
    fetches = list({ref.name: ref for s in signatures for ref in _fetches(s)}.values())
    values = servable.runner.run([(signatures[0].inputs["inputs"], rows)], fetches, timeout_s)
    return {ref.name: value for ref, value in zip(fetches, values, strict=True)}


def _column(signature: Signature, alias: str, outputs: Outputs, rows: int) -> NDArray[Any] | None:
    """A classification output, checked: ``[batch, classes]``."""
    ref = signature.outputs.get(alias)
    if ref is None:
        return None
    value = outputs[ref.name]
    if value.ndim != 2:
        raise invalid(
            f"Expected Tensor shape: [batch_size num_classes] but got {list(value.shape)}"
        )
    want = np.dtype(object) if alias == "classes" else np.dtype(np.float32)
    if value.dtype != want:
        kind = "STRING" if alias == "classes" else "FLOAT"
        got = dtype_name(ref.dtype).upper()
        raise invalid(f"Expected {alias} Tensor of DT_{kind}. Got: DT_{got}")
    if len(value) != rows:
        raise invalid(f"Expected {alias} output batch size of {rows}. Got: {len(value)}")
    return value


def _classifications(
    signature: Signature, outputs: Outputs, rows: int, into: classification_pb2.ClassificationResult
) -> None:
    classes = _column(signature, "classes", outputs, rows)
    scores = _column(signature, "scores", outputs, rows)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid(
            "Tensors class and score should match in dim_size(1). "
            f"Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    labels = None if classes is None else classes.tolist()
    numbers = None if scores is None else scores.tolist()
    make = classification_pb2.Class
    for row in range(rows):
        target = into.classifications.add().classes
        if labels is None and numbers is not None:
            target.extend([make(score=score) for score in numbers[row]])
        elif labels is not None:
            # a label is a string field, so it must be UTF-8 whatever the graph made
            names = [label.decode("utf-8", "replace") for label in labels[row]]
            if numbers is None:
                target.extend([make(label=name) for name in names])
            else:
                pairs = zip(names, numbers[row], strict=True)
                target.extend([make(label=name, score=score) for name, score in pairs])


def _regressions(
    signature: Signature, outputs: Outputs, rows: int, into: regression_pb2.RegressionResult
) -> None:
    ref = signature.outputs["outputs"]
    value = outputs[ref.name]
    if not (value.ndim == 1 or (value.ndim == 2 and value.shape[1] == 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            f"but got {list(value.shape)}"
        )
    if len(value) != rows:
        raise invalid(f"Input batch size did not match output batch size: {rows} vs. {len(value)}")
    if value.dtype != np.float32:
        got = dtype_name(ref.dtype).upper()
        raise invalid(f"Expected output Tensor of DT_FLOAT. Got: DT_{got}")
    make = regression_pb2.Regression
    into.regressions.extend([make(value=number) for number in value.ravel().tolist()])


def classify(
    servable: Servable,
    request: classification_pb2.ClassificationRequest,
    timeout_s: float | None = None,
) -> classification_pb2.ClassificationResponse:
    """Answers a ClassificationRequest.

    Raises:
        ServingError: INVALID_ARGUMENT for an unknown or unfit signature, an empty input or outputs
            that are no ``[batch, classes]``; what the graph says otherwise.
    """
    signature = _signature(servable, request.model_spec.signature_name, CLASSIFY)
    rows = serialized_examples(request.input)
    outputs = _run(servable, [signature], rows, timeout_s)
    response = classification_pb2.ClassificationResponse()
    fill_spec(response.model_spec, servable, signature.name)
    _classifications(signature, outputs, len(rows), response.result)
    return response


def regress(
    servable: Servable, request: regression_pb2.RegressionRequest, timeout_s: float | None = None
) -> regression_pb2.RegressionResponse:
    """Answers a RegressionRequest from outputs ``[batch]`` or ``[batch, 1]``.

    Raises:
        ServingError: as :func:`classify`.
    """
    signature = _signature(servable, request.model_spec.signature_name, REGRESS)
    rows = serialized_examples(request.input)
    outputs = _run(servable, [signature], rows, timeout_s)
    response = regression_pb2.RegressionResponse()
    fill_spec(response.model_spec, servable, signature.name)
    _regressions(signature, outputs, len(rows), response.result)
    return response


def multi_inference(
    servable: Servable, request: inference_pb2.MultiInferenceRequest, timeout_s: float | None = None
) -> inference_pb2.MultiInferenceResponse:
    """Answers several signatures of one model with one graph call.

    Raises:
        ServingError: INVALID_ARGUMENT for two models, a repeated or unknown signature or different
            inputs; UNIMPLEMENTED for a method that is neither classify nor regress.
    """
    signatures: list[Signature] = []
    for task in request.tasks:
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.model_spec.name != servable.name:
            raise invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if any(name == signature.name for signature in signatures):
            raise invalid(f"Duplicate evaluation of signature: {name}")
        signature = servable.runner.signatures.get(name)
        if signature is None:
            raise invalid(f"Requested signature not found in model graph: {name}")
        if task.method_name not in _KIND:
            raise ServingError(
                Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
            )
        _check(signature, task.method_name)
        if signatures and signatures[0].inputs["inputs"].name != signature.inputs["inputs"].name:
            raise invalid("Input tensor must be the same for all Signatures.")
        signatures.append(signature)
    rows = serialized_examples(request.input)
    response = inference_pb2.MultiInferenceResponse()
    outputs = _run(servable, signatures, rows, timeout_s)
    for signature in signatures:
        result = response.results.add()
        fill_spec(result.model_spec, servable, signature.name)
        if signature.method_name == CLASSIFY:
            _classifications(signature, outputs, len(rows), result.classification_result)
        else:
            _regressions(signature, outputs, len(rows), result.regression_result)
    return response
