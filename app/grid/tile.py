"""A tile: an XYZ address, and the window of a Web Mercator pixel grid that its image is.

OGC TileMatrixSet WebMercatorQuad (17-083r2 annex D.1); x counts east, y counts south.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import morecantile

from app.errors import InvalidRequest
from app.grid.pixel_grid import LONLAT, Bounds, PixelGrid, bounds_between
from model.windows import Window

TMS = morecantile.tms.get("WebMercatorQuad")
TMS_NAMES = (str(TMS.id), "GoogleMapsCompatible", "WholeWorld_WebMercator")
"""Names under which clients request the one tile matrix set served."""

CRS = "EPSG:3857"
MAX_ZOOM = 24
SIZES = (256, 512, 1024)
"""Tile edges in pixels: 256 and 512, and 512@2x."""

_RADIUS = 6378137.0
_HALF = math.pi * _RADIUS


class View(Protocol):
    """Pixels of a grid that are composed at once: a tile, or a picture of any ground.

    `z`: the zoom whose pixels are as large on the ground; `ground_resolution`: meters per pixel.
    """

    @property
    def z(self) -> int: ...
    @property
    def grid(self) -> PixelGrid: ...
    @property
    def window(self) -> Window: ...
    @property
    def bounds(self) -> Bounds: ...
    @property
    def lonlat_bounds(self) -> Bounds: ...
    @property
    def ground_resolution(self) -> float: ...


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
    def grid(self) -> PixelGrid:
        """Return the Web Mercator pixels of the tile's zoom and size."""
        return PixelGrid(CRS, 2 * _HALF / (self.size << self.z), _HALF)

    @property
    def window(self) -> Window:
        """Return the tile's pixels in its grid, whose column 0 begins at longitude 0."""
        west = (self.size << self.z) // 2
        return Window(self.x * self.size - west, self.y * self.size, self.size, self.size)

    @property
    def bounds(self) -> Bounds:
        """Return (left, bottom, right, top) in EPSG:3857."""
        return self.grid.bounds(self.window)

    @property
    def lonlat_bounds(self) -> Bounds:
        """Return (west, south, east, north) in degrees."""
        return bounds_between(CRS, LONLAT, self.bounds)

    @property
    def ground_resolution(self) -> float:
        """Return the meters on the ground per pixel at the tile's center."""
        _, bottom, _, top = self.bounds
        latitude = math.atan(math.sinh((bottom + top) / 2 / _RADIUS))
        return self.grid.resolution * math.cos(latitude)


def native_zoom(resolution: float, latitude: float) -> int:
    """Return the zoom whose 256 px tiles come nearest to `resolution` meters at a latitude."""
    at_zero = 2 * _HALF / 256 * math.cos(math.radians(latitude))
    return max(0, min(MAX_ZOOM, round(math.log2(at_zero / resolution))))
