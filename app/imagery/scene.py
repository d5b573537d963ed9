"""A scene: one image, with everything that is known without reading its pixels.

It is a value, made from a file's header or a catalog's entry; what cannot be served is refused
here, with the reason.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

import numpy as np
import rasterio
from affine import Affine
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError
from shapely.geometry import Polygon, box, mapping

from app.errors import without_query
from app.grid.classified import SceneRef
from app.grid.pixel_grid import LONLAT, NORTH, Bounds, PixelGrid, transformer
from app.grid.work_crs import grid_crs, ground_size, is_utm, place
from model.windows import Window

Resampling = Literal["average", "bilinear", "nearest"]
Bands = tuple[int, ...]

REMOTE_SCHEMES = ("https", "http", "s3", "gs", "az", "abfs", "abfss")
NATURAL: Bands = (1, 2, 3, 4)
"""NAIP's order of bands: red, green, blue, near infrared."""
LONGEST = 3.0
"""A pixel more than this many times as long as wide is refused."""
COARSEST = 2.0
"""A scene coarser than this many work-grid pixels is refused: the model was not trained for it."""
FINEST_M = 0.002
"""A scene with pixels finer than this, meters, is refused: it would be smaller than a building."""
LARGEST_M = 10_000_000.0
"""Longest side of a scene, meters: beyond it no projection in meters is of use."""

_OVERVIEW_TILES = (128, 256, 512)
"""Edges of internal tiles that overviews may have whose image has others."""

_NAIP_DATE = re.compile(r"^m_\d{7}_(?:ne|nw|se|sw)_\d{1,2}_[0-9.h]+_(\d{4})(\d{2})(\d{2})", re.I)
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d{2})(?!\d)")


class UnsupportedImage(Exception):
    """A file that cannot be served, with the reason; listed by `landcover doctor`."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the images of a source are read: what the operator says of them.

    `bands`: which bands of the file, from 1, are those of the model (red, green, blue and near
    infrared); None: as the catalog says, else the first `count` of them. `nodata`: the value that
    is no data where all four bands have it; None: the file's own, else 0. `resampling`: how pixels
    finer than the grid's become one. `force`: serve images coarser than the model was trained for.
    """

    ground_resolution: float = 1.0
    bands: Bands | None = None
    nodata: float | None = None
    resampling: Resampling = "average"
    force: bool = False
    count: int = len(NATURAL)


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
        """Return the image's outline in another CRS, edges densified."""
        rows, cols = self.shape
        side = np.linspace(0, 1, 33)
        zeros, ones = np.zeros(32), np.ones(32)
        across = np.concatenate([side[:-1], ones, side[:0:-1], zeros]) * cols
        down = np.concatenate([zeros, side[:-1], ones, side[:0:-1]]) * rows
        x, y = place(Affine(*self.transform), across, down)
        return Polygon(zip(*transformer(self.crs, target).transform(x, y), strict=True))


@dataclass(frozen=True, slots=True)
class Scene:
    """One image. `acquired` is ISO 8601 (`2017-09-03`, `2017` or empty when unknown).

    `href`: a local path, or the unsigned address. `identity`: what changes when the content does.
    `store`: the source whose object store reads it, empty for a local file. `etag`: the entity tag
    every answer must have, when it is known beforehand; empty: that of the first answer. `crs`,
    `bounds`: on its work grid; `native`: how it lies in its file when that is something else.
    """

    id: str
    href: str
    crs: str
    bounds: Bounds
    resolution: float
    acquired: str
    nodata: float
    identity: str
    bands: Bands = NATURAL
    resampling: Resampling = "average"
    native: Georeference | None = None
    etag: str = field(default="", compare=False)
    store: str = field(default="", compare=False)

    @property
    def year(self) -> int:
        """The year of acquisition, 0 when unknown."""
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
        """Return whether its pixels are as large as the grid's: then they are copied."""
        return self.native is None and abs(self.resolution / grid.resolution - 1) < 1e-6

    def extent(self, grid: PixelGrid) -> Window | None:
        """Return the grid's pixels that lie wholly inside the image, or None.

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
        """Return the image's outline in degrees (longitude, latitude), edges densified."""
        if self.native is not None:
            return self.native.outline(LONLAT)
        outline = box(*self.bounds).segmentize(max(self.resolution, 500.0))
        x, y = zip(*outline.exterior.coords, strict=True)
        return Polygon(zip(*transformer(self.crs, LONLAT).transform(x, y), strict=True))

    def feature(self) -> dict[str, object]:
        """Return the footprint as a GeoJSON Feature."""
        properties = {
            "id": self.id,
            "date": self.acquired or None,
            "year": self.year or None,
            "resolution": round(self.resolution, 4),
        }
        return {"type": "Feature", "geometry": mapping(self.footprint()), "properties": properties}


