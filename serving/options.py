"""Everything a server can be told, in one frozen dataclass; ``flags`` fills it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving import textproto
from serving.batching import BatchingOptions
from serving.config import ModelConfig, VersionPolicy, read_models
from serving.filling import Filler, open_filler
from serving.textproto import ConfigFileError

DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"


class OptionsError(ValueError):
    """Settings that cannot go together; the text says which and how to mend it."""


@dataclass(frozen=True)
class Options:
    """Settings of one server. Names follow ``tensorflow_model_server``'s flags.

    Attributes:
        port: TCP port for gRPC; 0 lets the kernel choose.
        rest_api_port: TCP port for REST; 0 lets the kernel choose, None switches REST off.
        host: address both listen on.
        rest_api_timeout_in_ms: time for reading and for answering a REST request.
        rest_api_max_body_bytes: largest REST body.
        grpc_socket_path: UNIX socket for gRPC besides the port; empty for none.
        grpc_channel_arguments: gRPC server options (``grpc.max_connection_age_ms`` ...).
        grpc_max_message_bytes: largest gRPC message, either way.
        grpc_max_threads: calls answered at the same time.
        model_name, model_base_path: the single model, where there is no config file.
        model_config_file: ``ModelServerConfig`` as text proto.
        model_config_file_poll_wait_seconds: re-read it so often; 0 for never.
        file_system_poll_wait_seconds: look for new versions so often; 0 for only at the start.
        max_num_load_retries, load_retry_interval_micros: retries of a load that failed.
        num_load_threads: versions loaded at once.
        enable_batching, batching_parameters_file: request batching.
        batching: the same as an object, for use inside a process; switches batching on.
        monitoring_config_file: ``MonitoringConfig``; switches the Prometheus page on.
        ssl_config_file: ``SSLConfig``; TLS on the gRPC port.
        allow_version_labels_for_unavailable_models: labels may name versions not yet loaded.
        enable_model_warmup: replay ``tf_serving_warmup_requests`` before AVAILABLE.
        enable_grpc_healthcheck_service: ``grpc.health.v1``.
        saved_model_tags: MetaGraph tags.
        tensorflow_intra_op_parallelism, tensorflow_inter_op_parallelism: threads; 0 is automatic.
        drain_seconds: how long a stop waits for calls in progress.
        reuse_port: share the ports with other processes (SO_REUSEPORT).
        input_filler: factory of what fills in inputs that requests leave out, as
            ``package.module:function``; empty for none. See ``serving.filling``.
        input_filler_options: what it is called with.
    """

    port: int = 0
    rest_api_port: int | None = None
    host: str = "127.0.0.1"
    rest_api_timeout_in_ms: int = 30000
    rest_api_max_body_bytes: int = 64 << 20
    grpc_socket_path: str = ""
    grpc_channel_arguments: Mapping[str, int | str] = field(default_factory=dict)
    grpc_max_message_bytes: int = 256 << 20
    grpc_max_threads: int = field(default_factory=lambda: max(16, 4 * (os.cpu_count() or 1)))
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: float = 0
    file_system_poll_wait_seconds: float = 1
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    num_load_threads: int = 2
    enable_batching: bool = False
    batching_parameters_file: str = ""
    batching: BatchingOptions | None = None
    monitoring_config_file: str = ""
    ssl_config_file: str = ""
    allow_version_labels_for_unavailable_models: bool = False
    enable_model_warmup: bool = True
    enable_grpc_healthcheck_service: bool = False
    saved_model_tags: str = "serve"
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    drain_seconds: float = 10.0
    reuse_port: bool = False
    input_filler: str = ""
    input_filler_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.model_base_path) == bool(self.model_config_file):
            raise OptionsError(
                "exactly one of model_base_path and model_config_file must be given, not "
                f"{self.model_base_path!r} and {self.model_config_file!r}"
            )
        if self.batching_parameters_file and not self.enable_batching:
            raise OptionsError("batching_parameters_file is set without enable_batching; set both")
        if self.model_base_path and not Path(self.model_base_path).is_absolute():
            raise OptionsError(
                f"model_base_path must be an absolute path, not {self.model_base_path!r}"
            )
        for name in ("port", "rest_api_port"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 65535:
                raise OptionsError(f"{name} must be between 0 and 65535, not {value}")
        if self.port and self.port == self.rest_api_port:
            raise OptionsError("rest_api_port cannot be the same as port")
        for name in ("grpc_max_threads", "num_load_threads", "rest_api_timeout_in_ms"):
            if getattr(self, name) < 1:
                raise OptionsError(f"{name} must be at least 1, not {getattr(self, name)}")

    def models(self) -> list[ModelConfig]:
        """The models to start with.

        Raises:
            ConfigFileError: naming the config file and what is wrong with it.
        """
        if self.model_config_file:
            return read_models(self.model_config_file)
        return [ModelConfig(self.model_name, self.model_base_path, VersionPolicy(), {})]

    def batching_options(self) -> BatchingOptions | None:
        """Batching settings, or None where it is off.

        Raises:
            ConfigFileError: for a bad parameters file.
        """
        if self.batching is not None:
            return self.batching
        if not self.enable_batching:
            return None
        if self.batching_parameters_file:
            return BatchingOptions.from_file(self.batching_parameters_file)
        return BatchingOptions()

    def filler(self) -> Filler | None:
        """What fills in missing inputs, or None where nothing does.

        Raises:
            OptionsError: it cannot be made.
        """
        if not self.input_filler:
            return None
        try:
            return open_filler(self.input_filler, self.input_filler_options)
        except (ValueError, TypeError) as error:
            raise OptionsError(str(error)) from None

    def metrics_path(self) -> str:
        """Path of the Prometheus page; empty where it is off.

        Raises:
            ConfigFileError: for a bad monitoring config.
        """
        if not self.monitoring_config_file:
            return ""
        proto = textproto.read(
            self.monitoring_config_file, textproto.message_class("MonitoringConfig")()
        )
        settings = proto.prometheus_config
        return (settings.path or DEFAULT_METRICS_PATH) if settings.enable else ""

    def ssl(self) -> tuple[bytes, bytes, bytes | None, bool] | None:
        """Server key, certificate chain, client CA and whether clients must show a certificate.

        Raises:
            ConfigFileError: for a bad file, or one without key and certificate.
        """
        if not self.ssl_config_file:
            return None
        proto = textproto.read(self.ssl_config_file, textproto.message_class("SSLConfig")())
        if not proto.server_key or not proto.server_cert:
            raise ConfigFileError(
                f"{self.ssl_config_file}: server_key and server_cert must hold PEM text"
            )
        if proto.client_verify and not proto.custom_ca:
            raise ConfigFileError(
                f"{self.ssl_config_file}: client_verify needs custom_ca, the CA clients must have"
            )
        ca = proto.custom_ca.encode() or None
        return proto.server_key.encode(), proto.server_cert.encode(), ca, proto.client_verify
