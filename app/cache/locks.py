"""One computation per key among the processes that share a cache directory, without Redis."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from app.cache.lease import POLL_MOST_S, POLL_S
from app.cache.tier import DiskTier
from app.grid.classified import ClassifiedBlock


class DirectoryLocks:
    """Locks by key: one byte each, of one file, that the kernel locks for a process.

    A process that dies gives its locks back at once, so none is ever left behind. Within a process
    a lock excludes nobody: there the flights do.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / ".locks"
        self._guard = threading.Lock()
        self._file = -1
        self._held = 0

    def take(self, key: str) -> bool:
        """Whether the lock is ours now; OSError where the directory does not allow it."""
        with self._guard:
            if self._held == 0:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._held += 1
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(key))
            except OSError as error:
                self._let_go()
                if error.errno in {errno.EAGAIN, errno.EACCES}:  # POSIX allows either: it is taken
                    return False
                raise
        return True

    def give(self, key: str) -> None:
        """Gives a lock back that was taken."""
        with self._guard:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _byte(key))
            self._let_go()

    def _let_go(self) -> None:
        # Closing drops every lock of the process on the file: only when there is none.
        self._held -= 1
        if self._held == 0:
            os.close(self._file)


async def computed_once_here(
    disk: DiskTier,
    locks: DirectoryLocks,
    key: str,
    compute: Callable[[], Awaitable[ClassifiedBlock]],
) -> ClassifiedBlock:
    """The block of `key`: computed under its lock and left on the disk, or found there when another
    process has done so. Where the disk is in trouble it is computed here: wasteful at worst.
    """
    pause = POLL_S
    while disk.degraded is None:
        try:
            taken = locks.take(key)
        except OSError:
            break
        if taken:
            try:
                block = await disk.get(key)  # finished between our last look and the lock
                if block is None:
                    block = await compute()
                    await disk.put(key, block)
                return block
            finally:
                locks.give(key)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, POLL_MOST_S)
        block = await disk.get(key)
        if block is not None:
            return block
    return await compute()


def _byte(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest())
