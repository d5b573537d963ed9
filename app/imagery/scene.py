"""A scene: one NAIP image, with everything that is known without reading its pixels."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError
from shapely.geometry import Polygon, box, mapping

from app.classified import SceneRef
from app.grid import NORTH, Bounds, WorkGrid, transformer
from model.windows import Window

BANDS = 4
COARSEST = 2.0
"""A scene coarser than this many work-grid pixels is refused: the model was not trained for it."""

_NAIP_DATE = re.compile(r"^m_\d{7}_(?:ne|nw|se|sw)_\d{1,2}_[0-9.h]+_(\d{4})(\d{2})(\d{2})", re.I)
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d{2})(?!\d)")


class Refused(Exception):
    """A file that cannot be served, with the reason; listed by `landcover doctor`."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One image. `acquired` is ISO 8601 (`2017-09-03`, `2017` or empty when unknown)."""

    id: str
    href: str
    crs: str
    bounds: Bounds
    resolution: float
    acquired: str
    nodata: float
    identity: str

    @property
    def year(self) -> int:
        """Year of acquisition, 0 when unknown."""
        return int(self.acquired[:4] or 0)

    @property
    def ref(self) -> SceneRef:
        """The scene as it travels with a result."""
        return SceneRef(self.id, self.acquired)

    def matches(self, grid: WorkGrid) -> bool:
        """Whether its pixels are as large as the grid's: then they are copied, not resampled."""
        return abs(self.resolution / grid.resolution - 1) < 1e-6

    def extent(self, grid: WorkGrid) -> Window | None:
        """The grid's pixels that lie wholly inside the image, or None.

        An image that matches the grid is its own pixels, moved as one by half a pixel at most.
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


def identity_of(path: Path) -> str:
    """What changes when a local file's content does: size and modification time."""
    stat = path.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def acquired_of(name: str) -> str:
    """Date in a NAIP file name (`m_3208601_nw_16_1_20170903`), else a year in it, else empty."""
    match = _NAIP_DATE.match(name)
    if match:
        try:
            return date(*map(int, match.groups())).isoformat()
        except ValueError:
            return match.group(1)
    years = _YEAR.findall(name)
    return years[-1] if years else ""


def inspect(path: Path, ground_resolution: float, scene_id: str | None = None) -> Scene:
    """The scene in a local GeoTIFF; Refused with the reason when it cannot be served."""
    try:
        identity = identity_of(path)
        with rasterio.open(path, driver="GTiff") as dataset:
            return _describe(dataset, path, identity, ground_resolution, scene_id or path.stem)
    except OSError as error:
        raise Refused(f"cannot be opened: {error.strerror or error}") from error
    except RasterioError as error:
        raise Refused(f"is not a readable GeoTIFF: {error}") from error


def _describe(
    dataset: rasterio.DatasetReader,
    path: Path,
    identity: str,
    ground_resolution: float,
    scene_id: str,
) -> Scene:
    if dataset.crs is None or dataset.transform.is_identity:
        raise Refused("has no CRS or no place in it: georeference it first")
    if dataset.count < BANDS:
        raise Refused(f"has {dataset.count} bands; red, green, blue and near infrared are needed")
    wrong = {dtype for dtype in dataset.dtypes[:BANDS] if dtype != "uint8"}
    if wrong:
        raise Refused(f"is {', '.join(sorted(wrong))}; NAIP is uint8: rescale it first")
    affine = dataset.transform
    if affine.b or affine.d or affine.a <= 0 or affine.e >= 0:
        raise Refused("is rotated or not north-up")
    if not dataset.crs.is_projected or abs(dataset.crs.linear_units_factor[1] - 1) > 1e-9:
        raise Refused(f"is in {dataset.crs}, which is not projected in metres")
    resolution = (affine.a - affine.e) / 2
    if abs(affine.a + affine.e) > 0.01 * resolution:
        raise Refused(f"has pixels of {affine.a:g} × {-affine.e:g} m, square ones are needed")
    if resolution > COARSEST * ground_resolution:
        raise Refused(
            f"has pixels of {resolution:g} m; the model needs {ground_resolution:g} m, "
            f"at most {COARSEST * ground_resolution:g} m"
        )
    _check_readable(dataset)
    epsg = dataset.crs.to_epsg()
    return Scene(
        id=scene_id,
        href=str(path),
        crs=f"EPSG:{epsg}" if epsg else dataset.crs.to_wkt(),
        bounds=tuple(dataset.bounds),
        resolution=float(resolution),
        acquired=acquired_of(path.stem) or _tagged_date(dataset),
        nodata=float(dataset.nodata) if dataset.nodata is not None else 0.0,
        identity=identity,
    )


def _check_readable(dataset: rasterio.DatasetReader) -> None:
    """Reads the last pixel: a truncated file opens well and ends early."""
    last = rasterio.windows.Window(dataset.width - 1, dataset.height - 1, 1, 1)
    try:
        dataset.read(indexes=(1, BANDS), window=last)
    except RasterioError as error:
        raise Refused(f"is truncated or corrupt: {error}") from error


def _tagged_date(dataset: rasterio.DatasetReader) -> str:
    """Year and date from TIFFTAG_DATETIME (`2017:09:03 10:00:00`), or empty."""
    stamp = dataset.tags().get("TIFFTAG_DATETIME", "")
    match = re.match(r"(\d{4}):(\d{2}):(\d{2})", stamp)
    return "-".join(match.groups()) if match else ""
