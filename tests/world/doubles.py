"""Local doubles of the Planetary Computer: a STAC API, its token service and its blob storage.

They behave as recorded in FIELD.md §3 of the project's notes: paging by links, tokens that expire,
429 storms, wrong dates, containers closed to anonymous reading (409).
"""

from __future__ import annotations

import email.utils
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.world.stac import Paging, stac_answer


@dataclass
class Doubles:
    """What the services do; tests change it while they run.

    `life_s`: how long a token lasts. `token_answers`: statuses that come before tokens do.
    `dates`: (st, se) in seconds from now instead of the true ones. `closed`: the status of an
    unsigned read, 0: allowed. `searches_answered`: pages given before 503. `skew_s`: how far the
    services' clock is ahead of this machine's.
    """

    items: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    page: int = 3
    paging: Paging = "merge"
    search_status: int = 0
    searches_answered: int = 1_000_000
    life_s: float = 2700.0
    token_answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    dates: tuple[float, float] | None = None
    closed: int = 0
    broken: int = 0
    skew_s: float = 0.0
    token_delay_s: float = 0.0
    search_delay_s: float = 0.0
    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    valid: dict[str, float] = field(default_factory=dict)
    headers: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> float:
        """The services' clock."""
        return time.time() + self.skew_s

    def count(self, part: str) -> int:
        """Requests whose path holds `part`."""
        with self.lock:
            return sum(part in path for _, path in self.requests)

    def expire(self) -> None:
        """Every token given out so far is void from now on."""
        with self.lock:
            self.valid.clear()

    @property
    def token_url(self) -> str:
        return f"{self.url}/api/sas/v1/token/{{account}}/{{container}}"

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def stac_url(self) -> str:
        return f"{self.url}/api/stac/v1"

    def blob(self, name: str) -> str:
        """The unsigned address of a file."""
        return f"{self.url}/naip/v002/al/2017/al_100cm_2017/32086/{name}"

    def add(self, path: Path) -> str:
        """Serves a file; its unsigned address."""
        self.files[path.name] = path
        return self.blob(path.name)


@contextmanager
def doubles(**behavior: Any) -> Iterator[Doubles]:  # noqa: ANN401
    """The services on a port of their own."""
    state = Doubles(**behavior)

    class Handler(_Handler):
        world = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    world: Doubles
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return email.utils.formatdate(timestamp or self.world.now(), usegmt=True)

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        self._answer(json.loads(self.rfile.read(length)))

    def _answer(self, body: dict[str, Any]) -> None:
        world, path = self.world, urlsplit(self.path).path
        with world.lock:
            world.requests.append((self.command, self.path))
            world.headers.append({k.lower(): v for k, v in self.headers.items()})
        if path.startswith("/api/sas/"):
            self._token()
        elif path.startswith("/api/stac/"):
            self._stac(path.removeprefix("/api/stac/v1"), body)
        else:
            self._blob(path.rpartition("/")[2])

    # ---- token service

    def _token(self) -> None:
        world = self.world
        time.sleep(world.token_delay_s)
        with world.lock:
            refusal = world.token_answers.pop(0) if world.token_answers else None
            number = len(world.valid)
        if refusal:
            self._send(refusal[0], {"message": "Rate limit is exceeded"}, refusal[1])
            return
        starts, expires = world.dates or (-60.0, world.life_s)
        began, ends = _rfc3339(world.now() + starts), _rfc3339(world.now() + expires)
        signature = f"secret{number}{time.monotonic_ns()}"
        with world.lock:
            world.valid[signature] = world.now() + expires
        token = f"st={began}&se={ends}&sp=rl&sv=2024-05-04&sr=c&sig={signature}%3D"
        self._send(200, {"msft:expiry": ends, "token": token})

    # ---- STAC API

    def _stac(self, path: str, body: dict[str, Any]) -> None:
        world = self.world
        time.sleep(world.search_delay_s)
        if world.search_status:
            self._send(world.search_status, {"code": "Down"})
        elif path == "/search" and world.count("/search") > world.searches_answered:
            self._send(503, {"code": "Down"})
        else:
            query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
            self._send(*stac_answer(world, self.command, path, query, body))

    # ---- blob storage

    def _blob(self, name: str) -> None:
        world = self.world
        signature = parse_qs(urlsplit(self.path).query).get("sig", [""])[0].rstrip("=")
        with world.lock:
            expires = world.valid.get(signature)
        if world.broken:
            self._send(world.broken, {})
        elif signature and (expires is None or expires < world.now()):
            self._send(403, {"code": "AuthenticationFailed"})
        elif not signature and world.closed:
            self._send(world.closed, {"code": "PublicAccessNotPermitted"})
        elif name not in world.files:
            self._send(404, {"code": "BlobNotFound"})
        else:
            self._range(world.files[name])

    def _range(self, path: Path) -> None:
        content = path.read_bytes()
        etag = f'"{len(content)}-{path.stat().st_mtime_ns}"'
        wanted = self.headers.get("range", "")
        first, last, status = 0, len(content) - 1, 200
        if wanted.startswith("bytes="):
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last, status = int(start), min(int(end or last), last), 206
        part = content[first : last + 1]
        headers = {"etag": etag, "accept-ranges": "bytes"}
        if status == 206:
            headers["content-range"] = f"bytes {first}-{last}/{len(content)}"
        self._write(status, part, headers, "image/tiff")

    def _send(self, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
        self._write(status, json.dumps(content).encode(), headers or {}, "application/json")

    def _write(self, status: int, content: bytes, headers: Mapping[str, str], media: str) -> None:
        try:
            self.send_response(status)
            for name, value in {"content-type": media, **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:
            self.close_connection = True


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
