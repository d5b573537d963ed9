"""A job's folder: the blocks it has computed, the mark that stops it, and its results.

Any process that shares the folder, on whatever machine, may write blocks; each is a file of its
own, named by the block's key, whole or not there.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from app.area.handlers import write_outputs
from app.area.vector_files import MEDIA_TYPES
from app.cache.blocks import BlockCache
from app.cache.disk import decode_entry, encode_entry, write_atomically
from app.errors import InvalidRequest
from app.grid.classified import ClassifiedBlock
from app.jobs.job import Spec, Work
from app.landcover.blocks import LandCover
from app.render.geotiff import MEDIA_TYPE
from app.scheduling import OWN, Flow, Pool, prioritized

OUTPUT_TYPES = {
    "cog": MEDIA_TYPE,
    "polygons": MEDIA_TYPES["gpkg"],
    "csv": "text/csv",
    "item": "application/geo+json",
    "statistics": "application/json",
    "matrix": "application/json",
    "report": "application/json",
}
"""output → its media type"""


class Folder:
    """Where a job keeps its files; created when first written to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.results = root / "results"
        self._stop = root / "dismissed"

    def stop(self) -> None:
        """Tell every process that works for this job to stop."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._stop.touch()

    @property
    def stopped(self) -> bool:
        """Whether the job was told to stop."""
        return self._stop.exists()

    def block(self, key: str) -> Path:
        """Return the file of a block."""
        return self.root / "blocks" / key[:2] / key

    def put(self, key: str, classified: ClassifiedBlock) -> None:
        """Write a block; OSError when it cannot be written: unlike a cache, a job needs it."""
        path = self.block(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, encode_entry(key, classified.encode()))

    def get(self, key: str) -> ClassifiedBlock | None:
        """Return a block; None when it is missing or damaged and is to be computed again."""
        try:
            payload = decode_entry(key, self.block(key).read_bytes())
            return ClassifiedBlock.decode(payload) if payload is not None else None
        except (OSError, ValueError):
            return None

    def drop_blocks(self) -> None:
        """Remove the blocks, which the results make unnecessary."""
        shutil.rmtree(self.root / "blocks", ignore_errors=True)

    @property
    def nbytes(self) -> int:
        """Return the size of the results."""
        return sum(path.stat().st_size for path in self.results.glob("*") if path.is_file())

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.root, ignore_errors=True)

    def write_spec(self, spec: Spec) -> None:
        """Record which job its blocks are of; InvalidRequest when they are of another."""
        path = self.root / "spec.json"
        if path.exists() and self.read_spec() != spec:
            raise InvalidRequest(
                "folder", self.root, "one of the same area, source, dates and model"
            )
        self.root.mkdir(parents=True, exist_ok=True)
        path.write_text(spec.to_json())

    def read_spec(self) -> Spec:
        """Return which job its blocks are of; InvalidRequest when it is no such folder."""
        try:
            return Spec.from_json((self.root / "spec.json").read_text())
        except (OSError, ValueError, TypeError, KeyError) as error:
            expected = "one that `classify --shard` wrote"
            raise InvalidRequest("folder", self.root, expected) from error


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
        """Return the block of `key`, then in the folder."""
        block = await self.find(key)
        if block is None:
            block = await self._shared.get_or_compute(key, compute)
            await self._pool.run(self._folder.put, key, block)
        return block

    async def find(self, key: str) -> ClassifiedBlock | None:
        """Return the block of `key` if the folder has it."""
        return await self._pool.run(self._folder.get, key)


async def write_results(
    landcover: LandCover,
    work: Work,
    outputs: Sequence[str],
    folder: Path,
    flow: Flow = OWN,
    interactive: bool = False,
) -> dict[str, Any]:
    """Write what a job returns from its blocks, the same as POST /statistics, /change and
    /feature.* give for the area; return it by name: {"file", "type"} or {"value"}.

    Errors as `write_outputs`.
    """
    with prioritized(interactive, flow):
        written = await write_outputs(landcover, work.request(), outputs, folder)
    return {
        name: {"file": each.name, "type": OUTPUT_TYPES[name]}
        if isinstance(each, Path)
        else {"value": each}
        for name, each in written.items()
    }
