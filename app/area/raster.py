"""Class rasters of an area in any CRS, block by block; memory does not grow with the area."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from app.area.polygon import AreaOfInterest, polygons_of
from app.area.totals import Progress, silent, values_of
from app.errors import InvalidRequest
from app.grid.pixel_grid import LONLAT, NORTH, PixelGrid, by_central_meridian, transformer
from app.landcover.batching import neighbors_together
from app.landcover.blocks import LandCover, Selection
from app.render.attribute_table import Table, table_of
from app.render.geotiff import class_cog
from app.render.transition import TRANSITION, transition_table
from app.sampling.placer import Placed, classes_under
from app.scheduling import gather, prefetch
from model.legend import NODATA, Legend
from model.windows import BLOCK, Window, cover

METERS_PER_DEGREE = 111_319.490793
"""Of longitude on the equator (WGS 84)."""

_LARGEST = 1e7
"""Units of a pixel: a quarter of the Earth in meters."""

MAX_PIXEL_INDEX = 2**40
"""Largest column or row of a grid: a pixel of 0.01 mm in a CRS of meters."""

Chunk = tuple[Window, npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class OutputGrid:
    """`window` of `grid`; `clip`, in its CRS: pixels whose center lies outside are nodata."""

    grid: PixelGrid
    window: Window
    clip: BaseGeometry | None

    @classmethod
    def of(
        cls,
        area: AreaOfInterest,
        grids: Sequence[PixelGrid],
        crs: str | None = None,
        resolution: float | None = None,
        *,
        clipped: bool = True,
    ) -> OutputGrid:
        """Return the rectangle around an area in `crs` (`EPSG:<code>`), pixels of `resolution` of
        its units; by default the work grid whose zone holds the area's middle, and its resolution.

        InvalidRequest when the CRS is unknown, neither projected nor EPSG:4326, or made for another
        part of the world, or the pixels are too small to be counted.
        """
        native = by_central_meridian(grids, area.middle[0])[0]
        if crs is None:
            grid = PixelGrid(_crs_near(native, area), resolution or native.resolution)
        else:
            grid = _grid_of(crs, resolution, native.resolution, area)
        if not isfinite(grid.resolution) or grid.resolution <= 0:
            raise InvalidRequest("resolution", resolution, "a length > 0 in units of the CRS")
        project = transformer(LONLAT, grid.crs).transform
        shape = shapely.transform(area.outline, project, interleaved=False)
        if not all(map(isfinite, shape.bounds)):
            raise InvalidRequest("crs", grid.crs, "a CRS in which the area can be shown")
        smallest = max(map(abs, (*shape.bounds, grid.north))) / MAX_PIXEL_INDEX
        if grid.resolution < smallest:
            raise InvalidRequest("resolution", resolution, f"at least {smallest:.2g}")
        if grid.resolution > _LARGEST:
            raise InvalidRequest("resolution", resolution, f"at most {_LARGEST:g}")
        return cls(grid, grid.touching(shape.bounds), shape if clipped else None)

    @property
    def pixels(self) -> int:
        """Return how many pixels the raster has."""
        return self.window.rows * self.window.cols

    def is_native(self, grids: Sequence[PixelGrid]) -> bool:
        """Whether its pixels are those of a work grid: then a chunk is a block."""
        return any(self.grid == grid for grid in grids)

    def chunks(self) -> Iterator[Chunk]:
        """Yield aligned windows that hold pixels of the raster, and bool (512, 512), True where it
        shows a pixel."""
        if self.clip is not None:
            shapely.prepare(self.clip)
        for chunk in cover(self.window):
            inside = np.zeros(chunk.shape, dtype=bool)
            part = chunk.intersection(self.window)
            if part is None:
                continue
            if self.clip is None:
                inside[part.slices_in(chunk)] = True
                yield chunk, inside
                continue
            ground = shapely.box(*self._bounds(chunk))
            if self.clip.contains_properly(ground):
                inside[:] = True
            elif self.clip.intersects(ground):
                inside = self._mask(chunk, ground)
            if inside.any():
                yield chunk, inside

    def count(self) -> int:
        """Return how many chunks there are at most."""
        window = self.window
        across = -(-window.col_stop // BLOCK) - window.col // BLOCK
        return across * (-(-window.row_stop // BLOCK) - window.row // BLOCK)

    def _mask(self, chunk: Window, ground: BaseGeometry) -> npt.NDArray[np.bool_]:
        piece = polygons_of(shapely.intersection(self.clip, ground))
        if piece.is_empty:
            return np.zeros(chunk.shape, dtype=bool)
        affine = self.grid.transform(chunk)
        inside: npt.NDArray[np.bool_] = geometry_mask([piece], chunk.shape, affine, invert=True)
        return inside

    def _bounds(self, window: Window) -> tuple[float, float, float, float]:
        affine = self.grid.transform(window)
        left, top = affine @ (0, 0)
        right, bottom = affine @ (window.cols, window.rows)
        return left, bottom, right, top


async def write_raster(
    landcover: LandCover,
    selections: Sequence[Selection],
    output: OutputGrid,
    path: Path,
    progress: Progress = silent,
) -> None:
    """Write a Cloud Optimized GeoTIFF of one selection's classes, or of the transitions between
    two (from · 10 + to).

    SourceUnavailable or Busy as `LandCover.block`, OSError when the file cannot be written; then
    nothing is left at `path`.
    """
    grids = selections[0].source.grids()
    native = output.is_native(grids)
    count, edge = (landcover.in_flight, landcover.batcher.edge) if native else (0, 1)
    total, done = output.count(), 0
    table, description = raster_table([each.session.card.legend for each in selections])

    async def look_up(chunk: Chunk) -> list[Placed]:
        window, inside = chunk
        return await gather(
            classes_under(landcover, selection, output.grid, window, inside)
            for selection in selections
        )

    ordered = neighbors_together(output.chunks(), _place_of, edge)
    with class_cog(path, output.grid, output.window, table, description) as raster:
        async with aclosing(prefetch(ordered, look_up, count)) as chunks:
            async for (window, inside), shown in chunks:
                values = np.where(inside, values_of(shown), NODATA).astype(np.uint8)
                scenes = [scene for each in shown for scene in each.scenes]
                await landcover.reads.run(raster.write, window, values, scenes)
                done += 1
                progress(done, total)
        card = selections[-1].session.metadata
        years = {"LANDCOVER_YEARS": ",".join(each.when.text for each in selections)}
        await landcover.reads.run(raster.finish, card, years)
    progress(total, total)


async def write_window(
    landcover: LandCover,
    selection: Selection,
    grid: PixelGrid,
    extent: Window,
    path: Path,
    progress: Progress = silent,
) -> None:
    """Classify `extent` of `grid` into the GeoTIFF `path`; errors as `write_raster`."""
    output = OutputGrid(grid, extent, None)
    await write_raster(landcover, [selection], output, path, progress)


def _place_of(chunk: Chunk) -> tuple[object, int, int]:
    window, _ = chunk
    return None, window.row // BLOCK, window.col // BLOCK


def raster_table(legends: Sequence[Legend]) -> tuple[Table, str]:
    """Return the values of a raster of one selection or two, and the name of its band."""
    if len(legends) == 1:
        return table_of(legends[0]), "land cover class"
    return transition_table(legends[-1]), TRANSITION


def _crs_near(native: PixelGrid, area: AreaOfInterest) -> str:
    """Return the grid's CRS, or the UTM zone of an area that lies far from it, where there is no
    imagery."""
    longitude, latitude = area.middle
    known = CRS.from_user_input(native.crs).area_of_use
    if known is None or shapely.box(*known.bounds).buffer(6).intersects(area.geometry):
        return native.crs
    zone = min(59, int((longitude + 180) // 6)) + 1
    return f"EPSG:{32600 + zone if latitude >= 0 else 32700 + zone}"


def _grid_of(
    requested: str, resolution: float | None, meters: float, area: AreaOfInterest
) -> PixelGrid:
    """Return the pixels of a CRS that a client names; `meters`: the default resolution."""
    code = requested.upper().removeprefix("EPSG:")
    expected = "EPSG:<code> of a projected CRS, or EPSG:4326"
    try:
        crs = CRS.from_epsg(int(code)) if code.isdecimal() and len(code) < 7 else None
    except CRSError:
        crs = None
    if crs is None or not (crs.is_projected or int(code) == 4326):
        raise InvalidRequest("crs", requested, expected)
    known = crs.area_of_use
    if known is not None and not shapely.box(*known.bounds).intersects(area.geometry):
        west, south, east, north = known.bounds
        there = f"{west:g},{south:g},{east:g},{north:g}"
        raise InvalidRequest("crs", requested, f"a CRS for this place ({requested} is for {there})")
    if crs.is_geographic:
        return PixelGrid("EPSG:4326", resolution or meters / METERS_PER_DEGREE, 90.0)
    unit = crs.axis_info[0].unit_conversion_factor or 1.0
    return PixelGrid(f"EPSG:{int(code)}", resolution or meters / unit, NORTH)
