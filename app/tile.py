"""A tile: an XYZ address and the ground its pixels show.

OGC TileMatrixSet WebMercatorQuad (17-083r2 annex D.1); x counts east, y counts south.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import morecantile
import numpy as np
import numpy.typing as npt

from app.errors import InvalidRequest
from app.grid import Bounds, Cells, WorkGrid, bounds_between, transformer

TMS = morecantile.tms.get("WebMercatorQuad")
TMS_NAMES = ("WebMercatorQuad", "GoogleMapsCompatible", "WholeWorld_WebMercator")
"""Names under which clients ask for the one tile matrix set served."""

CRS = "EPSG:3857"
MAX_ZOOM = 24
SIZES = (256, 512, 1024)
"""Tile edges in pixels: 256 and 512, and 512@2x."""


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """z, x, y and the edge of its image in pixels."""

    z: int
    x: int
    y: int
    size: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.z <= MAX_ZOOM:
            raise InvalidRequest("z", self.z, f"a zoom of 0..{MAX_ZOOM}")
        for field in ("x", "y"):
            value = getattr(self, field)
            if not 0 <= value < 2**self.z:
                raise InvalidRequest(field, value, f"0..{2**self.z - 1} at zoom {self.z}")
        if self.size not in SIZES:
            raise InvalidRequest("tilesize", self.size, f"one of {SIZES}")

    @property
    def bounds(self) -> Bounds:
        """(left, bottom, right, top) in EPSG:3857."""
        box = TMS.xy_bounds(morecantile.Tile(self.x, self.y, self.z))
        return box.left, box.bottom, box.right, box.top

    @property
    def lonlat_bounds(self) -> Bounds:
        """(west, south, east, north) in degrees."""
        return bounds_between(CRS, "OGC:CRS84", self.bounds)

    @property
    def ground_resolution(self) -> float:
        """Metres on the ground per pixel at the tile's centre."""
        left, bottom, right, top = self.bounds
        latitude = math.atan(math.sinh((bottom + top) / 2 / 6378137.0))
        return (right - left) / self.size * math.cos(latitude)

    def centres(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """x (size,) and y (size,) of the pixel centres in EPSG:3857, y descending."""
        left, bottom, right, top = self.bounds
        steps = (np.arange(self.size) + 0.5) / self.size
        return left + steps * (right - left), top - steps * (top - bottom)

    def project(self, crs: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """x and y (size, size) of the pixel centres in `crs`, row 0 in the north. Read-only."""
        return _project(self, crs)

    def cells(self, grid: WorkGrid) -> tuple[Cells, Cells]:
        """(cols, rows), each (size, size): the grid pixel that holds each pixel's centre."""
        return grid.cells(*self.project(grid.crs))


@lru_cache(maxsize=16)
def _project(tile: Tile, crs: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    x, y = np.meshgrid(*tile.centres())
    projected: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    projected = transformer(CRS, crs).transform(x, y)
    for array in projected:
        array.flags.writeable = False
    return projected


def native_zoom(resolution: float, latitude: float) -> int:
    """The zoom whose 256 px tiles come nearest to `resolution` metres at `latitude` degrees."""
    at_zero = 2 * math.pi * 6378137.0 / 256 * math.cos(math.radians(latitude))
    return max(0, min(MAX_ZOOM, round(math.log2(at_zero / resolution))))
