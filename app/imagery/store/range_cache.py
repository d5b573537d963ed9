"""Byte ranges of remote files: nearby ones joined, recent ones kept so that neighbors share."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable

Range = tuple[int, int]
"""(offset, size) in bytes."""

GAP_BYTES = 16_384
"""Ranges nearer than this are requested as one: cheaper than another request."""


def coalesced(parts: Iterable[Range]) -> list[Range]:
    """Return ranges with those that nearly touch made one, in order."""
    joined: list[Range] = []
    for offset, size in sorted(parts):
        if joined and offset <= sum(joined[-1]) + GAP_BYTES:
            start = joined[-1][0]
            joined[-1] = (start, max(sum(joined[-1]), offset + size) - start)
        else:
            joined.append((offset, size))
    return joined


def cut_from(pieces: Iterable[tuple[int, bytes]], wanted: Range) -> bytes | None:
    """Return the bytes of a range out of one of the (offset, bytes) that holds all of it."""
    for start, data in pieces:
        if start <= wanted[0] and sum(wanted) <= start + len(data):
            return data[wanted[0] - start : sum(wanted) - start]
    return None


class RangeCache:
    """Byte ranges by file, at most `limit_bytes` of them; the least recently used goes first.

    A file is named by whatever changes with its content. Safe from several threads.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._data: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._starts: dict[str, set[int]] = defaultdict(set)
        self.nbytes = 0

    def missing(self, file: str, wanted: Range) -> list[Range]:
        """Return the parts of a range that are not here, in order."""
        with self._lock:
            return [part for part, data in self._parts(file, wanted) if data is None]

    def get(self, file: str, wanted: Range) -> bytes | None:
        """Return the bytes of a range, None unless all of them are here."""
        with self._lock:
            parts = [data for _, data in self._parts(file, wanted)]
        return None if None in parts else b"".join(part for part in parts if part is not None)

    def put(self, file: str, offset: int, data: bytes) -> None:
        """Keep a range; what is larger than a quarter of the limit is not kept."""
        if not data or len(data) > self._limit // 4:
            return
        with self._lock:
            self._drop(file, offset)
            self._data[file, offset] = data
            self._starts[file].add(offset)
            self.nbytes += len(data)
            while self.nbytes > self._limit:
                self._drop(*next(iter(self._data)))

    def forget(self, file: str) -> None:
        """Drop all of a file: its bytes turned out to be damaged."""
        with self._lock:
            for start in list(self._starts.get(file, ())):
                self._drop(file, start)

    def _parts(self, file: str, wanted: Range) -> list[tuple[Range, bytes | None]]:
        """Return `wanted` cut into what is here and what is not."""
        at, stop = wanted[0], wanted[0] + wanted[1]
        parts: list[tuple[Range, bytes | None]] = []
        starts = sorted(start for start in self._starts.get(file, ()) if start < stop)
        for start in starts:
            data = self._data[file, start]
            if start + len(data) <= at:
                continue
            if start > at:
                parts.append(((at, start - at), None))
                at = start
            piece = data[at - start : stop - start]
            parts.append(((at, len(piece)), piece))
            self._data.move_to_end((file, start))
            at += len(piece)
            if at >= stop:
                break
        if at < stop:
            parts.append(((at, stop - at), None))
        return parts

    def _drop(self, file: str, start: int) -> None:
        data = self._data.pop((file, start), None)
        if data is not None:
            self.nbytes -= len(data)
            self._starts[file].discard(start)
            if not self._starts[file]:
                del self._starts[file]
