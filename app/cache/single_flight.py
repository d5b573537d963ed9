"""One computation per key, however many want it: in this event loop, among the processes that
share a cache directory, and among all that share a Redis."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Generic, TypeVar

from redis.asyncio.lock import Lock

from app.cache.redis import RedisTier, RedisUnavailable
from app.cache.tier import DiskTier
from app.grid.classified import ClassifiedBlock
from app.monitoring import metrics
from app.scheduling import Priority, current_priority, prioritized

POLL_S = 0.05
POLL_MOST_S = 0.25
"""How long a loser waits between two looks, at first and at most."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Compute = Callable[[], Awaitable[ClassifiedBlock]]


class SingleFlight(Generic[Key, Value]):
    """The computations under way in this event loop."""

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[Value]] = {}
        self._waiting: dict[Key, int] = {}
        self._priorities: dict[Key, Priority] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, key: Key) -> bool:
        return key in self._tasks

    async def run(self, key: Key, compute: Callable[[], Awaitable[Value]]) -> Value:
        """Return the result of `compute`, started unless it is under way.

        When every caller of a key has been cancelled, so is the computation. An error reaches
        all who waited and is not kept. A background computation gets the priority of a caller
        that joins it.
        """
        task = self._tasks.get(key)
        if task is None:
            # A priority of its own: who joins this computation raises it, not all of its caller's.
            with prioritized(current_priority().interactive) as priority:
                task = asyncio.ensure_future(compute())
            self._tasks[key] = task
            self._waiting[key] = 0
            self._priorities[key] = priority
            task.add_done_callback(lambda done: self._finish(key, done))
        self._waiting[key] += 1
        self._priorities[key].join(current_priority())
        try:
            return await asyncio.shield(task)
        finally:
            if self._tasks.get(key) is task:
                self._waiting[key] -= 1
                if not self._waiting[key] and not task.done():
                    # A later caller must start anew, not join what is being stopped.
                    self._forget(key)
                    task.cancel()

    def _finish(self, key: Key, task: asyncio.Task[Value]) -> None:
        if not task.cancelled():
            task.exception()  # marks it as seen: every waiter may have gone
        if self._tasks.get(key) is task:
            self._forget(key)

    def _forget(self, key: Key) -> None:
        del self._tasks[key], self._waiting[key], self._priorities[key]


# ---- among processes, by the directory -----------------------------------------------------------


class DirectoryLocks:
    """Locks by key: one byte each, of one file, that the kernel locks for a process.

    The kernel releases the locks of a process that dies, so none is ever left behind. Within a
    process a lock excludes nobody: there SingleFlight does.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / ".locks"
        self._guard = threading.Lock()
        self._file = -1
        self._held = 0

    def acquire(self, key: str) -> bool:
        """Return whether the lock is ours now; OSError where the directory does not allow it."""
        with self._guard:
            if self._held == 0:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._held += 1
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(key))
            except OSError as error:
                self._close_unused()
                if error.errno in {errno.EAGAIN, errno.EACCES}:  # POSIX allows either: it is held
                    return False
                raise
        return True

    def release(self, key: str) -> None:
        """Release a lock that was acquired."""
        with self._guard:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _byte(key))
            self._close_unused()

    def _close_unused(self) -> None:
        # Closing drops every lock of the process on the file: only when there is none.
        self._held -= 1
        if self._held == 0:
            os.close(self._file)


async def compute_once_by_lock(
    disk: DiskTier, locks: DirectoryLocks, key: str, compute: Compute
) -> ClassifiedBlock:
    """Return the block of `key`: computed under its lock and left on the disk, or found there when
    another process has done so. Where the disk is in trouble it is computed here: wasteful at
    worst."""
    pause = POLL_S
    while disk.degraded is None:
        try:
            acquired = locks.acquire(key)
        except OSError:
            break
        if acquired:
            try:
                block = await disk.get(key)  # finished between our last look and the lock
                if block is None:
                    block = await compute()
                    await disk.put(key, block)
                return block
            finally:
                locks.release(key)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, POLL_MOST_S)
        block = await disk.get(key)
        if block is not None:
            return block
    return await compute()


def _byte(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest())


# ---- among replicas, by Redis --------------------------------------------------------------------


async def compute_once_by_lease(redis: RedisTier, key: str, compute: Compute) -> ClassifiedBlock:
    """Return the block of `key`: computed here under a lease, or found when another has computed
    it.

    A holder that dies is followed by the next caller when its lease runs out, one that fails or is
    cancelled at once. Without Redis it is computed here: wasteful at worst, never wrong, as a
    block is the same whoever computes it.
    """
    lease = redis.lease(key)
    pause = POLL_S
    while True:
        try:
            result = await redis.claim(key, lease)
        except RedisUnavailable:
            metrics.LEASES.labels("alone").inc()
            return await compute()
        except asyncio.CancelledError:
            # The claim may have been granted after we stopped listening.
            _in_background(redis.release(lease))
            raise
        if isinstance(result, ClassifiedBlock):
            metrics.LEASES.labels("found").inc()
            return result
        if result:
            metrics.LEASES.labels("claimed").inc()
            async with _renewed(redis, lease):
                block = await compute()
                await redis.put(key, block)  # before the lease ends: losers look for it
                return block
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, POLL_MOST_S)


@asynccontextmanager
async def _renewed(redis: RedisTier, lease: Lock) -> AsyncIterator[None]:
    """Renew a lease at a third of its length, so that two renewals may fail, and release it in
    the end. A lost one is not claimed again: somebody else computes the same block by now."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(redis.lease_s / 3)
            try:
                if not await redis.renew(lease):
                    return
            except RedisUnavailable:
                continue

    renewing = asyncio.ensure_future(renew())
    try:
        yield
    finally:
        renewing.cancel()
        _in_background(redis.release(lease))


_releasing: set[asyncio.Task[None]] = set()


def _in_background(release: Awaitable[None]) -> None:
    """Run a release that nobody waits for and no cancellation ends."""
    task = asyncio.ensure_future(release)
    _releasing.add(task)
    task.add_done_callback(_releasing.discard)
