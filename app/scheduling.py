"""Bounded work: threads that run it by priority, and a gate that refuses what they cannot take."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from app.errors import Busy
from app.monitoring import metrics

Args = ParamSpec("Args")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Priority:
    """The priority of one computation: interactive, or in the background of whatever is.

    It may become interactive, when an interactive request waits for it too.
    """

    __slots__ = ("interactive",)

    def __init__(self, interactive: bool) -> None:
        self.interactive = interactive


_INTERACTIVE = Priority(True)
_current: ContextVar[Priority] = ContextVar("landcover_priority", default=_INTERACTIVE)


def current_priority() -> Priority:
    """Return that of the running task: interactive unless it is within `background`."""
    return _current.get()


@contextmanager
def background() -> Iterator[Priority]:
    """Give what is done inside the priority of the background."""
    priority = Priority(False)
    token = _current.set(priority)
    try:
        yield priority
    finally:
        _current.reset(token)


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """A call that waits for a thread."""

    function: Callable[[], Any]
    future: Future[Any]
    priority: Priority


class Pool:
    """A fixed number of named threads, awaited from the event loop; interactive work goes first."""

    def __init__(self, name: str, workers: int) -> None:
        self.workers = workers
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=f"landcover-{name}")
        self._waiting: list[_Call] = []
        self._lock = threading.Lock()

    async def run(
        self, function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Return the function's result. When the caller is cancelled, work not yet begun never
        begins."""
        future: Future[Result] = Future()
        call = _Call(lambda: function(*args, **kwargs), future, current_priority())
        with self._lock:
            self._waiting.append(call)
        # One turn for every call; which call a turn takes is decided when a thread is free.
        self._executor.submit(self._turn)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            dropped, self._waiting = self._waiting, []
        for call in dropped:
            call.future.cancel()

    def _turn(self) -> None:
        with self._lock:
            # The first interactive one, else the first: looked up now, as priorities may rise.
            call = next((c for c in self._waiting if c.priority.interactive), self._waiting[0])
            self._waiting.remove(call)
        if not call.future.set_running_or_notify_cancel():
            return
        try:
            result = call.function()
        except BaseException as error:
            call.future.set_exception(error)
        else:
            call.future.set_result(result)


class Gate:
    """A limit on computations in progress; the next one is told when to try again."""

    def __init__(self, limit: int, workers: int) -> None:
        """Set the limit; `workers`, how many run at once, is used to estimate the waiting time."""
        self.limit = limit
        self._workers = workers
        self._seconds = 0.5
        self.measured = False
        self.inside = 0

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Hold a place; Busy when there is none."""
        if self.inside >= self.limit:
            raise Busy(self.inside, self.limit, self.retry_after)
        self.inside += 1
        metrics.QUEUE.inc()
        began, queued = time.monotonic(), self.inside
        try:
            yield
            # Time per computation, smoothed: waiting included, so divided by those in the queue.
            share = (time.monotonic() - began) * self._workers / max(queued, self._workers)
            self._seconds += (0.1 if self.measured else 1.0) * (share - self._seconds)
            self.measured = True
        finally:
            self.inside -= 1
            metrics.QUEUE.dec()

    @property
    def seconds_per_block(self) -> float:
        """Return the smoothed seconds a computation takes when all workers are busy; a guess until
        `measured`."""
        return self._seconds / self._workers

    @property
    def retry_after(self) -> int:
        """Return the seconds until about half of the queue is done, at least 1."""
        return max(1, math.ceil(self.inside * self._seconds / self._workers / 2))


async def gather(awaitables: Iterable[Awaitable[Result]]) -> list[Result]:
    """Return every result in order; the first error or a cancellation stops the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise


async def prefetch(
    items: Iterable[Item], start: Callable[[Item], Awaitable[Result]], count: int
) -> AsyncGenerator[tuple[Item, Result], None]:
    """Yield (item, its result) in order, with up to `count` more in progress.

    So reading hides behind inference and memory stays flat. When the caller stops, so does what is
    in progress.
    """
    in_progress: deque[tuple[Item, asyncio.Future[Result]]] = deque()
    try:
        for item in items:
            in_progress.append((item, asyncio.ensure_future(start(item))))
            if len(in_progress) > count:
                first, result = in_progress[0]
                yield first, await result
                in_progress.popleft()
        while in_progress:
            first, result = in_progress[0]
            yield first, await result
            in_progress.popleft()
    finally:
        for _, task in in_progress:
            task.cancel()
