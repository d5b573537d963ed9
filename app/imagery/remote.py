"""The far side of a source: its files by byte ranges, within a deadline, counted.

GDAL is given bytes, never an address (see app.imagery.ranges): signing, deadlines, retries, entity
tags and counts are ours. Chosen over /vsicurl because that cannot hold a file to its entity tag,
bound a read (one costs up to 3 × its timeout), sign each read, or say what it cost.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import httpx2

from app.errors import SourceTooSlow, SourceUnavailable
from app.imagery.access import Access, Plain
from app.imagery.circuit import Circuit
from app.imagery.segments import Range, Segments
from app.imagery.traffic import Traffic

HEADER_BYTES = 32_768
"""The first request of a file: the header and tile index of a COG of up to 25,000² pixels."""

GAP_BYTES = 16_384
"""Ranges nearer than this are asked for as one: cheaper than another request."""

_AGAIN = frozenset({429, 500, 502, 503, 504})
_UNAUTHORISED = frozenset({401, 403, 409})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

log = logging.getLogger("landcover.imagery")
# It logs every address it asks, signature and all.
logging.getLogger("httpx2").addFilter(lambda record: record.levelno >= logging.WARNING)


@dataclass(frozen=True, slots=True)
class Limits:
    """`read_s`: longest a read of one scene may take, retries included. `request_s`: longest
    silence within one request. `connections`: requests under way at once. After `failures` failed
    reads in a row the source is left alone for `rest_s`. `pause_s`: before the first retry; twice
    as long before each further one."""

    read_s: float = 15.0
    request_s: float = 5.0
    retries: int = 2
    connections: int = 16
    failures: int = 5
    rest_s: float = 10.0
    cache_bytes: int = 64_000_000
    pause_s: float = 0.2


@dataclass(frozen=True, slots=True)
class Stat:
    """A file as its server describes it; `etag` is empty when it gives none."""

    length: int
    etag: str

    @property
    def identity(self) -> str:
        """What changes when the content does."""
        return f"{self.length}-{self.etag}"


class Changed(SourceUnavailable):
    """The file is not the one it was."""


class _Again(Exception):
    """An answer that may be another next time."""

    def __init__(self, reason: str, *, after: float = 0, slow: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.slow = slow


class Remote:
    """One source's server or bucket. Safe from several threads."""

    def __init__(
        self, source_id: str, access: Access | None = None, limits: Limits | None = None
    ) -> None:
        self.source_id = source_id
        self.access: Access = access or Plain()
        self.limits = limits or Limits()
        self.traffic = Traffic()
        self.circuit = Circuit(self.limits.failures, self.limits.rest_s)
        self.segments = Segments(self.limits.cache_bytes)
        self.touched: set[str] = set()
        """Files that were read; whoever looks for changes empties it."""
        self._stats: dict[str, Stat] = {}
        self._asking = [threading.Lock() for _ in range(64)]

    @property
    def unavailable(self) -> str | None:
        """Why the source is being left alone, None when it is not."""
        return self.circuit.reason if self.circuit.is_open else None

    def stat(self, href: str, name: str, size: int = HEADER_BYTES) -> Stat:
        """Length and entity tag, asked anew with the file's first bytes, which are kept.

        `name` is what errors call the file. SourceUnavailable when there is no answer.
        """
        deadline = time.monotonic() + self.limits.read_s
        data, stat = self._guarded(href, name, (0, size), "", deadline)
        if size >= HEADER_BYTES:
            self.segments.put(_file(href, stat.etag), 0, data)
        self._stats[href] = stat
        return stat

    def known(self, href: str, name: str) -> Stat:
        """What the file was when it was asked for last; asked now when it never was."""
        self.touched.add(href)
        stat = self._stats.get(href)
        if stat is None:
            with self._asking[hash(href) % len(self._asking)]:
                stat = self._stats.get(href) or self.stat(href, name)
        return stat

    def changed(self, href: str, name: str) -> Changed:
        """The error that says so; the file is asked for anew by the next who wants it."""
        self._stats.pop(href, None)
        return Changed(name, "the file changed while it was being served")

    def fetch(
        self, href: str, name: str, stat: Stat, ranges: Sequence[Range], deadline: float
    ) -> list[bytes]:
        """The bytes of every range of the file that `stat` describes.

        SourceUnavailable when they cannot be had by `deadline`, Changed when it is another file.
        """
        file = _file(href, stat.etag)
        wanted = [part for each in ranges for part in self.segments.missing(file, each)]
        found: dict[int, bytes] = {}

        def ask(part: Range) -> None:
            data, _ = self._guarded(href, name, part, stat.etag, deadline)
            self.segments.put(file, part[0], data)
            found[part[0]] = data

        joined = _joined(wanted)
        if len(joined) > 1:
            list(self._threads.map(ask, joined))
        elif joined:
            ask(joined[0])
        answers = []
        for each in ranges:
            data = self.segments.get(file, each)
            if data is None:  # larger than what is kept, or pushed out already
                data = _cut(found, each)
            if data is None:
                ask(each)
                data = found[each[0]]
            answers.append(data)
        return answers

    def whole(self, href: str, name: str) -> bytes:
        """All of a small file. SourceUnavailable when it cannot be had."""
        stat = self.stat(href, name)
        deadline = time.monotonic() + self.limits.read_s
        return self.fetch(href, name, stat, [(0, stat.length)], deadline)[0]

    def forget(self, href: str, stat: Stat) -> None:
        """Drops what was read of a file: it turned out to be damaged."""
        self.segments.forget(_file(href, stat.etag))

    def close(self) -> None:
        """Ends connections and threads."""
        if "_threads" in self.__dict__:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if "_client" in self.__dict__:
            self._client.close()

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.limits.connections, f"landcover-{self.source_id}")

    @cached_property
    def _client(self) -> httpx2.Client:
        count = self.limits.connections
        pool = httpx2.Limits(max_connections=None, max_keepalive_connections=2 * count)
        return httpx2.Client(
            limits=pool,
            headers={"user-agent": "landcover", "accept-encoding": "identity"},
            # A redirect leads where the operator did not point.
            follow_redirects=False,
        )

    def _guarded(
        self, href: str, name: str, part: Range, etag: str, deadline: float
    ) -> tuple[bytes, Stat]:
        """One range, behind the circuit."""
        wait = self.circuit.enter(deadline - time.monotonic())
        if wait:
            reason = f"the source is left alone after failing: {self.circuit.reason}"
            raise SourceUnavailable(name, reason, retry_after=wait, whole_source=True)
        answered = False
        try:
            result = self._patiently(href, name, part, etag, deadline)
            answered = True
        except Changed:
            answered = True
            raise
        except _Again as failure:
            self.traffic.add(failures=1)
            self.circuit.failed(str(failure))
            kind = SourceTooSlow if failure.slow else SourceUnavailable
            after = failure.after or 5
            raise kind(name, str(failure), retry_after=after, whole_source=True) from None
        except SourceUnavailable as refusal:
            # A file that is missing or forbidden says nothing about the others.
            self.traffic.add(failures=1)
            answered = not refusal.whole_source
            if not answered:
                self.circuit.failed(refusal.reason)
            raise
        finally:
            if answered:
                self.circuit.succeeded()
        return result

    def _patiently(
        self, href: str, name: str, part: Range, etag: str, deadline: float
    ) -> tuple[bytes, Stat]:
        """One range, asked for again as the limits allow."""
        renew = renewed = False
        attempt = 0
        while True:
            try:
                return self._once(href, name, part, etag, deadline, renew=renew)
            except _Unauthorised as refusal:
                if renewed:
                    raise SourceUnavailable(name, str(refusal), whole_source=True) from None
                renew = renewed = True
                pause = 0.0
            except _Again as failure:
                renew = False
                pause = max(self.limits.pause_s * 2**attempt, failure.after)
                attempt += 1
                if attempt > self.limits.retries or time.monotonic() + pause >= deadline:
                    raise
            self.traffic.add(retries=1)
            time.sleep(pause)

    def _once(
        self, href: str, name: str, part: Range, etag: str, deadline: float, *, renew: bool
    ) -> tuple[bytes, Stat]:
        offset, size = part
        headers = {"range": f"bytes={offset}-{offset + size - 1}"}
        if etag.startswith('"'):
            headers["if-match"] = etag
        address = self.access.address(href, headers, renew=renew)
        left = deadline - time.monotonic()
        if left <= 0:
            raise _Again("no answer within the time a read may take", slow=True)
        patience = min(self.limits.request_s, left)
        timeout = httpx2.Timeout(patience, connect=min(3.0, patience))
        self.traffic.add(requests=1)
        body = bytearray()
        try:
            with self._client.stream(
                "GET", address.url, headers=dict(address.headers), timeout=timeout
            ) as answer:
                if answer.status_code == 412 and etag:
                    raise self.changed(href, name)
                _check_status(answer, name)
                stat, expected = _described(answer, part, name)
                if etag and stat.etag != etag:
                    raise self.changed(href, name)
                for piece in answer.iter_raw():
                    body += piece
                    self.traffic.add(nbytes=len(piece))
                    if time.monotonic() > deadline:
                        raise _Again("no answer within the time a read may take", slow=True)
                    if len(body) > expected:
                        raise _Again("the answer is longer than it says")
        except httpx2.TimeoutException:
            raise _Again("the server does not answer in time", slow=True) from None
        except httpx2.HTTPError as error:
            # Its text may hold the address, and that a signature.
            raise _Again(f"the connection failed ({type(error).__name__})") from None
        if len(body) < expected:
            raise _Again("the answer ends early")
        return bytes(body), stat


