"""A window of land cover, block by block, into a Cloud Optimized GeoTIFF."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np

from app.classified import Classified
from app.geotiff import class_cog
from app.grid import Block, WorkGrid
from app.landcover import LandCover, Selection
from app.render import Palette
from model.legend import NODATA
from model.windows import BLOCK, Window, cover


async def blocks_of(
    landcover: LandCover, selection: Selection, grid: WorkGrid, extent: Window
) -> AsyncIterator[tuple[Block, Classified | None]]:
    """The blocks that touch `extent`, in order; twice as many in work as can be inferred at once,
    so that reading hides behind inference and memory stays flat."""
    addresses = [Block.of(grid, window) for window in cover(extent)]
    ahead = 2 * landcover.infers.workers
    under_way: deque[tuple[Block, asyncio.Task[Classified | None]]] = deque()
    try:
        for address in addresses:
            task = asyncio.create_task(landcover.block(selection, address))
            under_way.append((address, task))
            if len(under_way) > ahead:
                first, result = under_way.popleft()
                yield first, await result
        while under_way:
            first, result = under_way.popleft()
            yield first, await result
    finally:
        for _, task in under_way:
            task.cancel()


async def write_window(
    landcover: LandCover,
    selection: Selection,
    grid: WorkGrid,
    extent: Window,
    path: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Classifies `extent` of `grid` into the GeoTIFF `path`.

    `progress` is told (blocks done, blocks in all). SourceUnavailable when imagery cannot be read,
    OSError when the file cannot be written; then nothing is left at `path`.
    """
    card = selection.session.passport
    palette = Palette.of_classes(card.legend, card.legend.colours(), None)
    total = sum(1 for _ in cover(extent))
    empty = np.full((BLOCK, BLOCK), NODATA, dtype=np.uint8)
    done = 0
    with class_cog(path, grid, extent, palette.colours, card) as raster:
        async for block, classified in blocks_of(landcover, selection, grid, extent):
            classes = classified.classes if classified else empty
            scenes = classified.scenes if classified else ()
            await landcover.reads.run(raster.write, block.window, classes, scenes)
            done += 1
            progress(done, total)
