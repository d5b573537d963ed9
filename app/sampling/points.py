"""The class of one point."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from app.grid.classified import SceneRef
from app.grid.pixel_grid import LONLAT, Block, transformer
from app.landcover.blocks import LandCover, Selection
from app.sampling.newest import Candidate, order_of
from model.legend import NODATA
from model.windows import BLOCK


@dataclass(frozen=True, slots=True)
class PointResult:
    """The class of one pixel, its confidence in percent, and where they came from.

    `row` and `col` are the pixel's in `block`; `scene` is the image it was taken from.
    """

    value: int
    confidence: int
    scenes: tuple[SceneRef, ...]
    scene: SceneRef | None
    block: Block
    row: int
    col: int


async def class_at(
    landcover: LandCover, selection: Selection, longitude: float, latitude: float
) -> PointResult | None:
    """Return the pixel under a point (degrees); None where there is no imagery.

    SourceUnavailable or Busy as `LandCover.block`.
    """
    await landcover.load(selection, (longitude, latitude, longitude, latitude))
    grids, cells = [], []
    for grid in sorted(selection.source.grids()):
        x, y = transformer(LONLAT, grid.crs).transform(longitude, latitude)
        if math.isfinite(x) and math.isfinite(y):
            grids.append(grid)
            cells.append(grid.cells(np.asarray(x), np.asarray(y)))
    blocks = [
        Block(grid, int(cols) // BLOCK, int(rows) // BLOCK)
        for grid, (cols, rows) in zip(grids, cells, strict=True)
    ]
    plans = [landcover.plan(selection, block) for block in blocks]
    candidates = [
        Candidate(grid, plan.scenes if plan else ())
        for grid, plan in zip(grids, plans, strict=True)
    ]
    where = np.asarray(longitude)
    order = order_of(candidates, cells, where, selection.when) if candidates else ()
    for number in map(int, order):
        block, (cols, rows) = blocks[number], cells[number]
        classified = await landcover.block(selection, block)
        if classified is None:
            continue
        row, col = int(rows) % BLOCK, int(cols) % BLOCK
        value = int(classified.classes[row, col])
        if value != NODATA:
            confidence = int(classified.confidence[row, col])
            scene = await landcover.scene_of(selection, block, row, col)
            return PointResult(value, confidence, classified.scenes, scene, block, row, col)
    return None
