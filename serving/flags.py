"""The command line of ``python -m serving``: the official server's flags, and a few of ours.

Importing this module imports no TensorFlow, so ``--help`` and a mistyped flag answer at once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any, NoReturn

OFFICIAL_BUT_UNSUPPORTED = (
    "use_tflite_model",
    "prefer_tflite_model",
    "num_tflite_interpreters_per_pool",
    "num_tflite_pools",
    "enable_profiler",
    "use_alts_credentials",
    "platform_config_file",
    "per_process_gpu_memory_fraction",
    "flush_filesystem_caches",
    "enable_signature_method_name_check",
    "tensorflow_session_config_file",
    "remove_unused_fields_from_bundle_metagraph",
    "num_unload_threads",
    "rest_api_num_threads",
    "rest_api_enable_cors_support",
    "num_request_iterations_for_warmup",
    "mixed_precision",
    "enable_per_model_batching_parameters",
    "skip_initialize_tpu",
    "thread_pool_factory_config_file",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
    "tensorflow_session_parallelism",
    "enable_serialization_as_tensor_content",
    "force_allow_any_version_labels_for_unavailable_models",
)


class FlagError(ValueError):
    """A command line that cannot be used."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FlagError(message)


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"must be true or false, not {text!r}")


def _rest_port(text: str) -> int | None:
    """0 switches REST off, as in the C++ server; ``auto`` lets the kernel choose."""
    if text == "auto":
        return 0
    return int(text) or None


def _channel_arguments(text: str) -> dict[str, int | str]:
    found: dict[str, int | str] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise argparse.ArgumentTypeError(f"must be key=value,key=value, not {part!r}")
        try:
            found[key] = int(value)
        except ValueError:
            found[key] = value
    return found


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be JSON, not {text!r}: {error}") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object, not {text!r}")
    return found


def parser() -> argparse.ArgumentParser:
    """The parser; only flags that were given appear in its result."""
    made = _Parser(
        prog="python -m serving",
        description="Embedded TensorFlow Serving server.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )

    def flag(name: str, kind: Any, text: str) -> None:
        extra: dict[str, Any] = {"type": kind}
        if kind is _boolean:
            extra.update(nargs="?", const=True, metavar="true|false")
        made.add_argument(f"--{name}", help=text, **extra)

    flag("port", int, "TCP port for gRPC; 0 lets the kernel choose (default 8500)")
    flag("rest_api_port", _rest_port, "TCP port for REST; 0 is off, auto: the kernel's (default 0)")
    flag("host", str, "address to listen on (default 0.0.0.0)")
    flag("rest_api_timeout_in_ms", int, "time-out of REST calls (default 30000)")
    flag("rest_api_max_body_bytes", int, "largest REST body (default 64 MiB)")
    flag("grpc_socket_path", str, "also listen on this UNIX socket")
    flag("grpc_channel_arguments", _channel_arguments, "gRPC server options, key=value,...")
    flag("grpc_max_message_bytes", int, "largest gRPC message (default 256 MiB)")
    flag("grpc_max_threads", int, "calls answered at once (default max(16, 4 x cores))")
    flag("model_name", str, "name of the single model (default 'default')")
    flag("model_base_path", str, "its folder of versions; absolute")
    flag("model_config_file", str, "ModelServerConfig as text proto, instead of one model")
    flag("model_config_file_poll_wait_seconds", float, "re-read that file so often (default 0)")
    flag("file_system_poll_wait_seconds", float, "look for new versions so often (default 1)")
    flag("max_num_load_retries", int, "further attempts for a failed load (default 5)")
    flag("load_retry_interval_micros", int, "pause between them (default 60 s)")
    flag("num_load_threads", int, "versions loaded at once (default 2)")
    flag("enable_batching", _boolean, "merge requests into batches")
    flag("batching_parameters_file", str, "BatchingParameters as text proto")
    flag("monitoring_config_file", str, "MonitoringConfig as text proto: Prometheus page")
    flag("ssl_config_file", str, "SSLConfig as text proto: TLS on the gRPC port")
    flag(
        "allow_version_labels_for_unavailable_models",
        _boolean,
        "labels may name versions that are not loaded yet",
    )
    flag("enable_model_warmup", _boolean, "replay warm-up records (default true)")
    flag("enable_grpc_healthcheck_service", _boolean, "answer grpc.health.v1")
    flag("saved_model_tags", str, "MetaGraph tags, comma separated (default serve)")
    flag("tensorflow_intra_op_parallelism", int, "threads inside an op (default 0: automatic)")
    flag("tensorflow_inter_op_parallelism", int, "ops at once (default 0: automatic)")
    flag("drain_seconds", float, "how long SIGTERM waits for calls in progress (default 10)")
    flag("input_filler", str, "package.module:function that fills in inputs requests leave out")
    flag("input_filler_options", _json_object, "what it is called with: a JSON object")
    flag("upstream", str, "no models here: complete requests and hand them on to host:port")
    flag("processes", int, "server processes that share the ports (default 1)")
    return made


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """Flags that were given, by name.

    Raises:
        FlagError: for an unknown, unsupported or malformed flag.
    """
    for word in argv:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and name in OFFICIAL_BUT_UNSUPPORTED:
            raise FlagError(
                f"--{name} is a flag of tensorflow_model_server that this server does not support; "
                "leave it out here (see docs/serving.md)"
            )
    given, unknown = parser().parse_known_args(list(argv))
    if unknown:
        raise FlagError(f"unknown flag or argument: {' '.join(unknown)} (see --help)")
    return {"port": 8500, "host": "0.0.0.0", **vars(given)}
