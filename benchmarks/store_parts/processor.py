"""Processor time: what a call costs whatever else the machine does."""

from __future__ import annotations

import time
from collections.abc import Callable

from tfrec.config import StoreConfig

Clock = Callable[[], float]


def processor_clock(config: StoreConfig) -> Clock:
    """Seconds of processor that this process has had and, of ``redis``, the server too."""
    if config.kind != "redis":
        return time.process_time
    import redis

    client = redis.Redis.from_url(config.url)

    def both() -> float:
        used = client.info("cpu")
        return time.process_time() + used["used_cpu_user"] + used["used_cpu_sys"]

    return both
