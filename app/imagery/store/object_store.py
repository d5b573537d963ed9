"""The files of one source on a network, by byte ranges: within a deadline, counted, never mixed.

GDAL is given bytes, never an address (see store.opener). Every scheme is read over this one https
transport: obstore's own `get` follows redirects and hides headers and status (`Retry-After`).
"""

from __future__ import annotations

import re
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import httpx2

from app.errors import SourceTooSlow, SourceUnavailable
from app.imagery.store import LARGEST, Authenticator, ByScheme
from app.imagery.store.range_cache import Range, RangeCache, coalesced, cut_from
from app.imagery.store.reach import Reach, ReachTransport
from app.resilience import (
    RETRIED_STATUSES,
    CircuitBreaker,
    CircuitOpen,
    OutOfReach,
    RetryPolicy,
    ServiceError,
    retry_after,
)

HEADER_BYTES = 32_768
"""The first request of a file: the header and tile index of a COG of up to 25,000² pixels."""

PROBE_S = 2.0
"""Longest a probe of a server that failed may take; it is sent again soon."""

MOST_KNOWN = 65_536
"""Files whose length and entity tag are remembered."""

_TOO_LATE = "no answer within the time a read may take"
_UNAUTHORIZED = frozenset({401, 403, 409})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """`read_s`: longest a read of one scene may take, retries included. `request_s`: longest
    silence within one request. `connections`: requests under way at once. After `failures` failed
    reads in a row the source is left alone for `rest_s`, or until a probe finds it back. `pause_s`:
    before the first retry."""

    read_s: float = 15.0
    request_s: float = 4.0
    retries: int = 2
    connections: int = 16
    failures: int = 5
    rest_s: float = 4.0
    cache_bytes: int = 64_000_000
    pause_s: float = 0.2


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """A file as its server describes it; `etag` is empty when it gives none. `plain`: it came
    without TLS, which detects every change on the way."""

    length: int
    etag: str
    plain: bool = field(default=False, compare=False)

    @property
    def identity(self) -> str:
        """Return what changes when the content does."""
        return f"{self.length}-{self.etag}"


@dataclass(slots=True)
class TransferStats:
    """Counters that only grow. `requests` holds every request sent, `retries` those sent again;
    `bytes` of bodies received; `failures` reads that ended without data."""

    requests: int = 0
    bytes: int = 0
    retries: int = 0
    failures: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **counts: int) -> None:
        """Add to the counters by name; safe from several threads."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


class FileChanged(SourceUnavailable):
    """The file is not the one it was."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "the file changed while it was being served")


