"""Headers, timing, metrics and logs of every answer. Plain ASGI: a warm tile takes microseconds."""

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
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
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
    """Give every answer its id and security headers; time, count and, if set, log it."""

    def __init__(self, app: ASGIApp, *, access_log: bool = False) -> None:
        self.app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _request_id(scope)
        timings = metrics.Timings()
        REQUEST_ID.set(request_id.decode())
        metrics.TIMINGS.set(timings)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), *SECURITY, (b"x-request-id", request_id)]
                if _route(scope) in _TILES:
                    timing = timings.header(time.perf_counter() - began)
                    headers.append((b"server-timing", timing.encode()))
                message["headers"] = headers
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            # Only a stopping server cancels a request, when its grace period is over.
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
    """Answer HEAD like GET; the server leaves the body out (RFC 9110 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


def _request_id(scope: Scope) -> bytes:
    """Return the client's or proxy's id if it is well-formed, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value)
    return b"%016x" % random.getrandbits(64)


def _route(scope: Scope) -> str:
    """Return the route's pattern; `none` when no route matched, so that addresses are no labels."""
    return getattr(scope.get("route"), "path", "none")


def _count(scope: Scope, status: int, seconds: float) -> None:
    requests, histogram, tiles = _figures(_route(scope), status, scope.get("outcome", "full"))
    requests.inc()
    histogram.observe(seconds)
    if tiles:
        tiles.inc()


@lru_cache(maxsize=1024)
def _figures(route: str, status: int, outcome: str) -> tuple[Counter, Histogram, Counter | None]:
    """Return the metrics of an answer, cached: looking up labels costs more than counting."""
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
