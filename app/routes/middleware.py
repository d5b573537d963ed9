"""What every answer has in common. Plain ASGI: a warm tile is only a few microseconds away."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from functools import lru_cache

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.monitoring import metrics
from app.monitoring.logs import REQUEST_ID

SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_TILES = {
    "/tiles/{tileMatrixSetId}/{z}/{x}/{y}": "class",
    "/{z}/{x}/{y}": "class",
    "/imagery/tiles/{tileMatrixSetId}/{z}/{x}/{y}": "imagery",
}
_OUTCOMES = {
    304: "not_modified", 499: "gone", 502: "unavailable", 503: "busy", 504: "late",
}  # fmt: skip

_STOPPING: tuple[Message, ...] = (
    {
        "type": "http.response.start",
        "status": 503,
        "headers": [(b"retry-after", b"1"), (b"cache-control", b"no-store"),
                    (b"content-length", b"0")],
    },
    {"type": "http.response.body", "body": b""},
)  # fmt: skip

log = logging.getLogger("landcover.access")


class Observed:
    """Gives every answer its id and security headers, times it, counts it, logs it if asked."""

    def __init__(self, app: ASGIApp, *, access_log: bool = False) -> None:
        self.app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _request_id(scope)
        spent = metrics.Spent()
        REQUEST_ID.set(request_id.decode())
        metrics.SPENT.set(spent)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), *SECURITY, (b"x-request-id", request_id)]
                if _route(scope) in _TILES:
                    timing = spent.header(time.perf_counter() - began)
                    headers.append((b"server-timing", timing.encode()))
                message["headers"] = headers
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            # Only a server that stops does this, when its time to finish is over.
            if status:
                raise
            for message in _STOPPING:
                await send_with_headers({**message})
        finally:
            status = status or 500
            _count(scope, status, time.perf_counter() - began)
            if self._access_log:
                _log(scope, status, time.perf_counter() - began)


class HeadAsGet:
    """Answers HEAD like GET; the server leaves the body out (RFC 9110 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


def _request_id(scope: Scope) -> bytes:
    """The client's or proxy's own if it is sane, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return bytes(value)
    return b"%016x" % random.getrandbits(64)


def _route(scope: Scope) -> str:
    """The route's pattern: `none` when no route matched, so that addresses are no labels."""
    return getattr(scope.get("route"), "path", "none")


def _count(scope: Scope, status: int, seconds: float) -> None:
    requests, histogram, tiles = _figures(_route(scope), status, scope.get("outcome", "full"))
    requests.inc()
    histogram.observe(seconds)
    if tiles:
        tiles.inc()


@lru_cache(maxsize=1024)
def _figures(route: str, status: int, outcome: str) -> tuple[Counter, Histogram, Counter | None]:
    """What an answer counts in: looking labels up costs more than counting."""
    kind = _TILES.get(route)
    if status != 200:
        outcome = _OUTCOMES.get(status) or ("refused" if 400 <= status < 500 else "failed")
    return (
        metrics.REQUESTS.labels(route, str(status)),
        metrics.REQUEST_SECONDS.labels(route),
        metrics.TILES.labels(kind, outcome) if kind else None,
    )


def _log(scope: Scope, status: int, seconds: float) -> None:
    client = scope.get("client")
    extra = {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "status": status,
        "seconds": round(seconds, 4),
        "client": client[0] if client else "",
    }
    log.info("%s %s %d %.4f s", scope["method"], scope["path"], status, seconds, extra=extra)