class ObjectStore:
    """One source's server or bucket. Safe from several threads."""

    def __init__(
        self,
        source_id: str,
        access: Authenticator | None = None,
        limits: ReadLimits | None = None,
        *,
        reach: Reach | None = None,
    ) -> None:
        """`reach`: what may be requested; nothing when it is not given."""
        self.source_id = source_id
        self.access: Authenticator = access or ByScheme()
        self.limits = limits or ReadLimits()
        self.reach = reach or Reach()
        self.stats = TransferStats()
        self.circuit = CircuitBreaker(self.limits.failures, self.limits.rest_s)
        self.touched: set[str] = set()
        """Files that were read; whoever looks for changes empties it."""
        self._policy = RetryPolicy(
            self.limits.retries + 1, self.limits.request_s, self.limits.read_s, self.limits.pause_s
        )
        self._cache = RangeCache(self.limits.cache_bytes)
        self._known: dict[str, ObjectStat] = {}
        self._headers: dict[str, tuple[int, int | None]] = {}
        self._last_read = self._last_failed = ""
        self._missed: str | None = None
        self._known_lock = threading.Lock()
        self._locks = [threading.Lock() for _ in range(64)]

    @property
    def unavailable(self) -> str | None:
        """Return why files cannot be read at the moment, None when they can, as far as known."""
        return self.circuit.reason if self.circuit.is_open else self._missed

    def look(self) -> None:
        """Request a byte of the file that was read last, so that a server which went away is
        noticed without traffic; SourceUnavailable. Nothing is requested when nothing was read."""
        if self._last_read and not self.circuit.is_open:
            try:
                self._read(self._last_read, self.source_id, (0, 1), "", self._ends())
            except SourceUnavailable as error:
                if error.whole_source:
                    self._missed = error.reason
                    raise

    def probe(self) -> bool:
        """Find out in a short time whether the server is back; return whether it is."""
        hrefs = [href for href in (self._last_failed, self._last_read) if href]
        return not hrefs or self.circuit.probe(lambda: self._probe(dict.fromkeys(hrefs)))

    def stat(self, href: str, name: str, size: int = HEADER_BYTES) -> ObjectStat:
        """Return length and entity tag, requested anew with the first bytes, which are kept.

        `name` is what errors call the file. SourceUnavailable when there is no answer.
        """
        data, stat = self._read(href, name, (0, size), "", self._ends())
        with self._known_lock:
            if size >= HEADER_BYTES:
                self._cache.put(_file(href, stat.etag), 0, data)
                self._headers[_file(href, stat.etag)] = zlib.crc32(data), None
            self._known[href] = stat
            for memory in (self._known, self._headers):
                while len(memory) > MOST_KNOWN:
                    del memory[next(iter(memory))]
        return stat

    def confirm(self, href: str, name: str, stat: ObjectStat) -> None:
        """Request the header once more; SourceUnavailable unless it is the same, so that it must be
        damaged twice alike before anybody believes it."""
        self._cache.forget(_file(href, stat.etag))
        self.fetch(href, name, stat, [(0, min(HEADER_BYTES, stat.length))], self._ends())

    def known(self, href: str, name: str) -> ObjectStat:
        """Return what the file was when last requested; requested now when it never was."""
        if len(self.touched) < MOST_KNOWN:
            self.touched.add(href)
        stat = self._known.get(href)
        if stat is None:
            with self._locks[hash(href) % len(self._locks)]:
                stat = self._known.get(href) or self.stat(href, name)
        return stat

    def changed(self, href: str, name: str) -> FileChanged:
        """Return the error to raise; the next reader of the file requests its state anew."""
        self._known.pop(href, None)
        return FileChanged(name)

    def fetch(
        self, href: str, name: str, stat: ObjectStat, ranges: Sequence[Range], deadline: float
    ) -> list[bytes]:
        """Return the bytes of every range of the file that `stat` describes.

        SourceUnavailable when they cannot be had by `deadline` (time.monotonic), FileChanged when
        it is another file by now.
        """
        file = _file(href, stat.etag)
        pieces: dict[int, bytes] = {}

        def request(part: Range) -> None:
            data, now = self._read(href, name, part, stat.etag, deadline)
            if now.length != stat.length:  # all that tells, of a server without entity tags
                raise self.changed(href, name)
            if part[0] == 0 and len(data) >= min(HEADER_BYTES, stat.length):
                self._check_header(file, name, data)
            self._cache.put(file, part[0], data)
            pieces[part[0]] = data

        missing = coalesced(part for each in ranges for part in self._cache.missing(file, each))
        if len(missing) > 1:
            list(self._threads.map(request, missing))
        elif missing:
            request(missing[0])
        results = []
        for each in ranges:
            # Not in the cache: larger than what it keeps, or pushed out already.
            data = self._cache.get(file, each) or cut_from(pieces.items(), each)
            if data is None:
                request(each)
                data = pieces[each[0]]
            results.append(data)
        return results

    def whole(self, href: str, name: str) -> bytes:
        """Return all of a small file; SourceUnavailable when it cannot be had or is none."""
        stat = self.stat(href, name)
        if stat.length > LARGEST:
            reason = f"it has {stat.length:,} bytes, more than {LARGEST // 1_000_000} MB"
            raise SourceUnavailable(name, reason)
        return self.fetch(href, name, stat, [(0, stat.length)], self._ends())[0]

    def forget(self, href: str, stat: ObjectStat, *, header: bool = False) -> None:
        """Drop what was read of a file: it turned out to be damaged. `header`: so is what later
        reads of the header would be compared with."""
        self._cache.forget(_file(href, stat.etag))
        if header:
            with self._known_lock:
                self._headers.pop(_file(href, stat.etag), None)

    def close(self) -> None:
        """End connections and threads."""
        if "_threads" in self.__dict__:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if "_client" in self.__dict__:
            self._client.close()

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.limits.connections, f"landcover-{self.source_id}")

    @cached_property
    def _client(self) -> httpx2.Client:
        return httpx2.Client(
            transport=ReachTransport(self.reach, keepalive=2 * self.limits.connections),
            headers={"user-agent": "landcover", "accept-encoding": "identity"},
            # A redirect leads where the operator did not point.
            follow_redirects=False,
        )

    def _check_header(self, file: str, name: str, data: bytes) -> None:
        """Raise SourceUnavailable unless a header is what it was, or what it was the last time that
        it differed: nothing else tells that it was damaged on the way."""
        digest = zlib.crc32(data[:HEADER_BYTES])
        with self._known_lock:
            trusted, other = self._headers.get(file, (digest, None))
            if digest in (trusted, other):
                self._headers[file] = digest, None
                return
            self._headers[file] = trusted, digest
        raise SourceUnavailable(name, "the file is damaged: two reads of its header differ")

    def _read(
        self, href: str, name: str, part: Range, etag: str, deadline: float
    ) -> tuple[bytes, ObjectStat]:
        """Return one range, retried within the deadline; the breaker sees every outcome."""
        if (refusal := self.reach.refusal(href)) is not None:
            raise SourceUnavailable(name, refusal)
        renewed = False

        def attempt(ends: float) -> tuple[bytes, ObjectStat]:
            nonlocal renewed
            renew = False
            while True:
                try:
                    return self._request(href, name, part, etag, ends, renew=renew)
                except _Unauthorized as refusal:
                    if renewed:
                        raise SourceUnavailable(name, str(refusal), whole_source=True) from None
                    renew = renewed = True
                    self.stats.add(retries=1)

        try:
            # A file that is missing or forbidden says nothing about the others.
            with self.circuit.guard(deadline - time.monotonic(), harmless=_is_of_one_file):
                result = self._policy.run(
                    attempt, deadline=deadline, on_retry=lambda: self.stats.add(retries=1)
                )
        except FileChanged:
            self._known.pop(href, None)
            raise
        except OutOfReach as error:
            raise SourceUnavailable(name, error.reason) from error
        except CircuitOpen as error:
            reason = f"the source is left alone after failing: {error.reason}"
            raise SourceUnavailable(
                name, reason, retry_after=error.wait_s, whole_source=True
            ) from None
        except ServiceError as error:
            self.stats.add(failures=1)
            self._last_failed = href
            kind = SourceTooSlow if error.timed_out else SourceUnavailable
            after = error.retry_after or 5
            raise kind(name, error.reason, retry_after=after, whole_source=True) from error
        except SourceUnavailable as error:
            self.stats.add(failures=1)
            if error.whole_source:
                self._last_failed = href
            raise
        self._last_read, self._missed = href, None
        return result

    def _ends(self) -> float:
        """Return when a read that begins now must have ended, seconds of time.monotonic."""
        return time.monotonic() + self.limits.read_s

    def _probe(self, hrefs: Iterable[str]) -> None:
        """Request a byte of each file until one is answered; raise what the first one met with.

        One file that fails for good must not speak for the others.
        """
        first: Exception | None = None
        for href in hrefs:
            ends = time.monotonic() + min(PROBE_S, self.limits.read_s)
            try:
                try:
                    self._request(href, self.source_id, (0, 1), "", ends, renew=False)
                except _Unauthorized:
                    self._request(href, self.source_id, (0, 1), "", ends, renew=True)
            except (SourceUnavailable, ServiceError, _Unauthorized) as error:
                if not _is_of_one_file(error):
                    first = first or error
                    continue
            self._missed = None
            return
        if first is not None:
            raise first

    def _request(
        self, href: str, name: str, part: Range, etag: str, deadline: float, *, renew: bool
    ) -> tuple[bytes, ObjectStat]:
        """Return one range of the file with that entity tag (empty: any), in one attempt."""
        headers = {"range": f"bytes={part[0]}-{sum(part) - 1}"}
        if etag.startswith('"'):
            headers["if-match"] = etag
        address = self.access.address(href, headers, renew=renew)
        silence_s = min(self.limits.request_s, deadline - time.monotonic())
        if silence_s <= 0:
            raise ServiceError(_TOO_LATE, timed_out=True)
        timeout = httpx2.Timeout(silence_s, connect=min(3.0, silence_s))
        self.stats.add(requests=1)
        body = bytearray()
        # Texts of httpx2's errors may hold the address, and that a signature.
        try:
            with self._client.stream(
                "GET", address.url, headers=dict(address.headers), timeout=timeout
            ) as answer:
                _check_status(answer, name, etag)
                stat, expected = _described(answer, part, name)
                if etag and stat.etag != etag:
                    raise FileChanged(name)
                for piece in answer.iter_raw():
                    body += piece
                    self.stats.add(bytes=len(piece))
                    if time.monotonic() > deadline:
                        raise ServiceError(_TOO_LATE, timed_out=True)
                    if len(body) > expected:
                        raise ServiceError("the answer is longer than it says")
        except httpx2.TimeoutException:
            raise ServiceError("the server does not answer in time", timed_out=True) from None
        except httpx2.HTTPError as error:
            raise ServiceError(f"the connection failed ({type(error).__name__})") from None
        except httpx2.InvalidURL:
            raise SourceUnavailable(name, "its address is not valid") from None
        if len(body) < expected:
            raise ServiceError("the answer ends early")
        return bytes(body), stat


