"""The conductor: which scenes, which pixels, which classes; a block is made here and only here.

A pixel has one class, whoever asks: tiles, points and downloads all read the blocks that
`LandCover.block` returns.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from app.cache.blocks import BlockCache
from app.errors import Busy, SourceUnavailable
from app.grid.classified import ClassifiedBlock, SceneRef
from app.grid.pixel_grid import LONLAT, Block, Bounds, PixelGrid, bounds_between, central_meridian
from app.imagery import mosaic
from app.imagery.catalog import Catalog
from app.imagery.catalog.temporal import TemporalFilter
from app.imagery.mosaic import Mosaic
from app.imagery.reader import Reader
from app.imagery.scene import Scene
from app.landcover.source import Source
from app.monitoring import metrics
from app.scheduling import Gate, Pool
from model.segment import Image, Valid, probabilities_of, segment_window
from model.session import Cancellation, Probabilities, Session
from model.windows import Window

PROCESSING = "1"
"""Version of everything between pixels and classes that is not in the model file."""

_REACH_M = 1000.0
"""Meters beyond a piece of ground in which the scenes of its blocks and their halo may lie."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked of: imagery of some dates, and a model."""

    source: Source
    when: TemporalFilter
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
        self._under_way: Counter[str] = Counter()

    async def prepare(self, selection: Selection, bounds: Bounds) -> None:
        """Makes sure the scenes of that ground (degrees), blocks and halo around it, are known.

        To be awaited before `scenes` and `key` are asked for it; `block` does so by itself.
        SourceUnavailable when a catalog on a network cannot be asked.
        """
        west, south, east, north = bounds
        up = _REACH_M / 111_000
        across = up / max(math.cos(math.radians(max(abs(south), abs(north)))), 0.01)
        ground = west - across, south - up, east + across, north + up
        catalog = selection.source.catalog
        if not catalog.is_loaded(ground, selection.when):
            await self.reads_of(selection).run(catalog.load, ground, selection.when)

    def reads_of(self, selection: Selection) -> Pool:
        """The threads that read a source: its own when it is on a network, so that one that hangs
        holds up no other."""
        return selection.source.reads or self.reads

    def scenes(self, selection: Selection, block: Block) -> tuple[Scene, ...]:
        """Scenes of a block and its halo in the order of use; empty when none holds the block."""
        catalog = selection.source.catalog
        halo = selection.session.card.halo
        return self._scenes(catalog, catalog.generation, selection.when, block, halo)

    def key(self, selection: Selection, block: Block) -> str | None:
        """Digest of everything the block depends on; None where there is no imagery."""
        return _key(selection, block, self.scenes(selection, block))

    async def block(self, selection: Selection, block: Block) -> ClassifiedBlock | None:
        """The classified block; None where there is no imagery.

        SourceUnavailable when imagery cannot be read, Busy when the queue is full: neither is kept.
        """
        await self.prepare(selection, lonlat_of(block))
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
        await self.prepare(selection, lonlat_of(block))
        scenes = self.scenes(selection, block)
        if not scenes:
            return None
        async with self._admitted(selection):
            pixels = (await self._read(selection, block, scenes)).pixels
            return await self._infer(
                probabilities_of, selection.session, pixels.image, pixels.valid
            )

    async def scene_of(
        self, selection: Selection, block: Block, row: int, col: int
    ) -> SceneRef | None:
        """The scene that one pixel of a block was taken from; by the images' outlines alone when
        their pixels cannot be asked."""
        pixel = Window(block.window.col + col, block.window.row + row, 1, 1)
        holding = []
        for scene in self.scenes(selection, block):
            extent = scene.extent(block.grid)
            if extent is not None and extent.contains(pixel):
                holding.append(scene)
        if len(holding) > 1:
            reads = self.reads_of(selection)
            with suppress(SourceUnavailable):
                seen = await reads.run(mosaic.read, self.reader, holding, block.grid, pixel)
                return seen.scenes[0] if seen.scenes else None
        return holding[0].ref if holding else None

    async def _classify(
        self, selection: Selection, block: Block, scenes: tuple[Scene, ...]
    ) -> ClassifiedBlock:
        async with self._admitted(selection):
            image = await self._read(selection, block, scenes)
            result = await self._infer(
                segment_window, selection.session, image.pixels.image, image.pixels.valid
            )
        return ClassifiedBlock(result.classes, result.confidence, image.scenes)

    @asynccontextmanager
    async def _admitted(self, selection: Selection) -> AsyncIterator[None]:
        """A place at the gate. A source on a network may take half of them: when it hangs, the
        rest is left to the others. Busy when there is none."""
        source = selection.source.id
        share = max(self.gate.limit // 2, 1)
        if selection.source.reads is not None and self._under_way[source] >= share:
            raise Busy(self._under_way[source], share, self.gate.retry_after)
        async with self.gate.admitted():
            self._under_way[source] += 1
            try:
                yield
            finally:
                self._under_way[source] -= 1

    async def _read(self, selection: Selection, block: Block, scenes: tuple[Scene, ...]) -> Mosaic:
        window = block.window.expand(selection.session.card.halo)
        reads = self.reads_of(selection)
        try:
            read = metrics.timed(metrics.READ_SECONDS, "read", mosaic.read)
            return await reads.run(read, self.reader, scenes, block.grid, window)
        except SourceUnavailable as error:
            # What changed or vanished must not be asked for again.
            if not error.whole_source:
                await reads.run(selection.source.refresh)
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
        *(scene.key for scene in scenes),
    ]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=20).hexdigest()


def _scenes_of(
    catalog: Catalog, generation: int, when: TemporalFilter, block: Block, halo: int
) -> tuple[Scene, ...]:
    """`generation` is part of the key it is remembered by: a refreshed catalog is asked anew."""
    core, window = block.window, block.window.expand(halo)
    found = catalog.search(block.grid.crs, block.grid.bounds(window), when)
    scenes = mosaic.ordered(found, block.grid, window, when)
    extents = (scene.extent(block.grid) for scene in scenes)
    holds_core = any(extent and extent.intersection(core) for extent in extents)
    return scenes if holds_core else ()


@lru_cache(maxsize=16384)
def lonlat_of(block: Block) -> Bounds:
    """The ground of a block, degrees."""
    return bounds_between(block.grid.crs, LONLAT, block.grid.bounds(block.window))


def ranked(grids: Iterable[PixelGrid], longitude: float) -> list[PixelGrid]:
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
