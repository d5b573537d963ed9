"""What a client sends, never more of it than allowed."""

from __future__ import annotations

from fastapi import Request

from app.errors import TooLarge


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
