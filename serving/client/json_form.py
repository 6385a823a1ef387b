"""Requests and answers of the REST interface: JSON in the columnar form."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray

from serving.client import messages, tensors, wire_pb2
from serving.client.errors import BadAnswerError, BadInputError
from serving.client.results import (
    Metadata,
    ModelStatus,
    Prediction,
    TensorSpec,
    VersionStatus,
)
from serving.client.steps import GetMetadata, GetStatus, ModelRef, Predict


def to_http(request: Predict | GetMetadata | GetStatus) -> tuple[str, str, bytes | None]:
    """HTTP method, path and body of a request."""
    path = f"/v1/models/{quote(request.model.name, safe='')}"
    if request.model.version is not None:
        path += f"/versions/{request.model.version}"
    elif request.model.label is not None:
        path += f"/labels/{quote(request.model.label, safe='')}"
    if isinstance(request, GetStatus):
        return "GET", path, None
    if isinstance(request, GetMetadata):
        return "GET", f"{path}/metadata", None
    body = {
        "signature_name": request.signature,
        "inputs": {name: to_json(name, array) for name, array in request.inputs.items()},
    }
    return "POST", f"{path}:predict", json.dumps(body).encode()


def to_json(name: str, array: NDArray[Any]) -> Any:
    """Nested lists of an array; text as it is, bytes as ``{"b64": ...}``, which any survive."""
    kind = tensors.name_of(array)
    if kind.startswith("complex"):
        raise BadInputError(
            f"Input {name!r} is {kind}, which JSON cannot carry.", cure="Use `Client` (gRPC)."
        )
    if kind != "string":
        return array.tolist()
    flat = np.empty(array.size, object)
    values = array.ravel().tolist()
    for place, (value, data) in enumerate(zip(values, tensors.to_bytes(array), strict=True)):
        # Plain text where it is text; a NUL would end it in the C++ server.
        plain = isinstance(value, str) and "\0" not in value
        flat[place] = value if plain else {"b64": base64.b64encode(data).decode()}
    return flat.reshape(array.shape).tolist()


def from_http(request: Predict | GetMetadata | GetStatus, body: bytes) -> Any:
    """The answer in a response's body: a `Prediction`, a `Metadata` or a `ModelStatus`.

    Raises:
        BadAnswerError: if it is not the JSON of such an answer.
    """
    try:
        answer = json.loads(body)
        if isinstance(request, GetMetadata):
            return _metadata(request.model, answer)
        if isinstance(request, GetStatus):
            return _status(request.model, answer)
        return _prediction(request, answer)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadAnswerError(
            f"The server's JSON cannot be read ({type(error).__name__}: {error}): {body[:200]!r}."
        ) from None


def error_text(body: bytes) -> str:
    """The ``error`` of a refused request, or the start of a body that is no such JSON."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace").strip() or "no message."


def _prediction(request: Predict, answer: Any) -> Prediction:
    found = answer["outputs"]
    specs = dict(request.spec.outputs) if request.spec else {}
    # A signature with one output answers with the bare tensor, without its name.
    if len(specs) == 1 or not isinstance(found, dict):
        found = {next(iter(specs), "outputs"): found}
    wanted = request.outputs or tuple(found)
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise BadAnswerError(f"The answer has the outputs {sorted(found)}; it lacks {missing}.")
    return Prediction({name: from_json(found[name], specs.get(name)) for name in wanted})


def from_json(value: Any, spec: TensorSpec | None) -> NDArray[Any]:
    """The array of nested lists, of the spec's dtype, or the dtype that JSON suggests."""
    dtype = spec.dtype if spec else None
    if dtype is not None and dtype != "string" and dtype in tensors.KINDS:
        if dtype == "bfloat16":
            return np.asarray(value, np.float32)
        return np.asarray(value, tensors.KINDS[dtype].dtype)
    array = np.asarray(value, object)
    if dtype is None and not any(isinstance(one, (str, dict)) for one in array.flat):
        return np.asarray(value)
    flat = np.empty(array.size, object)
    for place, one in enumerate(array.flat):
        flat[place] = base64.b64decode(one["b64"]) if isinstance(one, dict) else one.encode()
    return flat.reshape(array.shape)


def _metadata(model: ModelRef, answer: Any) -> Metadata:
    message = wire_pb2.GetModelMetadataResponse()
    message.model_spec.name = model.name
    version = answer.get("model_spec", {}).get("version")
    if version is not None:
        message.model_spec.version.value = int(version)
    found = wire_pb2.SignatureDefMap()
    try:
        json_format.ParseDict(
            answer["metadata"]["signature_def"], found, ignore_unknown_fields=True
        )
    except json_format.ParseError as error:
        raise ValueError(str(error)) from None
    message.metadata["signature_def"].value = found.SerializeToString()
    return messages.to_metadata(model, message)


def _status(model: ModelRef, answer: Any) -> ModelStatus:
    versions = [
        VersionStatus(
            int(one["version"]),
            one["state"],
            one.get("status", {}).get("error_code", "OK"),
            one.get("status", {}).get("error_message", ""),
        )
        for one in answer["model_version_status"]
    ]
    return ModelStatus(model.name, tuple(sorted(versions, key=lambda v: -v.version)))
