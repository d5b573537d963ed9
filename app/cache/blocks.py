"""The block cache: memory, then disk, then computing it once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.cache.disk import DiskStore
from app.cache.flight import Flights
from app.cache.memory import MemoryStore
from app.classified import Classified
from app.pool import Pool


class BlockCache:
    """Classified blocks by key. What is kept is classes, so recolouring costs no inference."""

    def __init__(self, memory_bytes: int, disk: DiskStore | None, pool: Pool) -> None:
        """`pool`: the threads that touch the disk."""
        self.memory: MemoryStore[str, Classified] = MemoryStore(memory_bytes)
        self.disk = disk
        self.flights: Flights[Classified] = Flights()
        self.computed = 0
        self._pool = pool

    async def get_or_compute(
        self, key: str, compute: Callable[[], Awaitable[Classified]]
    ) -> Classified:
        """The block of `key`; `compute` runs at most once at a time for it."""
        block = self.memory.get(key)
        if block is not None:
            return block
        return await self.flights.run(key, lambda: self._fetch(key, compute))

    def holds(self, key: str) -> bool:
        """Whether the block of `key` seems to be cached; nothing is read."""
        return key in self.memory or (self.disk is not None and self.disk.holds(key))

    async def find(self, key: str) -> Classified | None:
        """The block of `key` if it is cached."""
        block = self.memory.get(key)
        if block is None and self.disk is not None:
            block = await self._pool.run(self._load, self.disk, key)
        return block

    async def _fetch(self, key: str, compute: Callable[[], Awaitable[Classified]]) -> Classified:
        block = await self.find(key)
        if block is None:
            block = await compute()
            self.computed += 1
            self.memory.put(key, block, block.nbytes)
            if self.disk is not None:
                await self._pool.run(self._store, self.disk, key, block)
        return block

    def _load(self, disk: DiskStore, key: str) -> Classified | None:
        payload = disk.get(key)
        if payload is None:
            return None
        try:
            block = Classified.decode(payload)
        except ValueError:
            disk.discard(key)
            return None
        self.memory.put(key, block, block.nbytes)
        return block

    @staticmethod
    def _store(disk: DiskStore, key: str, block: Classified) -> None:
        disk.put(key, block.encode())