def identity_of(path: Path) -> str:
    """Return what changes when a local file's content does: size and modification time, of a mask
    beside it too."""
    stats = [each.stat() for each in (path, mask_beside(path)) if each is not None]
    return " ".join(f"{stat.st_size}-{stat.st_mtime_ns}" for stat in stats)


def mask_beside(path: Path) -> Path | None:
    """Return the file beside a local image that holds its mask (GDAL's `.msk`), if there is one."""
    mask = path.with_name(f"{path.name}.msk")
    return mask if mask.is_file() else None


def name_of(href: str) -> str:
    """Return a file's name without folder, suffix and query: what people call the scene."""
    return printable(PurePosixPath(urlsplit(href).path).stem or without_query(href))


def printable(text: str) -> str:
    """Return a text without what a line, a header or UTF-8 cannot hold, spelled out instead: a
    file's name may be any bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def local_path(href: str) -> Path:
    """Return the path that a local href means: a path, a file:// address, or a path relative to a
    document, in which a space may be written `%20`."""
    if href.startswith("file://"):
        return Path(unquote(urlsplit(href).path))
    path = Path(href)
    return path if "%" not in href or path.exists() else Path(unquote(href))


def acquired_of(name: str) -> str:
    """Return the date in a NAIP file name (`m_3208601_nw_16_1_20170903`), else a year in it, else
    an empty string."""
    match = _NAIP_DATE.match(name)
    if match:
        try:
            return date(*map(int, match.groups())).isoformat()
        except ValueError:
            return match.group(1)
    years = _YEAR.findall(name)
    return years[-1] if years else ""


def inspect(path: Path, reading: ReadOptions, scene_id: str | None = None) -> Scene:
    """Return the scene in a local GeoTIFF; UnsupportedImage with the reason why not."""
    _check_file(path)
    try:
        identity, length = identity_of(path), path.stat().st_size
        with rasterio.open(path, driver="GTiff") as dataset:
            name = scene_id or printable(path.stem)
            scene = scene_in(dataset, reading, name, str(path), identity, length)
            _check_mask(path, dataset.shape)
            return scene
    except OSError as error:
        raise UnsupportedImage(f"cannot be opened: {error.strerror or error}") from error
    except RasterioError as error:
        raise UnsupportedImage(f"is not a readable GeoTIFF: {error}") from error


def _check_file(path: Path) -> None:
    """Raise UnsupportedImage for what must not even be opened: a pipe would be waited for."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UnsupportedImage("has a name that is not UTF-8: rename it") from error
    if path.exists() and not path.is_file():
        raise UnsupportedImage("is no file, but a folder, a pipe or a device")


def scene_in(
    dataset: rasterio.DatasetReader,
    reading: ReadOptions,
    scene_id: str,
    href: str,
    identity: str,
    length: int,
) -> Scene:
    """Return the scene in an open file of `length` bytes; UnsupportedImage when it cannot be
    served."""
    header = ImageHeader(
        dataset.crs, dataset.transform, dataset.shape, dataset.dtypes, dataset.nodata
    )
    acquired = acquired_of(Path(href).stem) or _tagged_date(dataset)
    scene = scene_of(header, reading, scene_id, href=href, identity=identity, acquired=acquired)
    _check_complete(dataset, scene.bands, length)
    return scene


def scene_of(
    header: ImageHeader,
    reading: ReadOptions,
    scene_id: str,
    *,
    href: str,
    identity: str,
    acquired: str,
) -> Scene:
    """Return the scene with that header, no file opened; UnsupportedImage when it cannot be
    served."""
    crs = rasterio.crs.CRS.from_user_input(header.crs) if header.crs else None
    affine, (rows, cols) = header.transform, header.shape
    if crs is None or affine.is_identity:
        raise UnsupportedImage("has no CRS or no place in it: georeference it first")
    bands = reading.bands or tuple(range(1, reading.count + 1))
    _check_bands(header, bands)
    if affine.determinant == 0:
        raise UnsupportedImage("has pixels of no size")
    named = _crs_name(crs)
    upright = not affine.b and not affine.d and affine.a > 0 > affine.e
    try:
        if upright and is_utm(named):
            elsewhere, width, height = None, affine.a, -affine.e
        else:
            elsewhere = grid_crs(named, affine, header.shape)
            width, height = ground_size(named, affine, cols / 2, rows / 2)
    except (ProjError, ValueError, OverflowError) as error:
        raise UnsupportedImage(f"lies outside of where {crs} is defined") from error
    if not (width > 0 and height > 0 and max(width * cols, height * rows) < LARGEST_M):
        raise UnsupportedImage(f"lies outside of where {crs} is defined")
    if max(width / height, height / width) > LONGEST:
        raise UnsupportedImage(f"has pixels of {width:.3g} × {height:.3g} m, far from square")
    resolution = (affine.a - affine.e) / 2
    # Read by one resolution, no pixel may end up half of one away from where it lies.
    square = abs(affine.a + affine.e) * max(rows, cols) <= abs(resolution)
    native = None
    if elsewhere is not None or not upright or not square:
        resolution = math.sqrt(width * height)
        native = Georeference(named, tuple(affine)[:6], (rows, cols))
    if resolution < FINEST_M:
        raise UnsupportedImage(
            f"has pixels of {resolution:.3g} m in {named[:60]}: are its coordinates degrees?"
        )
    limit = COARSEST * reading.ground_resolution
    if resolution > limit and not reading.force:
        raise UnsupportedImage(
            f"has pixels of {resolution:g} m; the model needs {reading.ground_resolution:g} m, "
            f"at most {limit:g} m (`force = true` serves it all the same)"
        )
    if native is None:
        bounds = (affine.c, affine.f + rows * affine.e, affine.c + cols * affine.a, affine.f)
    else:
        bounds = native.outline(elsewhere or named).bounds
    _check_place(elsewhere or named, bounds)
    return Scene(
        id=scene_id,
        href=href,
        crs=elsewhere or named,
        bounds=bounds,
        resolution=float(resolution),
        acquired=acquired,
        nodata=float(reading.nodata if reading.nodata is not None else _uint8(header.nodata)),
        identity=identity,
        bands=bands,
        resampling=reading.resampling,
        native=native,
    )


