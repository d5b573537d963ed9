"""Bounded work: threads that run it, and a gate that says no before the queue is too long."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from app import metrics
from app.errors import Busy

Args = ParamSpec("Args")
Result = TypeVar("Result")


class Pool:
    """A fixed number of named threads, awaited from the event loop."""

    def __init__(self, name: str, workers: int) -> None:
        self.workers = workers
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=f"landcover-{name}")

    async def run(
        self, function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """The function's result. When the caller is cancelled, work not yet begun never begins."""
        future = self._executor.submit(lambda: function(*args, **kwargs))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drops what has not begun and waits for what has."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class Gate:
    """Admits a limited number of computations; the next one is told when to come back."""

    def __init__(self, limit: int, workers: int) -> None:
        """`workers`: how many are worked on at once; used to estimate the waiting time."""
        self.limit = limit
        self._workers = workers
        self._seconds = 0.5
        self.measured = False
        self.inside = 0

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Holds a place; Busy when there is none."""
        if self.inside >= self.limit:
            raise Busy(self.inside, self.limit, self.retry_after)
        self.inside += 1
        metrics.QUEUE.inc()
        began, ahead = time.monotonic(), self.inside
        try:
            yield
            # Time per computation, smoothed: waiting included, so divided by those ahead.
            share = (time.monotonic() - began) * self._workers / max(ahead, self._workers)
            self._seconds += (0.1 if self.measured else 1.0) * (share - self._seconds)
            self.measured = True
        finally:
            self.inside -= 1
            metrics.QUEUE.dec()

    @property
    def seconds_per_block(self) -> float:
        """Smoothed seconds a computation takes when all workers are busy; a guess until
        `measured`."""
        return self._seconds / self._workers

    @property
    def retry_after(self) -> int:
        """Seconds until about half of the queue is done, at least 1."""
        return max(1, math.ceil(self.inside * self._seconds / self._workers / 2))
