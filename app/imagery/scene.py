"""A scene: one image, with everything that is known without reading its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from affine import Affine
from shapely.geometry import Polygon, box, mapping

from app.grid.classified import SceneRef
from app.grid.pixel_grid import LONLAT, NORTH, Bounds, PixelGrid, transformer
from model.windows import Window

if TYPE_CHECKING:
    from app.imagery.store.object_store import ObjectStore
from functools import lru_cache

from pyproj import CRS, Geod

Resampling = Literal["average", "bilinear", "nearest"]


class UnsupportedImage(Exception):
    """A file that cannot be served, with the reason; listed by `landcover doctor`."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the images of a source are read: what the operator says of them.

    `bands`: which bands of the file, from 1, are red, green, blue and near infrared. `nodata`: the
    value that is no data where all four bands have it; None: the file's own, else 0.
    `resampling`: how pixels finer than the grid's become one. `force`: serve images coarser than
    the model was trained for.
    """

    ground_resolution: float = 1.0
    bands: tuple[int, int, int, int] = (1, 2, 3, 4)
    nodata: float | None = None
    resampling: Resampling = "average"
    force: bool = False


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file's header, or a catalog's entry about it, says.

    `crs`: anything rasterio takes. `shape`: (rows, cols). `dtypes`: one for each band.
    """

    crs: object
    transform: Affine
    shape: tuple[int, int]
    dtypes: tuple[str, ...]
    nodata: float | None = None


@dataclass(frozen=True, slots=True)
class Georeference:
    """How an image lies that is not on its work grid. `transform`: the affine's a..f, pixel (col,
    row) → its own CRS; `shape`: (rows, cols)."""

    crs: str
    transform: tuple[float, ...]
    shape: tuple[int, int]

    def outline(self, target: str) -> Polygon:
        """The image's outline in another CRS, edges densified."""
        rows, cols = self.shape
        side = np.linspace(0, 1, 33)
        zeros, ones = np.zeros(32), np.ones(32)
        across = np.concatenate([side[:-1], ones, side[:0:-1], zeros]) * cols
        down = np.concatenate([zeros, side[:-1], ones, side[:0:-1]]) * rows
        a, b, c, d, e, f = self.transform
        x, y = a * across + b * down + c, d * across + e * down + f
        return Polygon(zip(*transformer(self.crs, target).transform(x, y), strict=True))

    def bounds_in(self, target: str) -> Bounds:
        """(left, bottom, right, top) around it in another CRS."""
        bounds: Bounds = self.outline(target).bounds
        return bounds


