"""Scenes → pixels → classes: a block is computed here and only here.

A pixel has one class, whoever asks: tiles, points, downloads and jobs all read these blocks.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from app.cache.blocks import BlockCache
from app.errors import Busy, SourceUnavailable
from app.grid.classified import ClassifiedBlock, SceneRef
from app.grid.pixel_grid import LONLAT, Block, Bounds, bounds_between
from app.imagery import mosaic
from app.imagery.catalog.temporal import TemporalFilter
from app.imagery.mosaic import Mosaic
from app.imagery.reader import Reader
from app.imagery.scene import Scene
from app.landcover.batching import Batcher
from app.landcover.source import Source
from app.monitoring import metrics
from app.scheduling import Gate, Pool
from model.segment import Image, Valid, probabilities_of
from model.session import Cancellation, Probabilities, Session
from model.windows import Window

PROCESSING = "2"
"""Version of everything between pixels and classes that is not in the model file."""

_REACH_M = 1000.0
"""Meters around some ground within which the scenes of its blocks and their halo may lie."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a request is about: imagery of some dates, and a model."""

    source: Source
    when: TemporalFilter
    session: Session


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """A block with imagery: the scenes it is made from, in the order of use, and its key.

    The key is a digest of everything the block depends on. Settled once: a refresh of the catalog
    cannot put new pixels under an old key.
    """

    block: Block
    scenes: tuple[Scene, ...] = field(compare=False)
    key: str


