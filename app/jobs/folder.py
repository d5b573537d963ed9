"""A job's folder: the blocks it has computed, the mark that stops it, and its results.

Any process that shares the folder, on whatever machine, may write blocks; each is a file of its
own, named by the block's key, whole or not there.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from app.cache.blocks import BlockCache
from app.cache.disk import decode_entry, encode_entry, write_atomically
from app.grid.classified import ClassifiedBlock
from app.scheduling import Pool


class Folder:
    """Where a job keeps its files; made when first written to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.results = root / "results"
        self._stop = root / "dismissed"

    def stop(self) -> None:
        """Tells whoever works for this job, in any process, to leave off."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._stop.touch()

    @property
    def stopped(self) -> bool:
        """Whether it was told so."""
        return self._stop.exists()

    def block(self, key: str) -> Path:
        """The file of a block."""
        return self.root / "blocks" / key[:2] / key

    def put(self, key: str, classified: ClassifiedBlock) -> None:
        """Keeps a block; OSError when it cannot be written: unlike a cache, a job needs it."""
        path = self.block(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, encode_entry(key, classified.encode()))

    def get(self, key: str) -> ClassifiedBlock | None:
        """A block; None when it is not there or damaged, and will be computed anew."""
        try:
            payload = decode_entry(key, self.block(key).read_bytes())
            return ClassifiedBlock.decode(payload) if payload is not None else None
        except (OSError, ValueError):
            return None

    def drop_blocks(self) -> None:
        """The results are there: the blocks are not needed any more."""
        shutil.rmtree(self.root / "blocks", ignore_errors=True)

    def remove(self) -> None:
        """Nothing is left of it."""
        shutil.rmtree(self.root, ignore_errors=True)


class FolderCache(BlockCache):
    """The folder's blocks in front of the cache that tiles use: what either has is not computed."""

    def __init__(self, folder: Folder, shared: BlockCache, pool: Pool) -> None:
        super().__init__(0, None, pool)
        self._folder = folder
        self._pool = pool
        self._shared = shared

    async def get_or_compute(
        self, key: str, compute: Callable[[], Awaitable[ClassifiedBlock]]
    ) -> ClassifiedBlock:
        """The block of `key`, in the folder when this returns."""
        block = await self.find(key)
        if block is None:
            block = await self._shared.get_or_compute(key, compute)
            await self._pool.run(self._folder.put, key, block)
        return block

    async def find(self, key: str) -> ClassifiedBlock | None:
        """The block of `key` if the folder has it."""
        return await self._pool.run(self._folder.get, key)
