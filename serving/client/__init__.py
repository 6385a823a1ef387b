"""A thin client of TensorFlow Serving: NumPy, grpcio and protobuf, and no TensorFlow.

`Client` blocks, `AsyncClient` is for asyncio, `RestClient` speaks HTTP; the calls are the same:
``recommend``, ``similar``, ``rank``, ``predict``, ``status``, ``wait_ready``, ``metadata``.
See docs/client.md.
"""

from __future__ import annotations

from serving.client.aio import AsyncClient
from serving.client.channel import Tls
from serving.client.errors import (
    AccessDeniedError,
    BadAnswerError,
    BadInputError,
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    ServerFaultError,
    ServingError,
    UnavailableError,
    UnimplementedError,
)
from serving.client.rest import RestClient
from serving.client.results import (
    Metadata,
    ModelStatus,
    Recommendation,
    Signature,
    TensorSpec,
    VersionStatus,
)
from serving.client.steps import Retry
from serving.client.sync import Client
from serving.client.tensors import decode, encode

__all__ = [
    "AccessDeniedError",
    "AsyncClient",
    "BadAnswerError",
    "BadInputError",
    "Client",
    "DeadlineExceededError",
    "InvalidRequestError",
    "Metadata",
    "ModelStatus",
    "NotFoundError",
    "OverloadedError",
    "Recommendation",
    "RestClient",
    "Retry",
    "ServerFaultError",
    "ServingError",
    "Signature",
    "TensorSpec",
    "Tls",
    "UnavailableError",
    "UnimplementedError",
    "VersionStatus",
    "decode",
    "encode",
]
