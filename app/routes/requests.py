"""What a client sends, never more of it than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from app.errors import DeadlineExceeded, TooLarge
from app.landcover.blocks import Selection
from app.routes.schemas import TileQuery
from app.services import Services


async def body_of(request: Request, limit_kb: int) -> bytes:
    """The request's body; TooLarge as soon as it is larger than `limit_kb` × 1024 bytes."""
    limit = limit_kb * 1024
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and len(announced) < 20 and int(announced) > limit:
        raise TooLarge("the request body in bytes", int(announced), limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge("the request body in bytes", len(body), limit)
    return bytes(body)


def selections_of(services: Services, query: TileQuery) -> list[Selection]:
    """In the order of their years; UnknownName or InvalidRequest."""
    if query.layer == "change":
        return [services.select(query.source, year, query.model) for year in query.years]
    chosen = services.select(query.source, query.year, query.model, query.datetime, query.fill)
    return [chosen]


Result = TypeVar("Result")


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def while_connected(request: Request, work: Awaitable[Result], deadline_s: float) -> Result:
    """The result of `work`; ClientGone when the client disconnects first, DeadlineExceeded when
    the time is over. In both cases the work is cancelled."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, gone), timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientGone
        raise DeadlineExceeded(deadline_s)
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
