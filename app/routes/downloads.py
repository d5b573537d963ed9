"""Files that are made for a request, served like files on a disk: byte ranges and validators.

GDAL, rio-tiler and QGIS read a remote raster piece by piece, each piece with a request of its own:
the file stays in the memory of rendered tiles until something else needs the room.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.services import Rendered, Services, TileKey

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


def kept_download(request: Request) -> Response | None:
    """Return the file that was made for the same address before; None when it is not kept."""
    services: Services = request.app.state.services
    kept = services.rendered.get(_address(request, services))
    if kept is None:
        return None
    return RangedFile(kept.content, dict(kept.headers), kept.media_type, kept.etag)


def keep_download(request: Request, answer: Response) -> Response:
    """Return a complete answer as a file with ranges, and keep it for the next of them."""
    services: Services = request.app.state.services
    content = bytes(answer.body)
    etag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    media_type = answer.headers.get("content-type", "application/octet-stream")
    own = {
        name: value
        for name, value in answer.headers.items()
        if name not in ("content-length", "content-type")
    }
    kept = Rendered(etag, media_type, content, tuple(own.items()))
    services.keep_rendered(_address(request, services), kept)
    return RangedFile(content, own, media_type, etag)


class RangedFile(Response):
    """Bytes of which a client may ask for a part (RFC 9110, 14)."""

    def __init__(
        self, content: bytes, headers: Mapping[str, str], media_type: str, etag: str
    ) -> None:
        super().__init__(content, 200, {**headers, "etag": etag}, media_type)
        self.headers["accept-ranges"] = "bytes"
        self._etag = etag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        headers = Request(scope).headers
        condition, part = headers.get("if-range"), headers.get("range", "")
        if _matches(headers.get("if-none-match", ""), self._etag):
            self._become(304, b"")
        elif (match := _RANGE.fullmatch(part)) and condition in (None, self._etag):
            self._cut(match)
        await super().__call__(scope, receive, send)

    def _cut(self, match: re.Match[str]) -> None:
        """Leaves the requested bytes; several ranges at once are answered with the whole."""
        total = len(self.body)
        if match[3] is not None:
            first, last = max(0, total - int(match[3])), total - 1
        else:
            first = int(match[1])
            last = min(int(match[2]), total - 1) if match[2] else total - 1
        if match[1] and match[2] and int(match[2]) < int(match[1]):
            return  # no range at all, says the RFC: ignored
        if first > last:
            self.headers["content-range"] = f"bytes */{total}"
            self._become(416, b"")
            return
        self.headers["content-range"] = f"bytes {first}-{last}/{total}"
        self._become(206, bytes(self.body[first : last + 1]))

    def _become(self, status: int, content: bytes) -> None:
        self.status_code, self.body = status, content
        self.headers["content-length"] = str(len(content))


def _address(request: Request, services: Services) -> TileKey:
    scope = request.scope
    return scope["path"], scope["query_string"], services.generation


def _matches(requested: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in requested.split(",")]
    return bool(requested) and ("*" in tags or etag in tags)
