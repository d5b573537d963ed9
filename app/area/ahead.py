"""Results in order, a bounded number in work ahead of the one that is waited for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
