"""Answers as gzip for clients that take it: text, JSON and .npy; images are compressed already."""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SMALLEST = 1000
"""Bytes of content below which compression saves no packet."""

_LEVEL = 5
_INLINE = 65_536
"""Bytes that are compressed within a millisecond or two; more, and not on the event loop."""

_TYPES = re.compile(
    rb"text/|application/(?:[\w.+-]*(?:json|xml)|javascript|x-binary)|image/svg\+xml"
)
_REFUSED = re.compile(rb"(?:gzip|\*)\s*;\s*q=0(?:\.0*)?\s*(?:,|$)")


class Compressed:
    """Compresses what gains by it, and says in Vary that the answer depends on Accept-Encoding."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, _Answer(accepts_gzip(scope), send))


def accepts_gzip(scope: Scope) -> bool:
    """Return whether the client takes the whole of an answer as gzip (RFC 9110 12.5.3)."""
    accepted = b""
    for name, value in scope["headers"]:
        if name == b"range":
            return False
        if name == b"accept-encoding":
            accepted += b"," + value.lower()
    return (b"gzip" in accepted or b"*" in accepted) and not _REFUSED.search(accepted)


class _Answer:
    """The `send` of one request."""

    def __init__(self, accepts: bool, send: Send) -> None:
        self._accepts = accepts
        self._send = send
        self._start: Message | None = None
        self._gzip: Any = None

    async def __call__(self, message: Message) -> None:
        """Pass a message on, compressed or as it is."""
        if message["type"] == "http.response.start":
            if not _gains(message):
                await self._send(message)
            elif not self._accepts:
                message["headers"] = [*message["headers"], (b"vary", b"Accept-Encoding")]
                await self._send(message)
            else:
                self._start = message
        elif self._start is not None:
            await self._first(self._start, message)
        elif self._gzip is not None and message["type"] == "http.response.body":
            await self._send({**message, "body": await self._squeezed(message)})
        else:
            await self._send(message)

    async def _first(self, start: Message, message: Message) -> None:
        """Send the head, which had to wait for the length of the content."""
        self._start = None
        self._gzip = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
        body = await self._squeezed(message)
        headers = []
        for name, value in start["headers"]:
            if name == b"etag" and not value.startswith(b"W/"):
                headers.append((name, b"W/" + value))  # not the same bytes
            elif name not in (b"content-length", b"accept-ranges"):
                headers.append((name, value))
        headers += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
        if not message.get("more_body", False):
            headers.append((b"content-length", b"%d" % len(body)))
        await self._send({**start, "headers": headers})
        await self._send({**message, "body": body})

    async def _squeezed(self, message: Message) -> bytes:
        content, more = message.get("body", b""), message.get("more_body", False)

        def squeeze() -> bytes:
            packed: bytes = self._gzip.compress(content)
            return packed if more else packed + self._gzip.flush()

        return squeeze() if len(content) <= _INLINE else await asyncio.to_thread(squeeze)


def _gains(start: Message) -> bool:
    """Return whether an answer is of a kind and a size that compression is good for."""
    if start["status"] in (204, 206, 304):
        return False
    kind, length = b"", SMALLEST
    for name, value in start.get("headers", ()):
        if name == b"content-encoding":
            return False
        if name == b"content-type":
            kind = value
        elif name == b"content-length":
            length = int(value)
    return length >= SMALLEST and _TYPES.match(kind) is not None
