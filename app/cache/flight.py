"""One computation per key, however many ask for it; none when nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from app.scheduling import Priority, current_priority

Value = TypeVar("Value")


class SingleFlight(Generic[Value]):
    """The computations under way in this event loop."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Value]] = {}
        self._waiting: dict[str, int] = {}
        self._urgency: dict[str, Priority] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, key: str) -> bool:
        return key in self._tasks

    async def run(self, key: str, compute: Callable[[], Awaitable[Value]]) -> Value:
        """The result of `compute`, started unless it is under way.

        When every caller of a key has been cancelled, so is the computation. An error reaches
        all who waited and is not kept. One that waits for urgent work stops waiting when
        somebody urgent joins it.
        """
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.ensure_future(compute())
            self._tasks[key] = task
            self._waiting[key] = 0
            self._urgency[key] = current_priority()
            task.add_done_callback(lambda done: self._land(key, done))
        self._waiting[key] += 1
        self._urgency[key].interactive |= current_priority().interactive
        try:
            return await asyncio.shield(task)
        finally:
            if self._tasks.get(key) is task:
                self._waiting[key] -= 1
                if not self._waiting[key] and not task.done():
                    # A later caller must start anew, not join what is being stopped.
                    self._forget(key)
                    task.cancel()

    def _land(self, key: str, task: asyncio.Task[Value]) -> None:
        if not task.cancelled():
            task.exception()  # marks it as seen: every waiter may have gone
        if self._tasks.get(key) is task:
            self._forget(key)

    def _forget(self, key: str) -> None:
        del self._tasks[key], self._waiting[key], self._urgency[key]