@lru_cache(maxsize=256)
def _crs_name(crs: rasterio.crs.CRS) -> str:
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(crs.to_wkt())


def _uint8(nodata: float | None) -> float:
    """Return nodata as a pixel may have it: 0 where the header says what no pixel can be."""
    return nodata if nodata is not None and nodata in range(256) else 0.0


def _check_place(crs: str, bounds: Bounds) -> None:
    left, bottom, right, top = bounds
    corners = transformer(crs, LONLAT).transform((left, left, right, right), (bottom, top) * 2)
    if not all(math.isfinite(value) for axis in corners for value in axis):
        raise UnsupportedImage(f"lies outside of where {crs} is defined")


def _check_bands(header: ImageHeader, bands: Bands) -> None:
    count = len(header.dtypes)
    if count < max(bands):
        usual = len(bands) == len(NATURAL)
        needed = "red, green, blue and near infrared" if usual else f"{max(bands)} bands"
        raise UnsupportedImage(f"has {count} bands; {needed} are needed")
    wrong = {header.dtypes[band - 1] for band in bands} - {"uint8"}
    if wrong:
        raise UnsupportedImage(f"is {', '.join(sorted(wrong))}; NAIP is uint8: rescale it first")


def _check_complete(dataset: rasterio.DatasetReader, bands: Bands, length: int) -> None:
    """Raise UnsupportedImage when the last internal tile of the image or an overview ends beyond
    the file: a truncated file opens well. Nothing is decoded: that would make an index ten times
    slower."""
    needs = max(
        _end_of_last_tile(dataset, band, level)
        for band in bands
        for level in (None, *range(len(dataset.overviews(band))))
    )
    if needs > length:
        raise UnsupportedImage(f"is truncated: it has {length:,} bytes and needs {needs:,}")


def _end_of_last_tile(dataset: rasterio.DatasetReader, band: int, level: int | None) -> int:
    """Return the position in the file, 0 when it is not known. `level`: None, or an overview, whose
    tiles may be of another size than the image's."""
    rows, cols = dataset.block_shapes[band - 1]
    sizes, factor = [(rows, cols)], 1
    if level is not None:
        sizes += [(edge, edge) for edge in _OVERVIEW_TILES]
        factor = dataset.overviews(band)[level]
    height, width = -(-dataset.height // factor), -(-dataset.width // factor)
    ends = [0]
    for rows, cols in sizes:
        place = f"{(width - 1) // cols}_{(height - 1) // rows}"
        offset, size = (
            dataset.get_tag_item(f"BLOCK_{what}_{place}", "TIFF", bidx=band, ovr=level)
            for what in ("OFFSET", "SIZE")
        )
        if offset is not None and size is not None:
            ends.append(int(offset) + int(size))
    return max(ends)


def _check_mask(path: Path, shape: tuple[int, int]) -> None:
    """Raise UnsupportedImage when there is a mask beside an image that is none of the whole of
    it."""
    mask = mask_beside(path)
    if mask is None:
        return
    try:
        with rasterio.open(mask, driver="GTiff") as dataset:
            whole = dataset.count == 1 and dataset.shape == shape
    except RasterioError as error:
        raise UnsupportedImage(f"has a mask that cannot be read: {mask.name}") from error
    if not whole:
        raise UnsupportedImage(f"has a mask that is not one of all its pixels: {mask.name}")


def _tagged_date(dataset: rasterio.DatasetReader) -> str:
    """Return the day in TIFFTAG_DATETIME (`2017:09:03 10:00:00`), or an empty string."""
    match = re.match(r"(\d{4}):(\d{2}):(\d{2})", dataset.tags().get("TIFFTAG_DATETIME", ""))
    return "-".join(match.groups()) if match else ""
