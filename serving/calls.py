"""Every RPC as a plain function of messages: borrows the version, counts, times. No transport."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving import config, inference, predict
from serving.bundle import DEFAULT_SIGNATURE
from serving.errors import Code, ServingError, deadline_exceeded, invalid, missing_model_spec
from serving.filling import Filling
from serving.manager import Manager
from serving.metrics import Metrics
from serving.peers import Peers
from serving.predict import fill_spec
from serving.servable import Servable

log = logging.getLogger("serving")
Result = TypeVar("Result")
SIGNATURE_DEF = "signature_def"


def remaining(deadline: float | None) -> float | None:
    """Seconds until a deadline of ``time.monotonic``; None where there is none.

    Raises:
        ServingError: DEADLINE_EXCEEDED where it has passed.
    """
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise deadline_exceeded("before the graph was run")
    return left


class Calls:
    """What a server answers.

    Args:
        manager: lends the versions.
        metrics: takes the counts.
        peers: the other processes on the same port.
        filling: adds inputs that Predict requests leave out.
    """

    def __init__(
        self,
        manager: Manager,
        metrics: Metrics,
        peers: Peers | None = None,
        filling: Filling | None = None,
    ) -> None:
        self.manager = manager
        self.metrics = metrics
        self.peers = peers or Peers()
        self.filling = filling or Filling()

    def measured(
        self,
        api: str,
        entrypoint: str,
        spec: model_pb2.ModelSpec,
        body: Callable[[Servable], Result],
        began: float | None = None,
    ) -> Result:
        """Borrows the version a spec names, runs ``body`` on it, counts and times the call.

        Args:
            api: ``Predict``, ``Classify`` ...
            entrypoint: ``GRPC`` or ``REST``.
            spec: model, version or label, signature.
            body: answers from the borrowed version.
            began: ``time.perf_counter`` of the request's arrival.

        Raises:
            ServingError: what the call comes to; INTERNAL for a fault of ours, which is logged.
        """
        began = time.perf_counter() if began is None else began
        # what is not served stays nameless: anyone could make labels of unknown names
        names = ("", "", "")
        status, runtime = Code.OK, 0.0
        choice = spec.WhichOneof("version_choice")
        lent = None
        try:
            lent = self.manager.take(
                spec.name,
                spec.version.value if choice == "version" else None,
                spec.version_label if choice == "version_label" else None,
            )
            servable = lent.servable
            assert servable is not None
            signature = spec.signature_name or DEFAULT_SIGNATURE
            known = signature in servable.runner.signatures
            names = (servable.name, str(servable.version), signature if known else "")
            entered = time.perf_counter()
            result = body(servable)
            runtime = (time.perf_counter() - entered) * 1e6
            return result
        except ServingError as error:
            status = error.code
            raise
        except Exception as error:
            status = Code.INTERNAL
            log.exception("%s failed", api)
            text = f"{type(error).__name__}: {error}"
            raise ServingError(Code.INTERNAL, text) from error
        finally:
            if lent is not None:
                self.manager.give_back(lent)
            micros = (time.perf_counter() - began) * 1e6
            self.metrics.call(entrypoint, api, status.name, names, micros, runtime)

    def predict(
        self, request: predict_pb2.PredictRequest, deadline: float | None = None
    ) -> predict_pb2.PredictResponse:
        """PredictionService.Predict."""
        _need_spec(request)
        return self.measured(
            "Predict",
            "GRPC",
            request.model_spec,
            lambda servable: predict.predict(servable, request, remaining(deadline), self.filling),
        )

    def classify(
        self, request: classification_pb2.ClassificationRequest, deadline: float | None = None
    ) -> classification_pb2.ClassificationResponse:
        """PredictionService.Classify."""
        _need_spec(request)
        return self.measured(
            "Classify",
            "GRPC",
            request.model_spec,
            lambda servable: inference.classify(servable, request, remaining(deadline)),
        )

    def regress(
        self, request: regression_pb2.RegressionRequest, deadline: float | None = None
    ) -> regression_pb2.RegressionResponse:
        """PredictionService.Regress."""
        _need_spec(request)
        return self.measured(
            "Regress",
            "GRPC",
            request.model_spec,
            lambda servable: inference.regress(servable, request, remaining(deadline)),
        )

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, deadline: float | None = None
    ) -> inference_pb2.MultiInferenceResponse:
        """PredictionService.MultiInference; model and version are the first task's."""
        if not request.tasks or not request.tasks[0].HasField("model_spec"):
            raise missing_model_spec()
        return self.measured(
            "MultiInference",
            "GRPC",
            request.tasks[0].model_spec,
            lambda servable: inference.multi_inference(servable, request, remaining(deadline)),
        )

    def get_model_metadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        deadline: float | None = None,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """PredictionService.GetModelMetadata: the signatures, under ``signature_def``."""
        _need_spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()

        def body(servable: Servable) -> None:
            fill_spec(response.model_spec, servable)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, definition in servable.runner.signature_defs.items():
                signatures.signature_def[name].CopyFrom(definition)
            response.metadata[SIGNATURE_DEF].Pack(signatures)

        self.measured("GetModelMetadata", "GRPC", request.model_spec, body)
        return response

    def get_model_status(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        deadline: float | None = None,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """ModelService.GetModelStatus: all versions of a model, or the one asked for."""
        _need_spec(request)
        spec = request.model_spec
        choice = spec.WhichOneof("version_choice")
        version = spec.version.value if choice == "version" else None
        if choice == "version_label":
            version = self.manager.resolve_label(spec.name, spec.version_label)
        response = get_model_status_pb2.GetModelStatusResponse()
        for record in self.manager.status(spec.name, version):
            entry = response.model_version_status.add()
            entry.version = record.number
            entry.state = int(record.state)  # type: ignore[assignment]
            error = record.error
            entry.status.error_code = int(error.code) if error else 0  # type: ignore[assignment]
            entry.status.error_message = error.details if error else record.note
        return response

    def handle_reload_config_request(
        self,
        request: model_management_pb2.ReloadConfigRequest,
        deadline: float | None = None,
    ) -> model_management_pb2.ReloadConfigResponse:
        """ModelService.HandleReloadConfigRequest: replaces the config and waits for its models.

        A config that is refused changes nothing anywhere. One that is taken goes to all processes,
        also where one of its models then cannot be loaded: all answer from the same config.
        """
        timeout_s = remaining(deadline)
        generation = self.manager.apply(config.models(request.config))
        others = self.peers.reload(request, timeout_s)
        failures = []
        for settled in (lambda: self.manager.wait_for_config(generation, timeout_s), others):
            try:
                settled()
            except ServingError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return model_management_pb2.ReloadConfigResponse()

    def reload_here(
        self, request: model_management_pb2.ReloadConfigRequest, timeout_s: float | None
    ) -> None:
        """Takes a new config in this process and waits until its models are settled."""
        generation = self.manager.apply(config.models(request.config))
        self.manager.wait_for_config(generation, timeout_s)


def _need_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise missing_model_spec()
