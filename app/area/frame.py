"""A frame: what a raster of an area shows: its CRS, its pixels, and the outline it is cut to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from app.area.polygon import AreaOfInterest
from app.errors import InvalidRequest
from app.grid.pixel_grid import LONLAT, NORTH, PixelGrid, by_central_meridian, transformer
from model.windows import BLOCK, Window, cover

METERS_PER_DEGREE = 111_319.490793
"""Of longitude on the equator (WGS 84)."""


@dataclass(frozen=True, slots=True)
class OutputGrid:
    """`window` of `lattice`; `clip`, in its CRS: pixels whose center lies outside are nodata."""

    lattice: PixelGrid
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
        """The rectangle around an area in `crs` (`EPSG:<code>`), pixels of `resolution` of its
        units; by default the work grid whose zone holds the area's middle, and its resolution.

        InvalidRequest when the CRS is unknown, neither projected nor EPSG:4326, or made for another
        part of the world.
        """
        middle = area.geometry.centroid
        native = by_central_meridian(grids, middle.x)[0]
        if crs is None:
            lattice = PixelGrid(_reaching(native, area), resolution or native.resolution)
        else:
            lattice = _lattice(crs, resolution, native.resolution, area)
        if not math.isfinite(lattice.resolution) or lattice.resolution <= 0:
            raise InvalidRequest("resolution", resolution, "a length > 0 in units of the CRS")
        project = transformer(LONLAT, lattice.crs).transform
        shape = shapely.transform(area.outline, project, interleaved=False)
        if not all(map(math.isfinite, shape.bounds)):
            raise InvalidRequest("crs", lattice.crs, "a CRS in which the area can be shown")
        return cls(lattice, lattice.touching(shape.bounds), shape if clipped else None)

    @property
    def pixels(self) -> int:
        """How many the raster has."""
        return self.window.rows * self.window.cols

    def is_native(self, grids: Sequence[PixelGrid]) -> bool:
        """Whether its pixels are those of a work grid: then a chunk is a block."""
        return any(self.lattice == grid for grid in grids)

    def chunks(self) -> Iterator[tuple[Window, npt.NDArray[np.bool_]]]:
        """Aligned windows that hold pixels of the raster, and which of their pixels it shows."""
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
        """How many chunks there are at most."""
        window = self.window
        across = -(-window.col_stop // BLOCK) - window.col // BLOCK
        return across * (-(-window.row_stop // BLOCK) - window.row // BLOCK)

    def _mask(self, chunk: Window, ground: BaseGeometry) -> npt.NDArray[np.bool_]:
        piece = shapely.intersection(self.clip, ground)
        polygons = [part for part in shapely.get_parts(piece) if part.geom_type == "Polygon"]
        if not polygons:
            return np.zeros(chunk.shape, dtype=bool)
        affine = self.lattice.transform(chunk)
        inside: npt.NDArray[np.bool_] = geometry_mask(polygons, chunk.shape, affine, invert=True)
        return inside

    def _bounds(self, window: Window) -> tuple[float, float, float, float]:
        affine = self.lattice.transform(window)
        left, top = affine @ (0, 0)
        right, bottom = affine @ (window.cols, window.rows)
        return left, bottom, right, top


def _reaching(native: PixelGrid, area: AreaOfInterest) -> str:
    """The grid's CRS, or where the area lies far from it (there is no imagery) its own UTM zone."""
    middle = area.geometry.centroid
    known = CRS.from_user_input(native.crs).area_of_use
    if known is None or shapely.box(*known.bounds).buffer(6).intersects(area.geometry):
        return native.crs
    zone = min(59, int((middle.x + 180) // 6)) + 1
    return f"EPSG:{32600 + zone if middle.y >= 0 else 32700 + zone}"


def _lattice(
    asked: str, resolution: float | None, meters: float, area: AreaOfInterest
) -> PixelGrid:
    code = asked.upper().removeprefix("EPSG:")
    expected = "EPSG:<code> of a projected CRS, or EPSG:4326"
    try:
        crs = CRS.from_epsg(int(code)) if code.isdecimal() and len(code) < 7 else None
    except CRSError:
        crs = None
    if crs is None or not (crs.is_projected or int(code) == 4326):
        raise InvalidRequest("crs", asked, expected)
    known = crs.area_of_use
    if known is not None and not shapely.box(*known.bounds).intersects(area.geometry):
        west, south, east, north = known.bounds
        there = f"{west:g},{south:g},{east:g},{north:g}"
        raise InvalidRequest("crs", asked, f"a CRS for this place ({asked} is for {there})")
    if crs.is_geographic:
        return PixelGrid("EPSG:4326", resolution or meters / METERS_PER_DEGREE, 90.0)
    unit = crs.axis_info[0].unit_conversion_factor or 1.0
    return PixelGrid(f"EPSG:{int(code)}", resolution or meters / unit, NORTH)
