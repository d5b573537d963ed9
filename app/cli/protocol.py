"""HTTP on a socket within limits: what no client may make this process hold or wait for.

uvicorn's protocol bounds neither the head of a request nor the time it takes to arrive, and begins
whatever has arrived at once; the event loop then answers nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar, cast
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import (
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

URL_BYTES = 8192
HEAD_BYTES = 32_768
HEAD_FIELDS = 100
HEAD_S = 10.0
"""Seconds in which the head of a request must arrive; of a new connection, from its beginning."""

BODY_S = 60.0
"""Seconds in which the body must arrive."""

UNREAD_S = 60.0
"""Seconds after which an answer of which the client reads nothing more is given up."""

CONNECTIONS = 2048
"""Connections held at once; of more, those that have kept us waiting longest are closed."""

STARTED_PER_TURN = 8
"""Requests begun per turn of the event loop; `/healthz` is begun at once."""

PARSED_PER_TURN = 32
"""Pieces parsed per turn that clients have sent of whom no request is known yet."""

_MB = 1_000_000
_LOOK_S = 1.0
_SLICE = 4096
_DISCARD_S = 1.0
_FRESH_S = 2.0
"""Seconds after which a stopping server closes a connection that has brought no request yet."""

_SO_ATTACH_FILTER = 26
_URGENT = "/healthz"


def admit_no_more(listener: int) -> None:
    """Have the kernel drop attempts to connect to a listening socket, a descriptor.

    Closing it resets what is in its queue; with nothing new coming in, the queue can be emptied
    first. A client whose attempt is dropped tries again within a second and is then refused.
    """
    if sys.platform != "linux":
        return
    drop_all = struct.pack("HBBI", 0x06, 0, 0, 0)  # classic BPF: return 0 bytes of the packet
    program = ctypes.create_string_buffer(drop_all)
    attached = struct.pack("HP", 1, ctypes.addressof(program))
    with (
        contextlib.suppress(OSError),
        socket.socket(fileno=os.dup(listener)) as shared,
    ):
        shared.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)


class _Turns:
    """Begins requests a few per turn of the event loop, in the order they came."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        """`most`: begun in one turn."""
        self._loop, self._most = loop, most
        self._waiting: deque[Callable[[], None]] = deque()
        self._begun = 0

    def begin(self, start: Callable[[], None]) -> None:
        """Call `start`, now or in one of the next turns."""
        if self._waiting or self._begun >= self._most:
            self._waiting.append(start)
            return
        if not self._begun:
            self._loop.call_soon(self._next)
        self._begun += 1
        start()

    def _next(self) -> None:
        self._begun = min(self._most, len(self._waiting))
        if self._begun:
            self._loop.call_soon(self._next)
        for _ in range(self._begun):
            self._waiting.popleft()()


class Connections:
    """What the connections of one server share."""

    _of: ClassVar[WeakKeyDictionary[ServerState, Connections]] = WeakKeyDictionary()

    def __init__(self, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        self.turns = _Turns(loop, STARTED_PER_TURN)
        self.arrivals = _Turns(loop, PARSED_PER_TURN)
        self.draining = False
        self._state = state
        self._loop = loop
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # Files, sources and jobs need descriptors too.
        self._limit = min(CONNECTIONS, allowed // 2) if allowed > 0 else CONNECTIONS
        loop.call_later(_LOOK_S, self._look)

    @classmethod
    def of(cls, state: ServerState, loop: asyncio.AbstractEventLoop) -> Connections:
        """Return those of a server, whose first connection makes them."""
        if state not in cls._of:
            cls._of[state] = cls(state, loop)
        return cls._of[state]

    def make_room(self) -> None:
        """Close those that keep us waiting longest when there are too many."""
        if len(self._state.connections) <= self._limit:
            return
        held = cast("list[Guarded]", list(self._state.connections))
        waiting = [each for each in held if each.waiting_since is not None]
        waiting.sort(key=lambda each: each.waiting_since or 0.0)
        # A few at once: sorting for each of a thousand newcomers would stall the loop.
        for each in waiting[: max(1, self._limit // 32)]:
            each.transport.abort()

    def _look(self) -> None:
        """End those that are late; from time to time."""
        now = self._loop.time()
        for each in list(self._state.connections):
            cast("Guarded", each).look(now)
        self._loop.call_later(_LOOK_S, self._look)


class Guarded(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 within limits; a stopping server closes with an answer, not between two.

    The limit of a body is the application's, from its lifespan state `body_bytes`.
    """

    url = b""
    waiting_since: float | None = None
    """When we began to wait for the rest of a head or of a body; None when we do not."""

    _is_known = False
    """Whether a request has come whole: then it does not wait behind a thousand newcomers."""

    _unparsed = 0
    """Pieces that have arrived and wait for their turn."""

    _in_head = True
    _is_refused = False
    _head_bytes = 0
    _body_bytes = 0
    _unsent = 0
    _unsent_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Do as uvicorn does, within the number of connections."""
        super().connection_made(transport)
        self._shared = Connections.of(self.server_state, self.loop)
        self._body_limit = int(self.app_state.get("body_bytes", _MB)) * 2 + _MB
        self.waiting_since = self.loop.time()
        self._shared.make_room()

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, of newcomers a few per turn of the event loop."""
        if self._is_known and not self._unparsed:
            self._parse(data)
            return

        def parse() -> None:
            self._unparsed -= 1
            self._parse(data)

        self._unparsed += 1
        self._shared.arrivals.begin(parse)

    def _parse(self, data: bytes) -> None:
        """Parse, a head only up to its limits."""
        if self.waiting_since is None and self._in_head:
            self.waiting_since = self.loop.time()
        while data and not self._is_refused and not self.transport.is_closing():
            if self._in_head:
                size = min(_SLICE, HEAD_BYTES - self._head_bytes)
                piece, data = data[:size], data[size:]
                super().data_received(piece)
                self._head_bytes += len(piece)
            else:
                piece, data = data, b""
                super().data_received(piece)
                self._head_bytes = 0
                self._body_bytes += len(piece)
            self._check()

    def on_headers_complete(self) -> None:
        """Begin the request unless its head is refused; the last one when the server stops."""
        self._in_head = False
        self._check()
        if self._is_refused:
            return
        self._body_bytes = 0
        self.waiting_since = self.loop.time()
        super().on_headers_complete()
        if self._shared.draining and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Do as uvicorn does."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Do as uvicorn does."""
        self._in_head, self._head_bytes, self.waiting_since = True, 0, None
        self._is_known = True
        if not self._is_refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP/1.1."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def look(self, now: float) -> None:
        """End the connection when the client is late, to send or to read."""
        limit = HEAD_S if self._in_head else BODY_S
        if self.waiting_since is not None and now - self.waiting_since > limit:
            what = "head" if self._in_head else "body"
            text = f"the {what} of the request did not arrive within {limit:g} s"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, text, limit)
            return
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > UNREAD_S:
            self.transport.abort()

    def shutdown(self) -> None:
        """Do as uvicorn does, later for who has just connected: the request is on its way."""
        if self.cycle is None and not self._is_refused:
            self.loop.call_later(_FRESH_S, super().shutdown)
        else:
            super().shutdown()

    def drain(self) -> None:
        """Close with the answer in progress; an idle connection may still bring a request."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401
        begin = super()._start_asgi_task

        def start() -> None:
            if not self.transport.is_closing():  # else nobody waits for it any more
                begin(cycle, app)

        if cycle.scope["path"].endswith(_URGENT):
            start()
        else:
            self._shared.turns.begin(start)

    def _check(self) -> None:
        """Refuse a head above one of its limits, and a body far above the application's."""
        if len(self.url) > URL_BYTES:
            text = f"the URL is longer than {URL_BYTES} bytes"
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG, text, URL_BYTES)
        elif self.headers is not None and len(self.headers) > HEAD_FIELDS:
            text = f"the request has more than {HEAD_FIELDS} header fields"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text, HEAD_FIELDS)
        elif self._in_head and self._head_bytes >= HEAD_BYTES:
            text = f"the head of the request is larger than {HEAD_BYTES} bytes"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text, HEAD_BYTES)
        elif not self._in_head and self._body_bytes > self._body_limit:
            text = f"the body of the request is larger than {self._body_limit} bytes"
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text, self._body_limit)

    def _refuse(self, status: HTTPStatus, detail: str, limit: float | None = None) -> None:
        """Answer with a problem, if nothing of another answer is on its way, and close."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused, self.waiting_since = True, None
        has_begun = self.cycle is not None and (self.cycle.response_started or self._in_head)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if has_begun:
                self.transport.abort()
                return
        elif has_begun and not self._in_head:
            self.transport.close()  # answered before all of the body had come
            return
        content = {"title": status.phrase, "status": status.value, "detail": detail}
        body = json.dumps(content if limit is None else {**content, "limit": limit}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            f"content-type: application/problem+json\r\ncontent-length: {len(body)}\r\n"
            "cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        # Closed at once, with more on its way, the answer would be lost in a reset.
        self.transport.pause_reading()
        self.loop.call_later(_DISCARD_S, self.transport.close)
