"""The block cache: memory, then disk, then Redis, then computing it once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.cache.disk import DiskStore
from app.cache.redis import RedisTier
from app.cache.single_flight import (
    DirectoryLocks,
    SingleFlight,
    compute_once_by_lease,
    compute_once_by_lock,
)
from app.cache.tier import DiskTier, MemoryTier, Tier, look_up
from app.grid.classified import ClassifiedBlock
from app.monitoring import metrics
from app.scheduling import Pool


class BlockCache:
    """Classified blocks by key. What is kept is classes, so recoloring costs no inference."""

    def __init__(
        self,
        memory_bytes: int,
        disk: DiskStore | None,
        pool: Pool,
        redis: RedisTier | None = None,
    ) -> None:
        """`pool`: the threads that touch the disk."""
        self.memory = MemoryTier(memory_bytes)
        self.redis = redis
        self._disk = (DiskTier(disk, pool), DirectoryLocks(disk.root)) if disk else None
        own: list[MemoryTier | DiskTier] = [self.memory, *(self._disk[:1] if self._disk else [])]
        self._own = own
        self.tiers: list[Tier] = [*own, *([redis] if redis else [])]
        self.single_flight: SingleFlight[str, ClassifiedBlock] = SingleFlight()
        self.computed = 0

    async def get_or_compute(
        self, key: str, compute: Callable[[], Awaitable[ClassifiedBlock]]
    ) -> ClassifiedBlock:
        """Return the block of `key`; `compute` runs at most once at a time for it in this process,
        and once among all that share a Redis or, on one machine, the directory."""
        block = self.memory.store.get(key)
        if block is not None:
            metrics.CACHE.labels("memory", "hit").inc()
            return block
        return await self.single_flight.run(key, lambda: self._fetch(key, compute))

    def contains(self, key: str) -> bool:
        """Return whether the block of `key` seems to be cached on this machine; nothing is read."""
        return any(tier.contains(key) for tier in self._own)

    async def find(self, key: str) -> ClassifiedBlock | None:
        """Return the block of `key` if it is cached."""
        return await look_up(self.tiers, key)

    @property
    def degraded(self) -> dict[str, str]:
        """Return tier → why it is out of use."""
        return {tier.name: tier.degraded for tier in self.tiers if tier.degraded}

    async def _fetch(
        self, key: str, compute: Callable[[], Awaitable[ClassifiedBlock]]
    ) -> ClassifiedBlock:
        async def counted() -> ClassifiedBlock:
            block = await compute()
            self.computed += 1
            metrics.BLOCKS_INFERRED.inc()
            return block

        async def here() -> ClassifiedBlock:
            return await (
                compute_once_by_lock(*self._disk, key, counted) if self._disk else counted()
            )

        # The claim of a lease looks into Redis itself, in the same step.
        block = await look_up(self._own, key)
        if block is None:
            redis = self.redis
            block = await (compute_once_by_lease(redis, key, here) if redis else here())
            for tier in self._own:
                if not tier.contains(key):
                    await tier.put(key, block)
        return block
