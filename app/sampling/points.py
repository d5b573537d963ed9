"""The class of one point."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from app.grid.classified import SceneRef
from app.grid.pixel_grid import LONLAT, Block, by_central_meridian, transformer
from app.landcover.blocks import LandCover, Selection
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
    for grid in by_central_meridian(selection.source.grids(), longitude):
        x, y = transformer(LONLAT, grid.crs).transform(longitude, latitude)
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        cols, rows = grid.cells(np.asarray(x), np.asarray(y))
        block_col, col = divmod(int(cols), BLOCK)
        block_row, row = divmod(int(rows), BLOCK)
        block = Block(grid, block_col, block_row)
        classified = await landcover.block(selection, block)
        if classified is None:
            continue
        value = int(classified.classes[row, col])
        if value != NODATA:
            confidence = int(classified.confidence[row, col])
            scene = await landcover.scene_of(selection, block, row, col)
            return PointResult(value, confidence, classified.scenes, scene, block, row, col)
    return None
