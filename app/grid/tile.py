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
from app.grid.pixel_grid import LONLAT, NORTH, Bounds, Cells, PixelGrid, bounds_between, transformer

TMS = morecantile.tms.get("WebMercatorQuad")
TMS_NAMES = ("WebMercatorQuad", "GoogleMapsCompatible", "WholeWorld_WebMercator")
"""Names under which clients ask for the one tile matrix set served."""

CRS = "EPSG:3857"
MAX_ZOOM = 24
SIZES = (256, 512, 1024)
"""Tile edges in pixels: 256 and 512, and 512@2x."""

_EVERY = 16
_SAFETY = 4

Meters = npt.NDArray[np.float64]


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
        return bounds_between(CRS, LONLAT, self.bounds)

    @property
    def ground_resolution(self) -> float:
        """Meters on the ground per pixel at the tile's center."""
        left, bottom, right, top = self.bounds
        latitude = math.atan(math.sinh((bottom + top) / 2 / 6378137.0))
        return (right - left) / self.size * math.cos(latitude)

    def centers(self) -> tuple[Meters, Meters]:
        """x (size,) and y (size,) of the pixel centers in EPSG:3857, y descending."""
        left, bottom, right, top = self.bounds
        steps = (np.arange(self.size) + 0.5) / self.size
        return left + steps * (right - left), top - steps * (top - bottom)

    def project(self, crs: str) -> Projected:
        """Where the pixel centers lie in `crs`, row 0 in the north; interpolated, read-only."""
        return _project(self, crs)

    def cells(self, grid: PixelGrid) -> tuple[Cells, Cells]:
        """(cols, rows), each int64 (size, size): the grid pixel that holds each pixel's center.

        Exact: where interpolation might choose the neighbor, the center is projected itself.
        """
        placed = _project(self, grid.crs)
        cols, rows = grid.cells(placed.x, placed.y)
        near = placed.error / grid.resolution
        doubtful = _near_an_edge(placed.x / grid.resolution, near)
        doubtful |= _near_an_edge((NORTH - placed.y) / grid.resolution, near)
        row, col = np.nonzero(doubtful)
        if row.size:
            x, y = self.centers()
            east, north = transformer(CRS, grid.crs).transform(x[col], y[row])
            exact = grid.cells(np.asarray(east), np.asarray(north))
            cols[row, col], rows[row, col] = exact
        return cols, rows


@dataclass(frozen=True, slots=True)
class Projected:
    """`x`, `y`: float64 (size, size) in a CRS; `error`: how far they may be off, same unit."""

    x: Meters
    y: Meters
    error: float


@lru_cache(maxsize=16)
def _project(tile: Tile, crs: str) -> Projected:
    """Bilinear between points every 16 pixels: PROJ takes 12 ms for the pixels of one tile.

    Its error is measured half-way between the points, along both axes: a conformal projection is
    harmonic, so that in the middle of a cell the errors of the two axes cancel.
    """
    left, bottom, right, top = tile.bounds
    steps = np.linspace(0, 1, tile.size // _EVERY + 1)
    across, down = np.meshgrid(left + steps * (right - left), top - steps * (top - bottom))
    forward = transformer(CRS, crs).transform
    x, y = (np.asarray(values) for values in forward(across, down))
    error = 0.0
    for halfway in (_between_columns, _between_rows):
        exact_x, exact_y = forward(halfway(across), halfway(down))
        for knots, exact in ((x, exact_x), (y, exact_y)):
            error = max(error, float(np.abs(halfway(knots) - exact).max()))
    placed = [_spread(knot, tile.size) for knot in (x, y)]
    for array in placed:
        array.flags.writeable = False
    return Projected(placed[0], placed[1], _SAFETY * error + 1e-6)


def _between_columns(knots: Meters) -> Meters:
    return np.asarray((knots[:, 1:] + knots[:, :-1]) / 2)


def _between_rows(knots: Meters) -> Meters:
    return np.asarray((knots[1:] + knots[:-1]) / 2)


def _spread(knots: Meters, size: int) -> Meters:
    """(size, size) from the knots; by hand, as a matrix product would wake BLAS's threads."""
    position = (np.arange(size) + 0.5) / _EVERY
    knot = position.astype(np.intp)
    after = position - knot
    along = knots[:, knot] * (1 - after) + knots[:, knot + 1] * after
    return np.asarray(along[knot] * (1 - after[:, None]) + along[knot + 1] * after[:, None])


def _near_an_edge(pixels: Meters, tolerance: float) -> npt.NDArray[np.bool_]:
    near: npt.NDArray[np.bool_] = np.abs(pixels - np.rint(pixels)) <= tolerance
    return near


def native_zoom(resolution: float, latitude: float) -> int:
    """The zoom whose 256 px tiles come nearest to `resolution` meters at `latitude` degrees."""
    at_zero = 2 * math.pi * 6378137.0 / 256 * math.cos(math.radians(latitude))
    return max(0, min(MAX_ZOOM, round(math.log2(at_zero / resolution))))
