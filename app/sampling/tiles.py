"""A tile's classes: blocks placed into the tile's pixels, never computed for the tile.

At native zoom and above by nearest neighbor; below it from the level of the mode pyramid whose
pixels come nearest to the tile's.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from app.grid.classified import LEVELS, ClassifiedBlock, SceneRef
from app.grid.pixel_grid import (
    LONLAT,
    Block,
    PixelGrid,
    bounds_between,
    central_meridian,
    transformer,
)
from app.grid.tile import CRS, Tile
from app.landcover.blocks import LandCover, Selection, all_of, ranked
from app.monitoring import metrics
from app.render.transition import codes
from model.legend import NODATA
from model.windows import BLOCK, cover

Layer = Literal["class", "confidence"]
_SHIFT = BLOCK.bit_length() - 1


@dataclass(frozen=True, slots=True)
class View:
    """`array`: uint8 (size, size), row 0 in the north, 255 = nodata. `complete` is False when
    blocks were left out because they exceeded the budget of one request."""

    array: npt.NDArray[np.uint8]
    scenes: tuple[SceneRef, ...]
    complete: bool


def level_of(tile: Tile, resolution: float) -> int:
    """The pyramid level whose pixels come nearest to the tile's."""
    return max(0, min(LEVELS, round(math.log2(tile.ground_resolution / resolution))))


def blocks_near(selection: Selection, tile: Tile) -> list[Block]:
    """Every block that may show in the tile, in a fixed order; none below the advertised zooms.

    Without that bound a tile of the whole world would be millions of blocks.
    """
    blocks: list[Block] = []
    if not selection.source.shows(tile):
        return blocks
    for grid in selection.source.grids():
        bounds = bounds_between(CRS, grid.crs, tile.bounds)
        if selection.source.catalog.search(grid.crs, bounds, selection.when):
            blocks += [Block.of(grid, window) for window in cover(grid.touching(bounds).expand(1))]
    return blocks


def fingerprint(landcover: LandCover, selection: Selection, tile: Tile) -> str:
    """Digest of all the tile's classes depend on: known before any pixel is read."""
    keys = (landcover.key(selection, block) for block in blocks_near(selection, tile))
    text = " ".join(key or "-" for key in keys)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


async def compose(
    landcover: LandCover, selection: Selection, tile: Tile, layer: Layer, budget: int
) -> View:
    """The tile's classes or confidence.

    Below native zoom at most `budget` blocks are computed; with more missing, the tile shows the
    blocks that are cached and says so. An empty place is a tile of nodata.
    """
    array = np.full((tile.size, tile.size), NODATA, dtype=np.uint8)
    scenes: dict[SceneRef, None] = {}
    complete = True
    if selection.source.shows(tile):
        await landcover.prepare(selection, tile.lonlat_bounds)
    grids = sorted({block.grid for block in blocks_near(selection, tile)})
    for rank in range(len(grids)):
        for grid in grids:
            open_pixels = array == NODATA
            if len(grids) > 1:
                open_pixels &= _columns_of_rank(tile, grids, grid, rank)[None, :]
            part = await _place(landcover, selection, tile, grid, layer, open_pixels, budget)
            np.copyto(array, part.array, where=open_pixels)
            scenes |= dict.fromkeys(part.scenes)
            complete &= part.complete
    return View(array, tuple(scenes), complete)


async def compose_change(
    landcover: LandCover, before: Selection, after: Selection, tile: Tile, budget: int
) -> View:
    """What became of what: from · 10 + to of the classes that the tiles of the two selections show,
    255 where either shows none."""
    first, second = await all_of(
        compose(landcover, selection, tile, "class", budget) for selection in (before, after)
    )
    scenes = tuple(dict.fromkeys([*first.scenes, *second.scenes]))
    return View(codes(first.array, second.array), scenes, first.complete and second.complete)