class _Unauthorised(Exception):
    """401, 403 or 409: a signature or credentials are missing, or have run out."""


def _check_status(answer: httpx2.Response, name: str) -> None:
    status = answer.status_code
    if status in _AGAIN:
        raise _Again(f"the server answers {status}", after=_retry_after(answer))
    if status in _UNAUTHORISED:
        raise _Unauthorised(f"the server answers {status}: it needs other credentials")
    if status in (404, 410):
        raise SourceUnavailable(name, "the file has vanished")
    if status not in (200, 206):
        raise SourceUnavailable(name, f"the server answers {status}")


def _described(answer: httpx2.Response, part: Range, name: str) -> tuple[Stat, int]:
    """What an answer says of the file, and how many bytes it must have."""
    etag = answer.headers.get("etag", "") or answer.headers.get("last-modified", "")
    if answer.status_code == 200:
        length = int(answer.headers.get("content-length", -1))
        if part[0] or not 0 <= length <= part[1]:
            raise SourceUnavailable(name, "the server does not answer byte ranges")
        return Stat(length, etag), length
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if match is None:
        raise _Again("the answer does not say which bytes it holds")
    first, last, length = map(int, match.groups())
    if first != part[0] or last != min(sum(part), length) - 1:
        raise _Again("the answer holds other bytes than were asked for")
    return Stat(length, etag), last - first + 1


def _joined(parts: Iterable[Range]) -> list[Range]:
    """Ranges with those that nearly touch made one."""
    joined: list[Range] = []
    for offset, size in sorted(parts):
        if joined and offset <= sum(joined[-1]) + GAP_BYTES:
            start = joined[-1][0]
            joined[-1] = (start, max(sum(joined[-1]), offset + size) - start)
        else:
            joined.append((offset, size))
    return joined


def _cut(found: dict[int, bytes], wanted: Range) -> bytes | None:
    for start, data in found.items():
        if start <= wanted[0] and sum(wanted) <= start + len(data):
            return data[wanted[0] - start : sum(wanted) - start]
    return None


def _retry_after(answer: httpx2.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdigit() else 0.0


def _file(href: str, etag: str) -> str:
    return f"{href} {etag}"
