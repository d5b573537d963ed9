"""Bounded work: threads that run it, and a gate that says no before the queue is too long."""

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
from typing import Any, ParamSpec, TypeVar

from app.errors import Busy
from app.monitoring import metrics

Args = ParamSpec("Args")
Result = TypeVar("Result")


class _Item:
    """A call that waits for a thread."""

    __slots__ = ("call", "future", "urgency")

    def __init__(self, call: Callable[[], Any], future: Future[Any], urgency: Priority) -> None:
        self.call, self.future, self.urgency = call, future, urgency


class Pool:
    """A fixed number of named threads, awaited from the event loop; urgent work goes first."""

    def __init__(self, name: str, workers: int) -> None:
        self.workers = workers
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=f"landcover-{name}")
        self._waiting: list[_Item] = []
        self._lock = threading.Lock()

    async def run(
        self, function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """The function's result. When the caller is cancelled, work not yet begun never begins."""
        future: Future[Result] = Future()
        item = _Item(lambda: function(*args, **kwargs), future, current_priority())
        with self._lock:
            self._waiting.append(item)
        # One turn for every item; which item a turn takes is decided when a thread is free.
        self._executor.submit(self._turn)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drops what has not begun and waits for what has."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            dropped, self._waiting = self._waiting, []
        for item in dropped:
            item.future.cancel()

    def _turn(self) -> None:
        with self._lock:
            # The first that is urgent, else the first: asked now, as urgency may have risen.
            item = next((i for i in self._waiting if i.urgency.urgent), self._waiting[0])
            self._waiting.remove(item)
        if not item.future.set_running_or_notify_cancel():
            return
        try:
            result = item.call()
        except BaseException as error:
            item.future.set_exception(error)
        else:
            item.future.set_result(result)


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


class Priority:
    """One computation's urgency. It may become urgent, when somebody urgent waits for it too."""

    __slots__ = ("urgent",)

    def __init__(self, urgent: bool) -> None:
        self.urgent = urgent


_INTERACTIVE = Priority(True)
_current: ContextVar[Priority] = ContextVar("landcover_urgency", default=_INTERACTIVE)


def current_priority() -> Priority:
    """That of the running task; urgent unless said otherwise."""
    return _current.get()


@contextmanager
def background() -> Iterator[Priority]:
    """What is done inside waits for whatever is urgent."""
    urgency = Priority(False)
    token = _current.set(urgency)
    try:
        yield urgency
    finally:
        _current.reset(token)


Item = TypeVar("Item")


async def ahead(
    items: Iterable[Item], start: Callable[[Item], Awaitable[Result]], count: int
) -> AsyncGenerator[tuple[Item, Result], None]:
    """(item, its result) one after the other, `count` more under way, so that reading hides behind
    inference and memory stays flat. When the caller stops, so does what is under way."""
    under_way: deque[tuple[Item, asyncio.Future[Result]]] = deque()
    try:
        for item in items:
            under_way.append((item, asyncio.ensure_future(start(item))))
            if len(under_way) > count:
                first, result = under_way[0]
                yield first, await result
                under_way.popleft()
        while under_way:
            first, result = under_way[0]
            yield first, await result
            under_way.popleft()
    finally:
        for _, task in under_way:
            task.cancel()