@dataclass(frozen=True, slots=True)
class Scene:
    """One image. `acquired` is ISO 8601 (`2017-09-03`, `2017` or empty when unknown).

    `href`: a local path, or the unsigned address. `identity`: what changes when the content does.
    `remote`: the way to it, None for a local file. `etag`: the entity tag every answer must have,
    when it is known beforehand; empty: that of the first answer. `crs`, `bounds`: on its work grid;
    `native`: how it lies in its file when that is something else.
    """

    id: str
    href: str
    crs: str
    bounds: Bounds
    resolution: float
    acquired: str
    nodata: float
    identity: str
    bands: tuple[int, int, int, int] = (1, 2, 3, 4)
    resampling: Resampling = "average"
    native: Georeference | None = None
    etag: str = field(default="", compare=False)
    remote: ObjectStore | None = field(default=None, compare=False, repr=False)

    @property
    def year(self) -> int:
        """Year of acquisition, 0 when unknown."""
        return int(self.acquired[:4] or 0)

    @property
    def ref(self) -> SceneRef:
        """The scene as it travels with a result."""
        return SceneRef(self.id, self.acquired)

    @property
    def key(self) -> str:
        """All of it that classes depend on: its content and how it is read."""
        bands = ",".join(map(str, self.bands))
        return f"{self.href} {self.identity} {bands} {self.nodata:g} {self.resampling}"

    def matches(self, grid: PixelGrid) -> bool:
        """Whether its pixels are as large as the grid's: then they are copied, not resampled."""
        return self.native is None and abs(self.resolution / grid.resolution - 1) < 1e-6

    def extent(self, grid: PixelGrid) -> Window | None:
        """The grid's pixels that lie wholly inside the image, or None.

        An image that matches the grid is its own pixels, moved as one by half a pixel at most. Of
        one that is not on the grid they are the rectangle around it, with no data in its corners.
        """
        if not self.matches(grid):
            return grid.inside(self.bounds)
        left, bottom, right, top = self.bounds
        col = math.floor(left / grid.resolution + 0.5)
        row = math.floor((NORTH - top) / grid.resolution + 0.5)
        cols, rows = (right - left) / self.resolution, (top - bottom) / self.resolution
        return Window(col, row, round(cols), round(rows))

    def footprint(self) -> Polygon:
        """The image's outline in degrees (longitude, latitude), edges densified."""
        if self.native is not None:
            return self.native.outline(LONLAT)
        outline = box(*self.bounds).segmentize(max(self.resolution, 500.0))
        x, y = zip(*outline.exterior.coords, strict=True)
        return Polygon(zip(*transformer(self.crs, LONLAT).transform(x, y), strict=True))

    def feature(self) -> dict[str, object]:
        """The footprint as a GeoJSON Feature."""
        properties = {
            "id": self.id,
            "date": self.acquired or None,
            "year": self.year or None,
            "resolution": round(self.resolution, 4),
        }
        return {"type": "Feature", "geometry": mapping(self.footprint()), "properties": properties}


TRUE_TO = 0.05
"""How far a projection's meters may be from those on the ground, as a share."""


_GEOD = Geod(ellps="WGS84")


@lru_cache(maxsize=256)
def is_utm(crs: str) -> bool:
    """Whether a CRS is a UTM zone, which is true to the meter wherever it is used."""
    return CRS.from_user_input(crs).utm_zone is not None


@lru_cache(maxsize=256)
def _is_in_meters(crs: str) -> bool:
    axes = CRS.from_user_input(crs)
    return axes.is_projected and all(
        abs(axis.unit_conversion_factor - 1) < 1e-9 for axis in axes.axis_info[:2]
    )


def ground_size(crs: str, affine: Affine, col: float, row: float) -> tuple[float, float]:
    """Meters on the ground of the pixel at (col, row): (width, height)."""
    to_degrees = transformer(crs, LONLAT).transform
    here, right, below = (
        to_degrees(*_at(affine, col + dx, row + dy)) for dx, dy in ((0, 0), (1, 0), (0, 1))
    )
    _, _, width = _GEOD.inv(*here, *right)
    _, _, height = _GEOD.inv(*here, *below)
    return float(width), float(height)


def grid_crs(crs: str, affine: Affine, shape: tuple[int, int]) -> str | None:
    """The CRS of the work grid when it is not the image's own, None when it is.

    Own: projected, in meters, and true within `TRUE_TO` at the image's center (Web Mercator at
    40° N says 1 m for 0.77 m). Else the WGS 84 UTM zone of the center.
    """
    rows, cols = shape
    if _is_in_meters(crs):
        width, height = ground_size(crs, affine, cols / 2, rows / 2)
        nominal = math.hypot(affine.a, affine.d), math.hypot(affine.b, affine.e)
        if all(
            abs(ground / named - 1) <= TRUE_TO
            for ground, named in zip((width, height), nominal, strict=True)
        ):
            return None
    longitude, latitude = transformer(crs, LONLAT).transform(*_at(affine, cols / 2, rows / 2))
    zone = int((longitude + 180) // 6) % 60 + 1
    return f"EPSG:{32600 if latitude >= 0 else 32700:d}"[:-2] + f"{zone:02d}"


def _at(affine: Affine, col: float, row: float) -> tuple[float, float]:
    return (
        affine.a * col + affine.b * row + affine.c,
        affine.d * col + affine.e * row + affine.f,
    )
