"""An area of interest on the work grids: which blocks, which part of each, and what they cost.

Between two UTM zones the ground belongs to the grid whose central meridian is nearer, as in tiles
and points; so a polygon is cut along the meridian half-way and no ground is counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import islice, pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from pyproj import Proj
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from app.area.polygon import STEP, AreaOfInterest, check_order, polygons_of, square_meters
from app.grid.pixel_grid import LONLAT, Block, Bounds, PixelGrid, central_meridian, transformer
from app.landcover.blocks import LandCover, Selection
from app.sampling.newest import newest_blocks
from model.windows import BLOCK, Window

Shares = npt.NDArray[np.float64]

MANY_BLOCKS = 20_000
"""Areas larger than this many blocks are counted by their size, not one by one."""

SAMPLED_BLOCKS = 512
"""Blocks looked up one by one for an estimate; of larger areas these stand for the rest."""

BYTES_PER_PIXEL = 0.05
"""Of a class GeoTIFF with its overviews, per pixel in the area; 0.042 for the watershed of
docs/planners.md."""

_MANY_VERTICES = 200
_SMALLEST_SQUARE = 64


@dataclass(frozen=True, slots=True)
class Part:
    """The part of an area in one block. `shape`: in the grid's CRS; None: all of the block."""

    block: Block
    shape: BaseGeometry | None

    def coverage(self) -> Shares | None:
        """Return float64 (512, 512), 0..1: the share of each pixel in the area; None: all of it."""
        if self.shape is None:
            return None
        grid = self.block.grid
        left, _, _, top = grid.bounds(self.block.window)
        return coverage(self.shape, left, top, grid.resolution, BLOCK)

    @property
    def pixel_area(self) -> float:
        """Return the square meters on the ground per pixel, at the block's middle.

        res² / areal scale (Snyder 1987, k² for a conformal projection); it differs by less than 4
        parts in a million across a block of a UTM zone.
        """
        grid = self.block.grid
        left, bottom, right, top = grid.bounds(self.block.window)
        return grid.resolution**2 / areal_scale(grid.crs, (left + right) / 2, (bottom + top) / 2)


