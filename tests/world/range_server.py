"""An HTTP server of files by byte ranges, on loopback, with faults that can be switched on."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import unquote

Mode = Literal[
    "ok", "403", "404", "429", "500", "503",
    "truncate", "corrupt", "flip", "hang", "slow", "no-range", "redirect",
]  # fmt: skip
"""`flip`: one bit of the body is not as stored; `slow`: 2 kB a second."""
SLOW_BYTES_S = 2000


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it came. `size`: bytes of the body sent."""

    path: str
    headers: Mapping[str, str]
    status: int
    size: int


@dataclass
class RangeServer:
    """What is served and how. `mode` holds for every request while `times` is not used up (−1: for
    ever); `delay_s` before each answer; `only`: faults hit paths that contain it; `headers` go with
    the answer of a fault; `allows` (path, headers): other requests are answered 403.

    A file that changes is guarded twice, and each guard is tested alone: a server that does not
    `honor_if_match` gives bytes of the new file, told by their entity tag; one with a
    `claimed_etag`, as a proxy with old headers, gives them that tag and refuses by If-Match only.
    """

    root: Path
    mode: Mode = "ok"
    times: int = -1
    delay_s: float = 0.0
    only: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    allows: Callable[[str, Mapping[str, str]], bool] = lambda *_: True
    honor_if_match: bool = True
    claimed_etag: str = ""
    base: str = ""
    faulted: int = 0
    requested: list[ReceivedRequest] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, mode: Mode, times: int = -1, only: str = "", **headers: str) -> None:
        """Switch a fault on; `retry_after="2"` is a header of its answers."""
        self.released.clear()
        self.mode, self.times, self.only = mode, times, only
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def repair(self) -> None:
        """Back to normal; whatever hangs is let go."""
        self.mode, self.times = "ok", -1
        self.released.set()

    def url(self, path: Path | str) -> str:
        """The address of a file."""
        relative = path.relative_to(self.root) if isinstance(path, Path) else path
        return f"{self.base}/{relative}"

    @property
    def nbytes(self) -> int:
        """Bytes of every body sent."""
        return sum(each.size for each in self.requested)

    def take(self, path: str) -> Mode:
        """The mode for the next request of `path`."""
        with self.lock:
            if self.mode == "ok" or self.times == 0 or self.only not in path:
                return "ok"
            self.times -= self.times > 0
            self.faulted += 1
            return self.mode


@lru_cache(maxsize=8)
def _content(path: Path, changed_ns: int) -> tuple[bytes, str]:
    """Return a file's bytes and entity tag."""
    content = path.read_bytes()
    return content, f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: the interplay of Nagle and delayed ACK costs 40 ms.
    wbufsize = -1
    state: ClassVar[RangeServer]

    def do_GET(self) -> None:
        state = self.state
        if state.delay_s:
            time.sleep(state.delay_s)
        mode = state.take(self.path)
        path = state.root / unquote(self.path.split("?")[0]).lstrip("/")
        if mode == "hang":
            state.requested.append(ReceivedRequest(self.path, dict(self.headers), 0, 0))
            state.released.wait(60)
            self.close_connection = True
            return
        if mode == "ok" and not state.allows(self.path, dict(self.headers)):
            self._answer(403, b"no")
            return
        if mode.isdigit() or not path.is_file():
            self._answer(int(mode) if mode.isdigit() else 404, b"no", dict(state.headers))
            return
        if mode == "redirect":
            self._answer(302, b"", {"location": "http://127.0.0.1:1/elsewhere.tif"})
            return
        content, etag = _content(path, path.stat().st_mtime_ns)
        if state.honor_if_match and self.headers.get("if-match", etag) != etag:
            self._answer(412, b"")
            return
        etag = state.claimed_etag or etag
        requested = self.headers.get("range")
        if requested is None or mode == "no-range":
            self._answer(200, content, {"etag": etag}, mode == "truncate")
            return
        first, last = (int(part) for part in requested.removeprefix("bytes=").split("-"))
        body = content[first : last + 1]
        where = f"bytes {first}-{first + len(body) - 1}/{len(content)}"
        if mode == "corrupt":
            body = bytes(byte ^ 0x5A for byte in body)
        if mode == "flip":
            at = random.randrange(len(body))
            body = body[:at] + bytes((body[at] ^ 1 << random.randrange(8),)) + body[at + 1 :]
        headers = {"etag": etag, "content-range": where}
        self._answer(206, body, headers, mode == "truncate", mode == "slow")

    def _answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        cut: bool = False,
        slow: bool = False,
    ) -> None:
        sent = body[: len(body) // 2] if cut else body
        self.state.requested.append(
            ReceivedRequest(self.path, dict(self.headers), status, len(sent))
        )
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        step = SLOW_BYTES_S // 10 if slow else max(len(sent), 1)
        try:
            for first in range(0, max(len(sent), 1), step):
                self.wfile.write(sent[first : first + step])
                self.wfile.flush()
                if slow and self.state.released.wait(0.1):
                    cut = True
                    break
        except OSError:
            cut = True
        self.close_connection |= cut

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error."""


@contextmanager
def range_server(root: Path, **state: object) -> Iterator[RangeServer]:
    """Serves the files below `root` until the block ends."""
    server_state = RangeServer(root, **state)  # type: ignore[arg-type]
    handler = type("Handler", (_Handler,), {"state": server_state})
    server = _Server(("127.0.0.1", 0), handler)
    server_state.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server_state
    finally:
        server_state.repair()
        server.shutdown()
        server.server_close()
        thread.join(10)
