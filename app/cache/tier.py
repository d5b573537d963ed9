"""The tiers of the block cache: one interface, whatever keeps the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.cache.disk import DiskStore
from app.cache.memory import MemoryStore
from app.grid.classified import ClassifiedBlock
from app.monitoring import metrics
from app.scheduling import Pool


class Tier(Protocol):
    """Where blocks are kept. Trouble in a tier is a miss, never an error and never a block that
    is not the one of its key."""

    @property
    def name(self) -> str:
        """Return memory, disk or redis."""
        ...

    @property
    def degraded(self) -> str | None:
        """Return why it is out of use, or None."""
        ...

    async def get(self, key: str) -> ClassifiedBlock | None:
        """Return the block, or None."""
        ...

    async def put(self, key: str, block: ClassifiedBlock) -> None:
        """Keep the block as long as there is room."""
        ...


class MemoryTier:
    """Blocks of this process."""

    name = "memory"
    degraded = None

    def __init__(self, limit_bytes: int) -> None:
        self.store: MemoryStore[str, ClassifiedBlock] = MemoryStore(limit_bytes)

    async def get(self, key: str) -> ClassifiedBlock | None:
        """Return the block, or None."""
        return self.store.get(key)

    def contains(self, key: str) -> bool:
        """Return whether the block is there."""
        return key in self.store

    async def put(self, key: str, block: ClassifiedBlock) -> None:
        """Keep the block unless it is larger than the limit."""
        self.store.put(key, block, block.nbytes)


class DiskTier:
    """Blocks in a directory that several processes may share."""

    name = "disk"

    def __init__(self, store: DiskStore, pool: Pool) -> None:
        """`pool`: the threads that touch the disk."""
        self.store = store
        self._pool = pool

    @property
    def degraded(self) -> str | None:
        """Return what the disk refused, or None."""
        return self.store.degraded

    async def get(self, key: str) -> ClassifiedBlock | None:
        """Return the block, or None."""
        return await self._pool.run(self._load, key)

    def contains(self, key: str) -> bool:
        """Return whether there is an entry, sound or not; nothing is read."""
        return self.store.contains(key)

    async def put(self, key: str, block: ClassifiedBlock) -> None:
        """Write the block; failing is not an error."""
        await self._pool.run(lambda: self.store.put(key, block.encode()))

    def _load(self, key: str) -> ClassifiedBlock | None:
        payload = self.store.get(key)
        if payload is None:
            return None
        try:
            return ClassifiedBlock.decode(payload)
        except ValueError:
            self.store.discard(key)
            return None


async def look_up(tiers: Sequence[Tier], key: str) -> ClassifiedBlock | None:
    """Return the block of the first tier that has it, which is then put into those before it."""
    for number, tier in enumerate(tiers):
        block = await tier.get(key)
        metrics.CACHE.labels(tier.name, "miss" if block is None else "hit").inc()
        if block is not None:
            for missed in tiers[:number]:
                await missed.put(key, block)
            return block
    return None
