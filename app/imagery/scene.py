"""A scene: one image, with everything that is known without reading its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from affine import Affine
from shapely.geometry import Polygon, box, mapping

from app.classified import SceneRef
from app.grid import NORTH, Bounds, WorkGrid, transformer
from model.windows import Window

if TYPE_CHECKING:
    from app.imagery.remote import Remote

Resampling = Literal["average", "bilinear", "nearest"]


class Refused(Exception):
    """A file that cannot be served, with the reason; listed by `landcover doctor`."""


@dataclass(frozen=True, slots=True)
class Reading:
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
class Facts:
    """What a file's header, or a catalog's entry about it, says.

    `crs`: anything rasterio takes. `shape`: (rows, cols). `dtypes`: one for each band.
    """

    crs: object
    transform: Affine
    shape: tuple[int, int]
    dtypes: tuple[str, ...]
    nodata: float | None = None


@dataclass(frozen=True, slots=True)
class Native:
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
    native: Native | None = None
    etag: str = field(default="", compare=False)
    remote: Remote | None = field(default=None, compare=False, repr=False)

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

    def matches(self, grid: WorkGrid) -> bool:
        """Whether its pixels are as large as the grid's: then they are copied, not resampled."""
        return self.native is None and abs(self.resolution / grid.resolution - 1) < 1e-6

    def extent(self, grid: WorkGrid) -> Window | None:
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
            return self.native.outline("OGC:CRS84")
        outline = box(*self.bounds).segmentize(max(self.resolution, 500.0))
        x, y = zip(*outline.exterior.coords, strict=True)
        return Polygon(zip(*transformer(self.crs, "OGC:CRS84").transform(x, y), strict=True))

    def feature(self) -> dict[str, object]:
        """The footprint as a GeoJSON Feature."""
        properties = {
            "id": self.id,
            "date": self.acquired or None,
            "year": self.year or None,
            "resolution": round(self.resolution, 4),
        }
        return {"type": "Feature", "geometry": mapping(self.footprint()), "properties": properties}