class LandCover:
    """Blocks of land cover, computed at most once at a time and kept."""

    def __init__(
        self,
        cache: BlockCache,
        reader: Reader,
        reads: Pool,
        infers: Pool,
        gate: Gate,
        batcher: Batcher | None = None,
    ) -> None:
        """`batcher`: joins neighbors, also those of others that share it; none by default."""
        self.cache = cache
        self.reader = reader
        self.reads = reads
        self.infers = infers
        self.gate = gate
        self.batcher = batcher or Batcher(infers, 1)
        self._plans = lru_cache(maxsize=16384)(_plan)
        self._in_progress: Counter[str] = Counter()

    async def load(self, selection: Selection, bounds: Bounds, reach_m: float = _REACH_M) -> None:
        """Make sure the scenes of some ground (degrees) and `reach_m` meters around it are in the
        catalog's memory.

        To be awaited before `plan` for blocks there; `block` does so by itself. SourceUnavailable
        when a catalog on a network cannot be searched.
        """
        west, south, east, north = bounds
        up = reach_m / 111_000
        across = up / max(math.cos(math.radians(max(abs(south), abs(north)))), 0.01)
        ground = west - across, south - up, east + across, north + up
        catalog = selection.source.catalog
        if not catalog.is_loaded(ground, selection.when):
            await selection.source.reads.run(catalog.load, ground, selection.when)

    def plan(self, selection: Selection, block: Block) -> BlockPlan | None:
        """Return what a block is to be made from; None where there is no imagery."""
        return self._plans(selection, selection.source.catalog.generation, block)

    def forget_plans(self) -> None:
        """Drop what is remembered of plans, and with it the models they were made for."""
        self._plans.cache_clear()

    @property
    def in_flight(self) -> int:
        """Return how many blocks one area may have in progress: as many as may be joined, but so
        that others still find a place at the gate."""
        return min(self.batcher.in_flight, max(2 * self.infers.workers, self.gate.limit // 4))

    def key(self, selection: Selection, block: Block) -> str | None:
        """Return the key of a block; None where there is no imagery."""
        plan = self.plan(selection, block)
        return plan.key if plan else None

    async def block(self, selection: Selection, block: Block) -> ClassifiedBlock | None:
        """Return the classified block; None where there is no imagery. Raise as `compute`."""
        await self.load(selection, lonlat_of(block))
        plan = self.plan(selection, block)
        return await self.compute(selection, plan) if plan else None

    async def compute(self, selection: Selection, plan: BlockPlan) -> ClassifiedBlock:
        """Return the classified block of a plan, from the cache if it is there.

        SourceUnavailable when imagery cannot be read, Busy when the queue is full: neither is kept.
        """
        return await self.cache.get_or_compute(plan.key, lambda: self._classify(selection, plan))

    async def probabilities(self, selection: Selection, block: Block) -> Probabilities | None:
        """Return float32 (channels, 512, 512) of a block, computed anew and not kept; None and
        errors as `block`."""
        await self.load(selection, lonlat_of(block))
        plan = self.plan(selection, block)
        if plan is None:
            return None
        async with self._admitted(selection.source):
            pixels = (await self._read(selection, plan)).pixels
            return await self._infer(
                probabilities_of, selection.session, pixels.image, pixels.valid
            )

    async def scene_of(
        self, selection: Selection, block: Block, row: int, col: int
    ) -> SceneRef | None:
        """Return the scene that one pixel of a block was taken from; by the images' outlines alone
        when their pixels cannot be read."""
        plan = self.plan(selection, block)
        pixel = Window(block.window.col + col, block.window.row + row, 1, 1)
        matches = []
        for scene in plan.scenes if plan else ():
            extent = scene.extent(block.grid)
            if extent is not None and extent.contains(pixel):
                matches.append(scene)
        if len(matches) > 1:
            read = selection.source.reads.run
            with suppress(SourceUnavailable):
                used = await read(mosaic.read, self.reader, matches, block.grid, pixel)
                return used.scenes[0] if used.scenes else None
        return matches[0].ref if matches else None

    async def _classify(self, selection: Selection, plan: BlockPlan) -> ClassifiedBlock:
        async with self._admitted(selection.source):
            with self.batcher.expect(selection, plan.block) as neighbors:
                image = await self._read(selection, plan)
                pixels = image.pixels
                result = await neighbors.segment(selection.session, pixels.image, pixels.valid)
        return ClassifiedBlock(result.classes, result.confidence, image.scenes)

    @asynccontextmanager
    async def _admitted(self, source: Source) -> AsyncIterator[None]:
        """Hold a place at the gate. Busy when there is none.

        A source with threads of its own, on a network, may take half of the places: when it hangs,
        the rest is left to the others.
        """
        share = max(self.gate.limit // 2, 1)
        if source.reads is not self.reads and self._in_progress[source.id] >= share:
            raise Busy(self._in_progress[source.id], share, self.gate.retry_after)
        async with self.gate.admitted():
            self._in_progress[source.id] += 1
            try:
                yield
            finally:
                self._in_progress[source.id] -= 1

    async def _read(self, selection: Selection, plan: BlockPlan) -> Mosaic:
        block, source = plan.block, selection.source
        window = block.window.expand(selection.session.card.halo)
        try:
            read = metrics.timed(metrics.READ_SECONDS, "read", mosaic.read)
            return await source.reads.run(read, self.reader, plan.scenes, block.grid, window)
        except SourceUnavailable as error:
            # What changed or vanished must not be read again.
            if not error.whole_source:
                await source.reads.run(source.refresh)
            raise

    async def _infer(
        self,
        function: Callable[[Session, Image, Valid, Cancellation], Result],
        session: Session,
        image: Image,
        valid: Valid,
    ) -> Result:
        """Run in the inference pool; stopped within one operator when nobody waits any more."""
        cancellation = Cancellation()
        try:
            infer = metrics.timed(metrics.INFERENCE_SECONDS, "infer", function)
            return await self.infers.run(infer, session, image, valid, cancellation)
        except asyncio.CancelledError:
            cancellation.cancel()
            raise


def _plan(selection: Selection, generation: int, block: Block) -> BlockPlan | None:
    """`generation` is part of the key it is remembered by: a refreshed catalog is searched anew."""
    grid, core, card = block.grid, block.window, selection.session.card
    window = core.expand(card.halo)
    matches = selection.source.catalog.search(grid.crs, grid.bounds(window), selection.when)
    scenes = mosaic.ordered(matches, grid, window, selection.when)
    extents = (scene.extent(grid) for scene in scenes)
    if not any(extent and extent.intersection(core) for extent in extents):
        return None
    parts = [
        PROCESSING,
        selection.session.identity,
        str(card.halo),
        f"{grid.crs} {grid.resolution} {block.col} {block.row}",
        *(scene.key for scene in scenes),
    ]
    key = hashlib.blake2b("\n".join(parts).encode(), digest_size=20).hexdigest()
    return BlockPlan(block, scenes, key)


@lru_cache(maxsize=16384)
def lonlat_of(block: Block) -> Bounds:
    """Return the ground of a block, degrees."""
    return bounds_between(block.grid.crs, LONLAT, block.grid.bounds(block.window))
