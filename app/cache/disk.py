"""Blocks on disk: one file per key, written whole or not at all, checked when read.

A damaged file is a miss: it is deleted and counted, never served. When the disk is full or
refuses, the service goes on without it and says so.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
import time
from pathlib import Path

from app.monitoring import metrics

_EVICT_TO = 0.9
_RECOUNT = 0.05
"""Share of the limit after whose writing the directory is counted anew: others may write too."""
_TEMPORARY = ".part"
_STALE_S = 600
"""Age in seconds from which a half-written entry was abandoned."""

MAGIC = b"LCB2"
_DIGEST = 16
_HEADER = len(MAGIC) + 8 + _DIGEST

log = logging.getLogger("landcover.cache")


def encode_entry(key: str, payload: bytes) -> bytes:
    """Return an entry: `magic, length, digest, payload`. The digest is of key and payload, so that
    an entry found under another key is as wrong as a damaged one."""
    digest = hashlib.blake2b(payload, digest_size=_DIGEST, key=key.encode()[:64]).digest()
    return MAGIC + len(payload).to_bytes(8, "little") + digest + payload


def decode_entry(key: str, data: bytes) -> bytes | None:
    """Return an entry's payload, None when a single bit of it is not as written for `key`."""
    payload = data[_HEADER:]
    return payload if encode_entry(key, payload) == data else None


class DiskStore:
    """A directory of entries with a limit in bytes; the least recently used goes first.

    Several processes may share the directory. Safe to use from several threads.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self.root = root
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0
        self.corrupt = 0
        self.degraded: str | None = None
        self.nbytes = 0
        self._uncounted = 0
        self._sweep()

    def get(self, key: str) -> bytes | None:
        """Return the payload, None when there is none or it is damaged."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            self.misses += 1
            return None
        payload = decode_entry(key, data)
        if payload is None:
            self.discard(key)
            self.misses += 1
            return None
        self.hits += 1
        try:
            os.utime(path)
        except OSError:
            log.debug("cannot mark %s as used", path)
        return payload

    def contains(self, key: str) -> bool:
        """Return whether there is an entry, sound or not."""
        return self._path(key).exists()

    def discard(self, key: str) -> None:
        """Delete an entry whose content is damaged, and counts it."""
        self.corrupt += 1
        metrics.CACHE_DAMAGED.labels("disk").inc()
        log.warning("cache entry %s is damaged; deleted and computed anew", key)
        self._unlink(self._path(key))

    def put(self, key: str, payload: bytes) -> None:
        """Write an entry beside its place and rename it there; failing is not an error."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.stat().st_size if path.exists() else 0
            written = write_atomically(path, encode_entry(key, payload))
        except OSError as error:
            self._degrade(f"{self.root}: {error.strerror}")
            return
        if self.degraded:
            log.warning("disk cache works again")
            self.degraded = None
            metrics.CACHE_DEGRADED.labels("disk").set(0)
        with self._lock:
            self.nbytes += written - before
            self._uncounted += written
            full = max(self.nbytes, self._uncounted / _RECOUNT) > self._limit
        if full:
            self._evict()

    def _degrade(self, reason: str) -> None:
        if self.degraded is None:
            log.warning("disk cache is out of use: %s", reason)
        self.degraded = reason
        metrics.CACHE_DEGRADED.labels("disk").set(1)

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / key

    def _sweep(self) -> None:
        """Count what is there and remove what a killed process left half-written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._degrade(f"{self.root}: {error.strerror}")
            return
        for path in self.root.glob(f"*/*{_TEMPORARY}"):
            # A younger one may be another process's entry, about to be renamed.
            if _age(path) > _STALE_S:
                self._unlink(path)
        self.nbytes = sum(size for _, size, _ in self._entries())
        if self.nbytes > self._limit:
            self._evict()

    def _entries(self) -> list[tuple[float, int, Path]]:
        entries = []
        for path in self.root.glob("*/*"):
            try:
                stat = path.stat()
            except OSError:
                continue
            if path.suffix != _TEMPORARY:
                entries.append((stat.st_mtime, stat.st_size, path))
        return entries

    def _evict(self) -> None:
        with self._lock:
            entries = sorted(self._entries())
            self.nbytes = sum(size for _, size, _ in entries)
            self._uncounted = 0
            if self.nbytes <= self._limit:
                return
            for _, size, path in entries:
                if self.nbytes <= self._limit * _EVICT_TO:
                    break
                self._unlink(path)
                self.nbytes -= size

    @staticmethod
    def _unlink(path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot delete %s: %s", path, error.strerror)


def _age(path: Path) -> float:
    """Return the seconds since a file was written; 0 when it has gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0


def write_atomically(path: Path, data: bytes) -> int:
    """Write beside `path`, flush to disk, rename; return the bytes written. A failure leaves
    nothing behind."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=_TEMPORARY)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return len(data)