@dataclass(frozen=True, slots=True)
class Region:
    """The part of an area that belongs to one work grid, in its CRS."""

    grid: PixelGrid
    shape: BaseGeometry

    @property
    def extent(self) -> Window:
        """Return the pixels that touch it."""
        return self.grid.touching(self.shape.bounds)

    def parts(self) -> Iterator[Part]:
        """Yield its blocks, row by row from the northwest; memory does not grow with them."""
        extent, grid = self.extent, self.grid
        for row in range(extent.row // BLOCK, -(-extent.row_stop // BLOCK)):
            strip = Window(extent.col, row * BLOCK, extent.cols, BLOCK)
            # Cut to the row first, so that each block is cut from little.
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
    """An area on the work grids of a source; `outside_m2`: m² of it outside the source's bounds."""

    area: AreaOfInterest
    regions: tuple[Region, ...]
    outside_m2: float

    @classmethod
    def of(cls, area: AreaOfInterest, grids: Sequence[PixelGrid], bounds: Bounds) -> Plan:
        """Return the plan of an area; `bounds`: (west, south, east, north) of the imagery, degrees.

        InvalidArea when the area lies outside and would not with its axes swapped.
        """
        check_order(area, bounds)
        within = shapely.intersection(area.outline, shapely.box(*bounds))
        outside_m2 = max(0.0, area.square_meters - square_meters(polygons_of(within)))
        if within.equals(area.outline):
            within, outside_m2 = area.outline, 0.0
        regions = []
        for grid, west, east in _zones(grids):
            piece = polygons_of(shapely.intersection(within, shapely.box(west, -90, east, 90)))
            if piece.is_empty or not piece.area:
                continue
            project = transformer(LONLAT, grid.crs).transform
            piece = shapely.segmentize(piece, STEP)
            moved = shapely.transform(piece, project, interleaved=False)
            if all(map(math.isfinite, moved.bounds)):
                regions.append(Region(grid, moved))
        return cls(area, tuple(regions), outside_m2)

    def parts(self) -> Iterator[Part]:
        """Yield every block with ground of the area, in a fixed order; each pixel's ground once."""
        for region in self.regions:
            yield from region.parts()

    def count(self) -> int:
        """Return how many blocks; above `MANY_BLOCKS` by the area's size, exact to a percent."""
        by_size: float = sum(
            region.shape.area / (BLOCK * region.grid.resolution) ** 2 for region in self.regions
        )
        if by_size > MANY_BLOCKS:
            return round(by_size)
        return sum(1 for _ in self.parts())


@dataclass(frozen=True, slots=True)
class Estimate:
    """`blocks` to classify, how many of them are `cached`, `seconds` and `bytes` of the raster.

    `exact` is False when the figures are scaled up from a part of the blocks.
    """

    blocks: int
    cached: int
    seconds: float
    bytes: int
    exact: bool

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


async def estimate(
    landcover: LandCover, selections: Sequence[Selection], plans: Sequence[Plan]
) -> Estimate:
    """Return what all selections and plans take together; nothing is classified for it, but the
    first estimate of a process runs one block of zeros to time it."""
    total = sum(plan.count() for plan in plans)
    sampled, imagery, cached = 0, 0, 0
    for plan in plans:
        if total > MANY_BLOCKS:
            break
        for part in islice(plan.parts(), SAMPLED_BLOCKS - sampled):
            sampled += 1
            for selection in selections:
                for block in newest_blocks(selection, part.block):
                    key = landcover.key(selection, block)
                    imagery += key is not None
                    cached += key is not None and landcover.cache.contains(key)
    scale = total / sampled if sampled else float(len(selections))
    blocks = round(imagery * scale) if sampled else total * len(selections)
    kept = min(round(cached * scale), blocks)
    each = await seconds_per_block(landcover, selections[0])
    return Estimate(
        blocks=blocks,
        cached=kept,
        seconds=round((blocks - kept) * each, 1),
        bytes=sum(map(raster_bytes, plans)),
        exact=sampled == total,
    )


def raster_bytes(plan: Plan) -> int:
    """Return the size of a plan's raster, about."""
    pixels = sum(float(each.shape.area) / each.grid.resolution**2 for each in plan.regions)
    return round(pixels * BYTES_PER_PIXEL)


async def seconds_per_block(landcover: LandCover, selection: Selection) -> float:
    """Return the seconds per block with all inference threads at work: as measured, or timed
    now."""
    gate = landcover.gate
    if not gate.measured:
        session, size = selection.session, selection.session.card.window
        empty = np.zeros((1, len(session.card.bands), size, size), dtype=np.float32)
        async with gate.admitted():
            await landcover.infers.run(session.predict, empty)
    return gate.seconds_per_block


def coverage(
    polygon: BaseGeometry, left: float, top: float, resolution: float, size: int
) -> Shares:
    """Return float64 (size, size), 0..1: the share of each pixel that lies in `polygon`.

    Row 0 is in the north, its upper edge at `top`. The polygon, in the same units, must be valid.
    Exact to single precision: within 6e-8.
    """
    bottom = top - size * resolution
    pixels = shapely.transform(polygon, lambda points: (points - (left, bottom)) / resolution)
    shares = np.zeros((size, size))
    _cover(shares, polygons_of(pixels))
    return shares


def _cover(shares: Shares, polygon: BaseGeometry) -> None:
    """Write the shares of a square; `polygon`: in pixels from its lower left corner."""
    size, half = len(shares), len(shares) // 2
    if polygon.is_empty:
        return
    if shapely.get_num_coordinates(polygon) > _MANY_VERTICES and half >= _SMALLEST_SQUARE:
        # exactextract holds the GIL: 550 ms for 10,000 vertices in a block, in quarters 1/13 of it.
        for row, col in product((0, half), repeat=2):
            quarter = shapely.intersection(polygon, shapely.box(col, row, col + half, row + half))
            moved = shapely.transform(quarter, lambda points, at=(col, row): points - at)
            rows = slice(size - row - half, size - row)
            _cover(shares[rows, col : col + half], polygons_of(moved))
        return
    pixels = NumPyRasterSource(np.broadcast_to(np.uint8(0), shares.shape), 0, 0, size, size)
    feature = {"type": "Feature", "properties": {}, "geometry": mapping(polygon)}
    (result,) = exact_extract(pixels, feature, ["cell_id", "coverage"])
    row, col = np.divmod(result["properties"]["cell_id"], size)
    shares[row, col] = result["properties"]["coverage"]


@lru_cache(maxsize=64)
def _projection(crs: str) -> Proj:
    return Proj(crs)


def areal_scale(crs: str, x: float, y: float) -> float:
    """Return the area on the map per area on the ground at a point of a projected CRS."""
    longitude, latitude = transformer(crs, LONLAT).transform(x, y)
    return float(_projection(crs).get_factors(longitude, latitude).areal_scale)


def _zones(grids: Sequence[PixelGrid]) -> Iterator[tuple[PixelGrid, float, float]]:
    """Yield (grid, west, east): the longitudes at which a grid is the first choice."""
    by_meridian = {central_meridian(grid.crs): grid for grid in sorted(grids, reverse=True)}
    meridians = sorted(by_meridian)
    edges = [-180.0, *((a + b) / 2 for a, b in pairwise(meridians)), 180.0]
    for meridian, west, east in zip(meridians, edges, edges[1:], strict=False):
        yield by_meridian[meridian], west, east


def _boxes(grid: PixelGrid, cols: npt.NDArray[np.int64], row: int) -> npt.NDArray[np.object_]:
    """Return the ground of the blocks (cols, row), as polygons in the grid's CRS."""
    side = BLOCK * grid.resolution
    _, bottom, _, top = grid.bounds(Window(0, row * BLOCK, BLOCK, BLOCK))
    boxes: npt.NDArray[np.object_] = shapely.box(cols * side, bottom, (cols + 1) * side, top)
    return boxes
