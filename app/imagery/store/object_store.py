"""The far side of a source: its files by byte ranges, within a deadline, counted.

GDAL is given bytes, never an address (see app.imagery.ranges): signing, deadlines, retries, entity
tags and counts are ours. Chosen over /vsicurl because that cannot hold a file to its entity tag,
bound a read (one costs up to 3 × its timeout), sign each read, or say what it cost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

from app.errors import SourceTooSlow, SourceUnavailable
from app.imagery.store.range_cache import Range, RangeCache
from app.imagery.store.range_request import (
    Authenticator,
    FileChanged,
    ObjectStat,
    Plain,
    RangeRequest,
    TransferStats,
    TransientError,
    Unauthorized,
)
from app.resilience import CircuitBreaker

HEADER_BYTES = 32_768
"""The first request of a file: the header and tile index of a COG of up to 25,000² pixels."""

GAP_BYTES = 16_384
"""Ranges nearer than this are asked for as one: cheaper than another request."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
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


class ObjectStore:
    """One source's server or bucket. Safe from several threads."""

    def __init__(
        self, source_id: str, access: Authenticator | None = None, limits: ReadLimits | None = None
    ) -> None:
        self.source_id = source_id
        self.access: Authenticator = access or Plain()
        self.limits = limits or ReadLimits()
        self.traffic = TransferStats()
        self.circuit = CircuitBreaker(self.limits.failures, self.limits.rest_s)
        self.segments = RangeCache(self.limits.cache_bytes)
        self.touched: set[str] = set()
        """Files that were read; whoever looks for changes empties it."""
        self._stats: dict[str, ObjectStat] = {}
        self._asking = [threading.Lock() for _ in range(64)]

    @property
    def unavailable(self) -> str | None:
        """Why the source is being left alone, None when it is not."""
        return self.circuit.reason if self.circuit.is_open else None

    def stat(self, href: str, name: str, size: int = HEADER_BYTES) -> ObjectStat:
        """Length and entity tag, asked anew with the file's first bytes, which are kept.

        `name` is what errors call the file. SourceUnavailable when there is no answer.
        """
        deadline = time.monotonic() + self.limits.read_s
        data, stat = self._guarded(href, name, (0, size), "", deadline)
        if size >= HEADER_BYTES:
            self.segments.put(_file(href, stat.etag), 0, data)
        self._stats[href] = stat
        return stat

    def known(self, href: str, name: str) -> ObjectStat:
        """What the file was when it was asked for last; asked now when it never was."""
        self.touched.add(href)
        stat = self._stats.get(href)
        if stat is None:
            with self._asking[hash(href) % len(self._asking)]:
                stat = self._stats.get(href) or self.stat(href, name)
        return stat

    def changed(self, href: str, name: str) -> FileChanged:
        """The error that says so; the file is asked for anew by the next who wants it."""
        self._stats.pop(href, None)
        return FileChanged(name)

    def fetch(
        self, href: str, name: str, stat: ObjectStat, ranges: Sequence[Range], deadline: float
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

    def forget(self, href: str, stat: ObjectStat) -> None:
        """Drops what was read of a file: it turned out to be damaged."""
        self.segments.forget(_file(href, stat.etag))

    def close(self) -> None:
        """Ends connections and threads."""
        if "_threads" in self.__dict__:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if "_exchange" in self.__dict__:
            self._exchange.close()

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.limits.connections, f"landcover-{self.source_id}")

    @cached_property
    def _exchange(self) -> RangeRequest:
        limits = self.limits
        return RangeRequest(self.access, self.traffic, limits.request_s, limits.connections)

    def _guarded(
        self, href: str, name: str, part: Range, etag: str, deadline: float
    ) -> tuple[bytes, ObjectStat]:
        """One range, behind the circuit."""
        wait = self.circuit.enter(deadline - time.monotonic())
        if wait:
            reason = f"the source is left alone after failing: {self.circuit.reason}"
            raise SourceUnavailable(name, reason, retry_after=wait, whole_source=True)
        answered = False
        try:
            result = self._patiently(href, name, part, etag, deadline)
            answered = True
        except FileChanged:
            self._stats.pop(href, None)
            answered = True
            raise
        except TransientError as failure:
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
    ) -> tuple[bytes, ObjectStat]:
        """One range, asked for again as the limits allow."""
        renew = renewed = False
        attempt = 0
        while True:
            try:
                return self._exchange.get(href, name, part, etag, deadline, renew=renew)
            except Unauthorized as refusal:
                if renewed:
                    raise SourceUnavailable(name, str(refusal), whole_source=True) from None
                renew = renewed = True
                pause = 0.0
            except TransientError as failure:
                renew = False
                pause = max(self.limits.pause_s * 2**attempt, failure.after)
                attempt += 1
                if attempt > self.limits.retries or time.monotonic() + pause >= deadline:
                    raise
            self.traffic.add(retries=1)
            time.sleep(pause)


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


def _file(href: str, etag: str) -> str:
    return f"{href} {etag}"
