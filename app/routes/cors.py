"""Cross-origin requests (the Fetch standard): which pages of other origins may read answers.

`*` opens GET to every page; an origin that is named may send POST and DELETE too. Caches in between
keep answers, so the headers do not depend on the origin of a request, or Vary says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]

EXPOSED = (
    "Accept-Ranges", "Content-Crs", "Content-Disposition", "Content-Length", "Content-Range",
    "ETag", "Link", "Location", "Preference-Applied", "Retry-After", "Server-Timing", "X-Cache",
    "X-Landcover-Dates", "X-Landcover-Quality", "X-Landcover-Scenes", "X-Landcover-Stale",
    "X-Request-ID",
)  # fmt: skip
"""Headers of our answers that a script of another origin may read."""

ACCEPTED = (
    "Accept", "Authorization", "Content-Type", "If-Match", "If-Modified-Since", "If-None-Match",
    "If-Range", "Prefer", "Range", "X-API-Key", "X-Request-ID",
)  # fmt: skip
"""Headers that such a script may send."""

_READ, _ALL = "GET, HEAD", "GET, HEAD, POST, DELETE"
_EXPOSE = b"access-control-expose-headers"
_MAX_AGE_S = 86_400


class CrossOrigin:
    """Answers preflights and adds the headers that browsers look for."""

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        """`origins`: such as https://maps.example.org, or `*`."""
        self.app = app
        names = {origin.rstrip("/") for origin in origins}
        self._open = "*" in names
        self._named = frozenset(names - {"*"})
        self._unnamed = self._headers("", (_EXPOSE, _listed(EXPOSED)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] != "http" or not (self._open or self._named):
            await self.app(scope, receive, send)
            return
        origin = _header(scope, b"origin").decode("latin-1")
        if scope["method"] == "OPTIONS":
            method = _header(scope, b"access-control-request-method")
            if method:
                await self._preflight(origin, method, send)
                return
        named = origin in self._named
        added = self._headers(origin, (_EXPOSE, _listed(EXPOSED))) if named else self._unnamed

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*_with_origin_in_vary(message.get("headers", ()), added)]
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _headers(self, origin: str, *more: tuple[bytes, bytes]) -> Headers:
        """What an answer to a page of `origin` carries."""
        allowed = origin if origin in self._named else "*" if self._open else ""
        vary = [(b"vary", b"Origin")] if self._named else []
        if not allowed:
            return vary
        value = allowed.encode("latin-1")
        return [
            (b"access-control-allow-origin", value),
            (b"timing-allow-origin", value),
            *vary,
            *more,
        ]

    async def _preflight(self, origin: str, method: bytes, send: Send) -> None:
        methods = _ALL if origin in self._named else _READ if self._open else ""
        granted = method.decode("latin-1").upper() in methods.split(", ")
        headers = self._headers(
            origin,
            (b"access-control-allow-methods", methods.encode()),
            (b"access-control-allow-headers", _listed(ACCEPTED)),
            (b"access-control-max-age", str(_MAX_AGE_S).encode()),
        )
        await send(
            {
                "type": "http.response.start",
                "status": 204 if granted else 403,
                "headers": [*headers, (b"content-length", b"0")],
            }
        )
        await send({"type": "http.response.body", "body": b""})


def _header(scope: Scope, name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")


def _with_origin_in_vary(headers: Iterable[tuple[bytes, bytes]], added: Headers) -> Headers:
    """Both, with one Vary."""
    before = list(headers)
    if not any(name.lower() == b"vary" for name, _ in before):
        return before + added
    varies = [value for name, value in (*before, *added) if name.lower() == b"vary"]
    others = [(n, v) for n, v in (*before, *added) if n.lower() != b"vary"]
    return [*others, (b"vary", b", ".join(varies))] if varies else others


def _listed(names: Iterable[str]) -> bytes:
    return ", ".join(names).encode()
