"""Predict: named tensors in, named tensors out. Knows no transport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from tensorflow_serving.apis import predict_pb2

from serving import errors
from serving.bundle import DEFAULT_SIGNATURE, Signature
from serving.filling import Filling
from serving.servable import Servable
from serving.tensors import decode, encode


def find_signature(servable: Servable, name: str) -> Signature:
    """Signature of a Predict call; an empty name means ``serving_default``.

    Raises:
        ServingError: FAILED_PRECONDITION for an unknown one.
    """
    name = name or DEFAULT_SIGNATURE
    signature = servable.runner.signatures.get(name)
    if signature is None:
        raise errors.unknown_signature_predict(name)
    return signature


def with_defaults(
    signature: Signature, inputs: Mapping[str, NDArray[Any]]
) -> Mapping[str, NDArray[Any]]:
    """Inputs by name, completed by the signature's defaults and checked against its aliases.

    Raises:
        ServingError: INVALID_ARGUMENT for a wrong number of inputs, or right number, wrong names.
    """
    wanted = signature.inputs
    if len(inputs) > len(wanted) or (len(inputs) < len(wanted) and not signature.defaults):
        raise errors.input_size(inputs, wanted)
    if inputs.keys() == wanted.keys():
        return inputs
    full = {**{k: v for k, v in signature.defaults.items() if k in wanted}, **inputs}
    if full.keys() != wanted.keys():
        raise errors.unknown_inputs(full, wanted)
    return full


def run(
    servable: Servable,
    signature: Signature,
    inputs: Mapping[str, NDArray[Any]],
    output_filter: Sequence[str] = (),
    timeout_s: float | None = None,
) -> dict[str, NDArray[Any]]:
    """Runs one signature on arrays.

    Args:
        servable: what to run.
        signature: one of its signatures.
        inputs: alias to value, in the input's dtype; shapes are the ops' affair.
        output_filter: aliases wanted; empty for all.
        timeout_s: the caller's remaining seconds.

    Returns:
        Alias to value.

    Raises:
        ServingError: INVALID_ARGUMENT for inputs or outputs that do not fit the signature; what
            the graph says otherwise.
    """
    full = with_defaults(signature, inputs)
    outputs = signature.outputs
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in outputs:
            raise errors.unknown_output(alias, outputs)
        if alias in seen:
            raise errors.duplicate_output(alias)
        seen.add(alias)
    aliases = list(output_filter) or list(outputs)
    feeds = [(ref, full[alias]) for alias, ref in signature.inputs.items()]
    values = servable.runner.run(feeds, [outputs[alias] for alias in aliases], timeout_s)
    return dict(zip(aliases, values, strict=True))


def completed(
    servable: Servable,
    signature: Signature,
    inputs: Mapping[str, NDArray[Any]],
    filling: Filling | None,
) -> Mapping[str, NDArray[Any]]:
    """Inputs with those added that ``filling`` knows."""
    if filling is None:
        return inputs
    definition = servable.runner.signature_defs[signature.name]
    return filling.complete(definition, signature.defaults, inputs)


def predict(
    servable: Servable,
    request: predict_pb2.PredictRequest,
    timeout_s: float | None = None,
    filling: Filling | None = None,
) -> predict_pb2.PredictResponse:
    """Answers a PredictRequest; outputs go in the typed fields.

    Raises:
        ServingError: see :func:`run`, :func:`find_signature` and :func:`serving.tensors.decode`.
    """
    signature = find_signature(servable, request.model_spec.signature_name)
    given = request.inputs
    if len(given) > len(signature.inputs):  # before paying for decoding
        raise errors.input_size(given, signature.inputs)
    inputs = {alias: decode(given[alias], alias) for alias in given}  # items() is slow on messages
    full = completed(servable, signature, inputs, filling)
    outputs = run(servable, signature, full, list(request.output_filter), timeout_s)
    response = predict_pb2.PredictResponse()
    fill_spec(response.model_spec, servable, signature.name)
    for alias, value in outputs.items():
        encode(value, response.outputs[alias])
    return response


def fill_spec(spec: Any, servable: Servable, signature: str = "") -> None:
    """Writes name, version and resolved signature into a response's ``model_spec``."""
    spec.name = servable.name
    spec.version.value = servable.version
    if signature:
        spec.signature_name = signature