async def _place(
    landcover: LandCover,
    selection: Selection,
    tile: Tile,
    grid: PixelGrid,
    layer: Layer,
    wanted: npt.NDArray[np.bool_],
    budget: int,
) -> View:
    """The pixels of `wanted` (bool, tile shape) from the blocks of one grid."""
    array = np.full(wanted.shape, NODATA, dtype=np.uint8)
    cols, rows = tile.cells(grid)
    places: dict[Block, npt.NDArray[np.intp]] = {}
    address = np.where(wanted, ((rows >> _SHIFT) << 32) | (cols >> _SHIFT), -1).ravel()
    for value in np.unique(address).tolist():
        block = Block(grid, value & 0xFFFFFFFF, value >> 32)
        if value >= 0 and landcover.scenes(selection, block):
            places[block] = np.flatnonzero(address == value)
    metrics.REQUEST_BLOCKS.observe(len(places))
    level = level_of(tile, grid.resolution)
    if level:
        found, complete = await _within_budget(landcover, selection, list(places), budget)
    else:
        computed = await all_of(landcover.block(selection, block) for block in places)
        found, complete = dict(zip(places, computed, strict=True)), True
    flat, flat_cols, flat_rows = array.reshape(-1), cols.reshape(-1), rows.reshape(-1)
    scenes: dict[SceneRef, None] = {}
    for block, classified in found.items():
        if classified is None:
            continue
        where = places[block]
        inner_rows = (flat_rows[where] & (BLOCK - 1)) >> level
        inner_cols = (flat_cols[where] & (BLOCK - 1)) >> level
        flat[where] = classified.level(level, layer)[inner_rows, inner_cols]
        scenes |= dict.fromkeys(classified.scenes)
    return View(array, tuple(scenes), complete)


async def _within_budget(
    landcover: LandCover, selection: Selection, blocks: list[Block], budget: int
) -> tuple[dict[Block, ClassifiedBlock | None], bool]:
    """The blocks that are cached, and the others too unless they are more than `budget`."""
    keys = [landcover.key(selection, block) or "" for block in blocks]
    cached = await all_of(landcover.cache.find(key) for key in keys)
    found: dict[Block, ClassifiedBlock | None] = dict(zip(blocks, cached, strict=True))
    missing = [block for block, classified in found.items() if classified is None]
    if len(missing) > budget:
        return found, False
    computed = await all_of(landcover.block(selection, block) for block in missing)
    return found | dict(zip(missing, computed, strict=True)), True


def _columns_of_rank(
    tile: Tile, grids: list[PixelGrid], grid: PixelGrid, rank: int
) -> npt.NDArray[np.bool_]:
    """bool (size,): the tile's columns for which `grid`, of sorted `grids`, is choice `rank`."""
    x, _ = tile.centers()
    longitude, _ = transformer(CRS, LONLAT).transform(x, np.zeros_like(x))
    distance = np.stack([np.abs(longitude - central_meridian(each.crs)) for each in grids])
    order = np.argsort(distance, axis=0, kind="stable")
    chosen: npt.NDArray[np.bool_] = order[rank] == grids.index(grid)
    return chosen


@dataclass(frozen=True, slots=True)
class Found:
    """What a point query finds: the class of one pixel and where it came from."""

    value: int
    confidence: int
    scenes: tuple[SceneRef, ...]
    scene: SceneRef | None
    block: Block
    row: int
    col: int


async def at_point(
    landcover: LandCover, selection: Selection, longitude: float, latitude: float
) -> Found | None:
    """The pixel under a point (degrees); None where there is no imagery."""
    await landcover.prepare(selection, (longitude, latitude, longitude, latitude))
    for grid in ranked(selection.source.grids(), longitude):
        x, y = transformer(LONLAT, grid.crs).transform(longitude, latitude)
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        cols, rows = grid.cells(np.asarray(x), np.asarray(y))
        col, row = int(cols), int(rows)
        block = Block(grid, col >> _SHIFT, row >> _SHIFT)
        classified = await landcover.block(selection, block)
        if classified is None:
            continue
        row, col = row & (BLOCK - 1), col & (BLOCK - 1)
        value = int(classified.classes[row, col])
        if value != NODATA:
            confidence = int(classified.confidence[row, col])
            scene = await landcover.scene_of(selection, block, row, col)
            return Found(value, confidence, classified.scenes, scene, block, row, col)
    return None
