"""A circuit breaker: a store that is down is not asked again and again while users wait.

After some failures in a row the circuit opens and every call is refused at once. A thread of its
own asks the store meanwhile; when it answers, the circuit closes. So no request ever pays for
finding out (Nygard, Release It!, with the probe taken off the callers).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from tfrec.store.errors import StoreUnavailable

log = logging.getLogger("tfrec.store")
Result = TypeVar("Result")


class Breaker:
    """Guards calls to one store.

    Args:
        probe: raises StoreUnavailable while the store does not answer.
        failures: so many in a row open the circuit.
        every_s: seconds between two probes.
    """

    def __init__(
        self, probe: Callable[[], object], failures: int = 3, every_s: float = 0.5
    ) -> None:
        self._probe = probe
        self._limit = failures
        self._every_s = every_s
        self._lock = threading.Lock()
        self._failed = 0
        self._why = ""
        self._open = False
        self._stop = threading.Event()

    @property
    def is_open(self) -> bool:
        """Whether calls are refused."""
        return self._open

    def call(self, function: Callable[[], Result]) -> Result:
        """Calls a function that asks the store.

        Raises:
            StoreUnavailable: it failed, or the circuit is open.
        """
        if self._open:
            raise StoreUnavailable(f"not asked, as it does not answer: {self._why}")
        try:
            result = function()
        except StoreUnavailable as error:
            self._count(str(error))
            raise
        self._failed = 0
        return result

    def _count(self, why: str) -> None:
        with self._lock:
            self._failed += 1
            self._why = why
            if self._failed < self._limit or self._open or self._stop.is_set():
                return
            self._open = True
            log.error("the store is not asked until it answers again: %s", why)
            threading.Thread(target=self._watch, name="store-probe", daemon=True).start()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._probe()
            except Exception as error:
                self._why = str(error)
            else:
                log.warning("the store answers again")
                self._failed = 0
                self._open = False
                return

    def close(self) -> None:
        """Ends the probing."""
        self._stop.set()
