"""Config files: text protos, three of which have no generated module anywhere on PyPI.

``tensorflow-serving-api`` ships ModelServerConfig but not BatchingParameters, MonitoringConfig and
SSLConfig; their descriptors are built here in a private pool, with the wire's names and numbers, so
that the very files the official image reads are read by the very same parser.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message,
    message_factory,
    text_format,
    wrappers_pb2,
)

M = TypeVar("M", bound=message.Message)

_PACKAGE = "tensorflow.serving"
_INT64 = ".google.protobuf.Int64Value"
_STRING = ".google.protobuf.StringValue"

# message -> (field, number, type); a type that starts with "." is a message, "*" marks repeated.
_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "BatchingParameters": [
        ("max_batch_size", 1, _INT64),
        ("batch_timeout_micros", 2, _INT64),
        ("max_enqueued_batches", 3, _INT64),
        ("num_batch_threads", 4, _INT64),
        ("thread_pool_name", 5, _STRING),
        ("allowed_batch_sizes", 6, "*int64"),
        ("pad_variable_length_inputs", 7, "bool"),
    ],
    "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "MonitoringConfig": [("prometheus_config", 1, f".{_PACKAGE}.PrometheusConfig")],
    "SSLConfig": [
        ("server_key", 1, "string"),
        ("server_cert", 2, "string"),
        ("custom_ca", 3, "string"),
        ("client_verify", 4, "bool"),
    ],
}


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    types = descriptor_pb2.FieldDescriptorProto
    scalars = {"bool": types.TYPE_BOOL, "string": types.TYPE_STRING, "int64": types.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(
        name="serving/config_files.proto", package=_PACKAGE, syntax="proto3"
    )
    file.dependency.append("google/protobuf/wrappers.proto")
    for name, fields in _MESSAGES.items():
        entry = file.message_type.add(name=name)
        for field, number, spelled in fields:
            repeated, kind = spelled.startswith("*"), spelled.removeprefix("*")
            added = entry.field.add(
                name=field,
                number=number,
                label=types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL,
            )
            if kind.startswith("."):
                added.type, added.type_name = types.TYPE_MESSAGE, kind
            else:
                added.type = scalars[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def message_class(name: str) -> Any:
    """Class of ``BatchingParameters``, ``MonitoringConfig`` or ``SSLConfig``."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


class ConfigFileError(ValueError):
    """A file of settings that cannot be used; the text names the file and the reason."""


def read(path: str | Path, into: M) -> M:
    """Parses a text proto file into a message.

    Args:
        path: the file.
        into: an empty message of the wanted type.

    Returns:
        ``into``.

    Raises:
        ConfigFileError: naming the file, and the line where the parser gives one.
    """
    full_name = into.DESCRIPTOR.full_name
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigFileError(f"{path}: cannot be read as {full_name}: {error}") from None
    try:
        text_format.Parse(text, into)
    except text_format.ParseError as error:
        raise ConfigFileError(f"{path}: not a text proto of {full_name}: {error}") from None
    return into
