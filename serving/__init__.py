"""TensorFlow Serving's protocol, from a laptop to the official image.

A house of its own: nothing here imports ``tfrec``. Read upward:

    errors, tensors          codes and texts; TensorProto <-> numpy
    bundle                   a SavedModel and its session
    config, versions         what is wanted; what is on disk
    registry, manager        the versions as requests see them; loading, policies, draining
    batching                 merges requests into one graph call
    filling                  inputs that requests leave out, from whoever knows them
    predict, inference       Predict; Classify, Regress, MultiInference
    warmup, calls            warm-up records; every RPC as a plain function
    grpc_service, rest       the two transports; health, http_server, rest_json beside them
    server, processes        one process; several on one port, which peers keeps in step
    quiet                    imports without what TensorFlow always says
    proxy                    completes requests for a server elsewhere

``python -m serving --port 8500 --model_name m --model_base_path /models/m`` starts it;
:class:`serving.server.Server` runs it inside a process.
"""

from __future__ import annotations

import os

# TensorFlow reads this at import; without it every start prints a page of notes about devices.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
