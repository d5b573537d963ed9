"""Bounded work: threads that run it by priority and in fair shares, and a gate that refuses what
they cannot take."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from typing import Any, ParamSpec, TypeVar

from app.errors import Busy, QuotaExceeded
from app.monitoring import metrics

Args = ParamSpec("Args")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Flow:
    """Whose work something is: a client's or a job's. `weight`: its share beside the others."""

    name: str
    weight: float = 1.0


OWN = Flow("")
"""Work of the process itself, such as a command: it has no share to exceed."""


class Priority:
    """The priority of one computation: interactive, or in the background of whatever is; and the
    flows it belongs to, one for each client that waits for it."""

    __slots__ = ("_watchers", "flows", "interactive")

    def __init__(self, interactive: bool, *flows: Flow) -> None:
        self.interactive = interactive
        self.flows = flows or (OWN,)
        self._watchers: list[Callable[[], None]] = []

    def join(self, other: Priority) -> None:
        """Raise it to what another one, whose request waits for it too, would have."""
        self.interactive |= other.interactive
        self.flows += tuple(flow for flow in other.flows if flow not in self.flows)
        for watcher in self._watchers:
            watcher()

    @contextmanager
    def watched(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Have `watcher` called when it is raised."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)


_INTERACTIVE = Priority(True)
_current: ContextVar[Priority] = ContextVar("landcover_priority", default=_INTERACTIVE)


def current_priority() -> Priority:
    """Return that of the running task: interactive unless it is within `background`."""
    return _current.get()


@contextmanager
def prioritized(interactive: bool, *flows: Flow) -> Iterator[Priority]:
    """Give what is done inside a priority of its own, with the same flows unless they are given."""
    priority = Priority(interactive, *(flows or _current.get().flows))
    token = _current.set(priority)
    try:
        yield priority
    finally:
        _current.reset(token)


@contextmanager
def background(*flows: Flow) -> Iterator[Priority]:
    """Give what is done inside the priority of the background."""
    with prioritized(False, *flows) as priority:
        yield priority


class _Shares:
    """The seconds that each flow has used, over its weight: start-time fair queueing (Goyal, Vin
    and Cheng 1996). The flow that has used least is next; one that was idle saves nothing up."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}
        self._now = 0.0
        self._typical = 0.01

    def start(self, flow: Flow) -> float:
        """Return the flow's place in the order."""
        return max(self._used.get(flow.name, 0.0), self._now)

    def begin(self, flow: Flow) -> float:
        """Charge a call of typical length to a flow whose turn it is; return what was charged."""
        start = self.start(flow)
        self._now = start
        self._used[flow.name] = start + self._typical / flow.weight
        if len(self._used) > _MOST_FLOWS:
            self.forget()
        return self._typical

    def end(self, flow: Flow, charged: float, seconds: float) -> None:
        """Charge the seconds that it really took."""
        self._typical += 0.1 * (seconds - self._typical)
        if flow.name in self._used:
            self._used[flow.name] += (seconds - charged) / flow.weight

    def forget(self) -> None:
        """Begin anew, as everybody has had what was asked for."""
        self._used, self._now = {}, 0.0


_MOST_FLOWS = 10_000
"""Flows that are told apart without a pause."""


@dataclass(slots=True, eq=False)
class _Call:
    """A call that waits for a thread."""

    function: Callable[[], Any]
    future: Future[Any]
    priority: Priority
    number: int
    placed: int = 0
    """How many of the flows have it in their queues."""
    taken: bool = False


class _Waiting:
    """Calls that wait: interactive ones in a queue for each flow, as one client may have thousands;
    those of the background, of which there are few, in a list."""

    def __init__(self) -> None:
        self._queues: dict[Flow, deque[_Call]] = {}
        self._background: list[_Call] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, call: _Call) -> None:
        """Add a call."""
        self._count += 1
        if call.priority.interactive:
            self.place(call)
        else:
            self._background.append(call)

    def place(self, call: _Call) -> None:
        """Put an interactive call that waits into the queues of all its flows."""
        if call.taken or not call.priority.interactive:
            return
        flows = call.priority.flows
        for flow in flows[call.placed :]:
            self._queues.setdefault(flow, deque()).append(call)
        call.placed = len(flows)

    def take(self, start: Callable[[Flow], float]) -> tuple[_Call, Flow]:
        """Remove the call whose turn it is and return it with the flow that it is the turn of: the
        one of the first place in the order, by `start`; within it, the first."""
        for call in [call for call in self._background if call.priority.interactive]:
            self._background.remove(call)
            self.place(call)
        for flow in list(self._queues):
            queue = self._queues[flow]
            while queue and queue[0].taken:
                queue.popleft()
            if not queue:
                del self._queues[flow]
        if self._queues:
            _, _, flow = min(
                ((start(flow), queue[0].number, flow) for flow, queue in self._queues.items()),
                key=lambda place: place[:2],
            )
            call = self._queues[flow].popleft()
        else:
            call = min(self._background, key=lambda call: min(map(start, call.priority.flows)))
            flow = min(call.priority.flows, key=start)
            self._background.remove(call)
        call.taken = True
        self._count -= 1
        return call, flow

    def clear(self) -> list[_Call]:
        """Remove and return all calls."""
        queued = [call for queue in self._queues.values() for call in queue if not call.taken]
        calls = [*queued, *self._background]
        self._queues, self._background, self._count = {}, [], 0
        return calls


