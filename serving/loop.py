"""The event loop of the process's servers, on a thread of its own.

There is one for all servers of a process: ``grpc.aio`` has one completion queue a process and
misbehaves when several loops poll it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

Result = TypeVar("Result")
_lock = threading.Lock()


@cache
def _start() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="serving-loop", daemon=True).start()
    return loop


def event_loop() -> asyncio.AbstractEventLoop:
    """The running loop; its thread starts with the first call and ends with the process."""
    with _lock:  # cache alone would let two first callers start two loops
        return _start()


def run(coroutine: Coroutine[Any, Any, Result], timeout_s: float | None = None) -> Result:
    """Runs a coroutine on the loop from another thread and waits for it."""
    return asyncio.run_coroutine_threadsafe(coroutine, event_loop()).result(timeout_s)
