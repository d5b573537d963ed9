"""The conductor: which scenes, which pixels, which classes; a block is made here and only here.

A pixel has one class, whoever asks: tiles, points and downloads all read the blocks that
`LandCover.block` returns.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from app import metrics
from app.cache.blocks import BlockCache
from app.classified import Classified
from app.errors import SourceUnavailable
from app.grid import Block, WorkGrid, central_meridian
from app.imagery import mosaic
from app.imagery.directory import Directory
from app.imagery.mosaic import Mosaic
from app.imagery.reader import Reader
from app.imagery.scene import Scene
from app.pool import Gate, Pool
from app.source import Source
from model.segment import Image, Valid, probabilities_of, segment_window
from model.session import Cancellation, Probabilities, Session

PROCESSING = "1"
"""Version of everything between pixels and classes that is not in the model file."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked of: imagery of one year (None: the newest there is) and a model."""

    source: Source
    year: int | None
    session: Session


class LandCover:
    """Blocks of land cover, computed at most once at a time and kept."""

    def __init__(
        self, cache: BlockCache, reader: Reader, reads: Pool, infers: Pool, gate: Gate
    ) -> None:
        self.cache = cache
        self.reader = reader
        self.reads = reads
        self.infers = infers
        self.gate = gate
        self._scenes = lru_cache(maxsize=16384)(_scenes_of)

    def scenes(self, selection: Selection, block: Block) -> tuple[Scene, ...]:
        """Scenes of a block and its halo in the order of use; empty when none holds the block."""
        catalog = selection.source.catalog
        halo = selection.session.card.halo
        return self._scenes(catalog, catalog.generation, selection.year, block, halo)

    def key(self, selection: Selection, block: Block) -> str | None:
        """Digest of everything the block depends on; None where there is no imagery."""
        return _key(selection, block, self.scenes(selection, block))

    async def block(self, selection: Selection, block: Block) -> Classified | None:
        """The classified block; None where there is no imagery.

        SourceUnavailable when imagery cannot be read, Busy when the queue is full: neither is kept.
        """
        # Asked once: a refresh in between must not put new pixels under the old key.
        scenes = self.scenes(selection, block)
        key = _key(selection, block, scenes)
        if key is None:
            return None
        return await self.cache.get_or_compute(
            key, lambda: self._classify(selection, block, scenes)
        )

    async def probabilities(self, selection: Selection, block: Block) -> Probabilities | None:
        """float32 (channels, 512, 512) of a block, computed anew and not kept; None as above."""
        scenes = self.scenes(selection, block)
        if not scenes:
            return None
        async with self.gate.admitted():
            pixels = (await self._read(selection, block, scenes)).pixels
            return await self._infer(
                probabilities_of, selection.session, pixels.image, pixels.valid
            )

    async def _classify(
        self, selection: Selection, block: Block, scenes: tuple[Scene, ...]
    ) -> Classified:
        async with self.gate.admitted():
            image = await self._read(selection, block, scenes)
            result = await self._infer(
                segment_window, selection.session, image.pixels.image, image.pixels.valid
            )
        return Classified(result.classes, result.confidence, image.scenes)

    async def _read(self, selection: Selection, block: Block, scenes: tuple[Scene, ...]) -> Mosaic:
        window = block.window.expand(selection.session.card.halo)
        try:
            read = metrics.timed(metrics.READ_SECONDS, "read", mosaic.read)
            return await self.reads.run(read, self.reader, scenes, block.grid, window)
        except SourceUnavailable:
            # What changed or vanished must not be asked for again.
            await self.reads.run(selection.source.look_again)
            raise

    async def _infer(
        self,
        function: Callable[[Session, Image, Valid, Cancellation], Result],
        session: Session,
        image: Image,
        valid: Valid,
    ) -> Result:
        """Runs in the inference pool; stopped within one operator when nobody waits any more."""
        cancellation = Cancellation()
        try:
            infer = metrics.timed(metrics.INFERENCE_SECONDS, "infer", function)
            return await self.infers.run(infer, session, image, valid, cancellation)
        except asyncio.CancelledError:
            cancellation.cancel()
            raise


def _key(selection: Selection, block: Block, scenes: tuple[Scene, ...]) -> str | None:
    if not scenes:
        return None
    grid = block.grid
    parts = [
        PROCESSING,
        selection.session.sha256,
        str(selection.session.card.halo),
        f"{grid.crs} {grid.resolution} {block.col} {block.row}",
        *(f"{scene.href} {scene.identity}" for scene in scenes),
    ]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=20).hexdigest()


def _scenes_of(
    catalog: Directory, generation: int, year: int | None, block: Block, halo: int
) -> tuple[Scene, ...]:
    """`generation` is part of the key it is remembered by: a refreshed catalog is asked anew."""
    core, window = block.window, block.window.expand(halo)
    found = catalog.index.search(block.grid.crs, block.grid.bounds(window), year)
    scenes = mosaic.ordered(found, block.grid, window)
    extents = (scene.extent(block.grid) for scene in scenes)
    holds_core = any(extent and extent.intersection(core) for extent in extents)
    return scenes if holds_core else ()


def ranked(grids: Iterable[WorkGrid], longitude: float) -> list[WorkGrid]:
    """Grids by the distance of their central meridian: between two zones the nearer one wins."""
    return sorted(grids, key=lambda grid: (abs(longitude - central_meridian(grid.crs)), grid))


async def all_of(awaitables: Iterable[Awaitable[Result]]) -> list[Result]:
    """Every result in order; the first error or a cancellation stops the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