class Pool:
    """A fixed number of named threads, awaited from the event loop; interactive work goes first.

    Of equal priority the client goes first that has used the threads least, so that none waits for
    all that another has asked for.
    """

    def __init__(self, name: str, workers: int, nice: int = 0) -> None:
        """`nice`: added to the threads' nice value, so that other threads get a core before."""
        self.workers = workers
        self._executor = ThreadPoolExecutor(
            workers, f"landcover-{name}", initializer=yield_cores, initargs=(nice,)
        )
        self._waiting = _Waiting()
        self._numbers = count()
        self._running = 0
        self._shares = _Shares()
        self._lock = threading.Lock()

    async def run(
        self, function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Return the function's result. When the caller is cancelled, work not yet begun never
        begins."""
        future: Future[Result] = Future()
        priority = current_priority()
        call = _Call(lambda: function(*args, **kwargs), future, priority, next(self._numbers))
        with self._lock:
            self._waiting.add(call)
        # One turn for every call; which call a turn takes is decided when a thread is free.
        self._executor.submit(self._turn)
        with priority.watched(lambda: self._raised(call)):
            return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            dropped = self._waiting.clear()
        for call in dropped:
            call.future.cancel()

    def _turn(self) -> None:
        with self._lock:
            # Looked up now, as priorities may rise and shares change while a call waits.
            call, flow = self._waiting.take(self._shares.start)
            if not call.future.set_running_or_notify_cancel():
                return
            charged = self._shares.begin(flow)
            self._running += 1
        began = time.perf_counter()
        try:
            result = call.function()
        except BaseException as error:
            call.future.set_exception(error)
        else:
            call.future.set_result(result)
        finally:
            with self._lock:
                self._running -= 1
                self._shares.end(flow, charged, time.perf_counter() - began)
                if not self._running and not self._waiting:
                    self._shares.forget()

    def _raised(self, call: _Call) -> None:
        with self._lock:
            self._waiting.place(call)


def run_yielding(
    nice: int, function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs
) -> Result:
    """Return the function's result; the threads that it starts have a nice value of `nice` more."""
    with ThreadPoolExecutor(1, initializer=yield_cores, initargs=(nice,)) as one:
        return one.submit(function, *args, **kwargs).result()


def yield_cores(nice: int) -> None:
    """Raise the nice value of this thread, and of those it will start, where that is possible."""
    if nice:
        with suppress(OSError, AttributeError):
            thread = threading.get_native_id()
            own = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, own + nice)


SHARE = 3
"""A lone client may have three quarters of the queue, two of them three sevenths each."""


class Gate:
    """A limit on computations in progress; the next one is told when to try again.

    A client may hold `SHARE` times what is free, so that some places are always left for others:
    the dynamic threshold of Choudhury and Hahne (1998).
    """

    def __init__(self, limit: int, workers: int) -> None:
        """Set the limit; `workers`, how many run at once, is used to estimate the waiting time."""
        self.limit = limit
        self._workers = workers
        self._seconds = 0.5
        self.measured = False
        self.inside = 0
        self._held: Counter[str] = Counter()

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Hold a place; Busy when there is none, QuotaExceeded when it would be too many of one
        client."""
        if self.inside >= self.limit:
            raise Busy(self.inside, self.limit, self.retry_after)
        flow = current_priority().flows[0]
        held, most = self._held[flow.name], SHARE * flow.weight * (self.limit - self.inside)
        if flow.name and held >= most:
            metrics.REFUSED.labels("queue").inc()
            what = f"blocks that one client has in work, while {self.inside} of {self.limit} are"
            raise QuotaExceeded(what, held, math.ceil(most), self.retry_after)
        self.inside += 1
        self._held[flow.name] += 1
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
            self._held[flow.name] -= 1
            if not self._held[flow.name]:
                del self._held[flow.name]
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
