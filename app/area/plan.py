"""An area of interest on the work grids: which blocks, and which part of each.

Between two UTM zones the ground belongs to the grid whose central meridian is nearer, as in tiles
and points; so a polygon is cut along the meridian half-way and no ground is counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Proj
from shapely.geometry.base import BaseGeometry

from app.area.coverage import coverage
from app.area.polygon import STEP, AreaOfInterest, check_order, square_meters
from app.grid.pixel_grid import LONLAT, Block, Bounds, PixelGrid, central_meridian, transformer
from model.windows import BLOCK, Window

Shares = npt.NDArray[np.float64]
MANY_BLOCKS = 20_000
"""Areas larger than so many blocks are counted by their size, not one by one."""


@dataclass(frozen=True, slots=True)
class Part:
    """What of an area lies in one block. `shape`: in the grid's CRS; None: all of the block."""

    block: Block
    shape: BaseGeometry | None

    def coverage(self) -> Shares | None:
        """float64 (512, 512), 0..1: the share of each pixel in the area; None: all of it."""
        if self.shape is None:
            return None
        grid = self.block.grid
        left, _, _, top = grid.bounds(self.block.window)
        return coverage(self.shape, left, top, grid.resolution, BLOCK)

    @property
    def pixel_area(self) -> float:
        """Square meters on the ground per pixel, at the block's middle.

        res² / areal scale (Snyder 1987, k² for a conformal projection); it differs by less than 4
        parts in a million across a block of a UTM zone.
        """
        grid = self.block.grid
        left, bottom, right, top = grid.bounds(self.block.window)
        return grid.resolution**2 / areal_scale(grid.crs, (left + right) / 2, (bottom + top) / 2)


@dataclass(frozen=True, slots=True)
class Region:
    """What of an area belongs to one work grid, in its CRS."""

    grid: PixelGrid
    shape: BaseGeometry

    @property
    def extent(self) -> Window:
        """The pixels that touch it."""
        return self.grid.touching(self.shape.bounds)

    def parts(self) -> Iterator[Part]:
        """Its blocks, row by row from the north-west; memory does not grow with their number."""
        extent, grid = self.extent, self.grid
        for row in range(extent.row // BLOCK, -(-extent.row_stop // BLOCK)):
            strip = Window(extent.col, row * BLOCK, extent.cols, BLOCK)
            # Cut to the row first: what a block is cut from is then small.
            shape = shapely.intersection(self.shape, shapely.box(*grid.bounds(strip)))
            if shape.is_empty:
                continue
            shapely.prepare(shape)
            within = grid.touching(shape.bounds)
            cols = np.arange(within.col // BLOCK, -(-within.col_stop // BLOCK))
            boxes = _boxes(grid, cols, row)
            covered = shapely.covers(shape, boxes)
            touched = covered | shapely.intersects(shape, boxes)
            for number in np.flatnonzero(touched).tolist():
                block = Block(grid, int(cols[number]), row)
                piece = None if covered[number] else shapely.intersection(shape, boxes[number])
                if piece is None or piece.area > 0:
                    yield Part(block, piece)


@dataclass(frozen=True, slots=True)
class Plan:
    """An area on the work grids of a source. `beyond`: m² of it outside the source's bounds."""

    area: AreaOfInterest
    regions: tuple[Region, ...]
    beyond: float

    @classmethod
    def of(cls, area: AreaOfInterest, grids: Sequence[PixelGrid], bounds: Bounds) -> Plan:
        """`bounds`: (west, south, east, north) of the imagery, degrees; there is nothing beyond.

        InvalidArea when the area would lie there if its axes were swapped.
        """
        check_order(area, bounds)
        within = shapely.intersection(area.outline, shapely.box(*bounds))
        beyond = max(0.0, area.square_meters - square_meters(_polygons(within)))
        if within.equals(area.outline):
            within, beyond = area.outline, 0.0
        regions = []
        for grid, west, east in _zones(grids):
            piece = _polygons(shapely.intersection(within, shapely.box(west, -90, east, 90)))
            if piece.is_empty or not piece.area:
                continue
            project = transformer(LONLAT, grid.crs).transform
            piece = shapely.segmentize(piece, STEP)
            moved = shapely.transform(piece, project, interleaved=False)
            if all(map(math.isfinite, moved.bounds)):
                regions.append(Region(grid, moved))
        return cls(area, tuple(regions), beyond)

    def parts(self) -> Iterator[Part]:
        """Every block with ground of the area, in a fixed order; each pixel's ground once."""
        for region in self.regions:
            yield from region.parts()

    def count(self) -> int:
        """How many blocks; beyond `MANY_BLOCKS` by the area's size, exact to a per cent."""
        by_size: float = sum(
            region.shape.area / (BLOCK * region.grid.resolution) ** 2 for region in self.regions
        )
        if by_size > MANY_BLOCKS:
            return round(by_size)
        return sum(1 for _ in self.parts())


@lru_cache(maxsize=64)
def _projection(crs: str) -> Proj:
    return Proj(crs)


def areal_scale(crs: str, x: float, y: float) -> float:
    """Area on the map per area on the ground at a point of a projected CRS."""
    longitude, latitude = transformer(crs, LONLAT).transform(x, y)
    return float(_projection(crs).get_factors(longitude, latitude).areal_scale)


def _zones(grids: Sequence[PixelGrid]) -> Iterator[tuple[PixelGrid, float, float]]:
    """(grid, west, east): the longitudes at which a grid is the first choice."""
    by_meridian = {central_meridian(grid.crs): grid for grid in sorted(grids, reverse=True)}
    meridians = sorted(by_meridian)
    edges = [-180.0, *((a + b) / 2 for a, b in pairwise(meridians)), 180.0]
    for meridian, west, east in zip(meridians, edges, edges[1:], strict=False):
        yield by_meridian[meridian], west, east


def _boxes(grid: PixelGrid, cols: npt.NDArray[np.int64], row: int) -> npt.NDArray[np.object_]:
    """The ground of the blocks (cols, row), as polygons in the grid's CRS."""
    side = BLOCK * grid.resolution
    _, bottom, _, top = grid.bounds(Window(0, row * BLOCK, BLOCK, BLOCK))
    boxes: npt.NDArray[np.object_] = shapely.box(cols * side, bottom, (cols + 1) * side, top)
    return boxes


def _polygons(geometry: BaseGeometry) -> BaseGeometry:
    """The polygons of a geometry, without the points and lines that cutting may leave."""
    parts = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