class _Unauthorized(Exception):
    """401, 403 or 409: a signature or credentials are missing, or have run out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _is_of_one_file(error: Exception) -> bool:
    return isinstance(error, SourceUnavailable) and not error.whole_source


def _check_status(answer: httpx2.Response, name: str, etag: str) -> None:
    status = answer.status_code
    reason = f"the server answers {status}"
    if status in RETRIED_STATUSES:
        raise ServiceError(reason, status=status, retry_after=retry_after(answer.headers))
    if status in _UNAUTHORIZED:
        raise _Unauthorized(f"{reason}: it needs other credentials")
    if status == 412 and etag:
        raise FileChanged(name)
    if status in (404, 410):
        raise SourceUnavailable(name, "the file has vanished")
    if status not in (200, 206):
        raise SourceUnavailable(name, reason)


def _described(answer: httpx2.Response, part: Range, name: str) -> tuple[ObjectStat, int]:
    """Return what an answer says of the file, and how many bytes it must have."""
    etag = answer.headers.get("etag", "") or answer.headers.get("last-modified", "")
    plain = answer.request.url.scheme == "http"
    if answer.status_code == 200:
        text = answer.headers.get("content-length", "")
        length = int(text) if text.isascii() and text.isdigit() else -1
        if part[0] or not 0 <= length <= part[1]:
            raise SourceUnavailable(name, "the server does not answer byte ranges")
        return ObjectStat(length, etag, plain), length
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if match is None:
        raise ServiceError("the answer does not say which bytes it holds")
    first, last, length = map(int, match.groups())
    if first != part[0] or last != min(sum(part), length) - 1:
        raise ServiceError("the answer holds other bytes than were requested")
    return ObjectStat(length, etag, plain), last - first + 1


def _file(href: str, etag: str) -> str:
    return f"{href} {etag}"
