"""Requests and answers as messages of the wire: shared by the blocking and the asyncio client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError, Message

from serving.client import tensors, wire_pb2
from serving.client.errors import BadAnswerError
from serving.client.results import (
    Metadata,
    ModelStatus,
    Prediction,
    Signature,
    TensorSpec,
    VersionStatus,
)
from serving.client.steps import GetMetadata, GetStatus, ModelRef, Predict

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

# The codes of gRPC and of TensorFlow, by number.
_CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)

RESPONSES: dict[str, Callable[[bytes], Message]] = {
    PREDICT: wire_pb2.PredictResponse.FromString,
    METADATA: wire_pb2.GetModelMetadataResponse.FromString,
    STATUS: wire_pb2.GetModelStatusResponse.FromString,
}


def code_name(number: int) -> str:
    """Name of a status code; ``UNKNOWN`` for a number nobody defined."""
    return _CODES[number] if 0 <= number < len(_CODES) else "UNKNOWN"


def model_spec(model: ModelRef, signature: str = "") -> wire_pb2.ModelSpec:
    """The wire's name for a model, its version or label and a signature."""
    spec = wire_pb2.ModelSpec(name=model.name, signature_name=signature)
    if model.version is not None:
        spec.version.value = model.version
    elif model.label is not None:
        spec.version_label = model.label
    return spec


def to_message(request: Predict | GetMetadata | GetStatus) -> tuple[str, Message]:
    """The gRPC method's path and its request message."""
    if isinstance(request, GetMetadata):
        return METADATA, wire_pb2.GetModelMetadataRequest(
            model_spec=model_spec(request.model), metadata_field=["signature_def"]
        )
    if isinstance(request, GetStatus):
        return STATUS, wire_pb2.GetModelStatusRequest(model_spec=model_spec(request.model))
    message = wire_pb2.PredictRequest(
        model_spec=model_spec(request.model, request.signature), output_filter=request.outputs
    )
    for name, array in request.inputs.items():
        dtype = request.spec.inputs[name].dtype if request.spec else None
        message.inputs[name].CopyFrom(tensors.encode(array, dtype))
    return PREDICT, message


def from_message(request: Predict | GetMetadata | GetStatus, message: Any) -> Any:
    """The answer a message holds: a `Prediction`, a `Metadata` or a `ModelStatus`."""
    if isinstance(request, GetMetadata):
        return to_metadata(request.model, message)
    if isinstance(request, GetStatus):
        return to_status(request.model, message)
    outputs = {name: tensors.decode(tensor) for name, tensor in message.outputs.items()}
    return Prediction(outputs, _version(message.model_spec))


def _version(spec: wire_pb2.ModelSpec) -> int | None:
    return spec.version.value if spec.HasField("version") else None


def to_metadata(model: ModelRef, message: wire_pb2.GetModelMetadataResponse) -> Metadata:
    """The signatures of a GetModelMetadata answer.

    Raises:
        BadAnswerError: if it holds no signatures, or unreadable ones.
    """
    if "signature_def" not in message.metadata:
        raise BadAnswerError(f"The metadata of model {model.name!r} holds no signature_def.")
    try:
        found = wire_pb2.SignatureDefMap.FromString(message.metadata["signature_def"].value)
    except DecodeError as error:
        raise BadAnswerError(f"The signatures of {model.name!r} cannot be read: {error}.") from None
    signatures = {
        name: Signature(
            name,
            {key: _spec(info) for key, info in sorted(one.inputs.items())},
            {key: _spec(info) for key, info in sorted(one.outputs.items())},
            one.method_name,
            {key: tensors.decode(value) for key, value in one.defaults.items()},
        )
        for name, one in sorted(found.signature_def.items())
    }
    return Metadata(model.name, _version(message.model_spec), signatures)


def _spec(info: wire_pb2.TensorInfo) -> TensorSpec:
    if info.tensor_shape.unknown_rank:
        return TensorSpec(tensors.dtype_name(info.dtype), None)
    sizes = tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim)
    return TensorSpec(tensors.dtype_name(info.dtype), sizes)


def to_status(model: ModelRef, message: wire_pb2.GetModelStatusResponse) -> ModelStatus:
    """The states of a GetModelStatus answer, newest version first."""
    states = wire_pb2.ModelVersionStatus.State
    known = dict(zip(states.values(), states.keys(), strict=True))
    versions = [
        VersionStatus(
            one.version,
            known.get(one.state, "UNKNOWN"),
            code_name(one.status.error_code),
            one.status.error_message,
        )
        for one in message.model_version_status
    ]
    return ModelStatus(model.name, tuple(sorted(versions, key=lambda v: -v.version)))
