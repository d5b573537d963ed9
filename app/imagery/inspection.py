"""From a file's header, or a catalog's word, to a scene: what can be served, and why not."""

from __future__ import annotations

import math
import re
from datetime import date
from functools import lru_cache
from pathlib import Path

import rasterio
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError

from app.imagery.scene import (
    Georeference,
    ImageHeader,
    ReadOptions,
    Scene,
    UnsupportedImage,
    grid_crs,
    ground_size,
    is_utm,
)

LONGEST = 3.0
"""A pixel more than this many times as long as wide is refused."""

COARSEST = 2.0
"""A scene coarser than this many work-grid pixels is refused: the model was not trained for it."""

_NAIP_DATE = re.compile(r"^m_\d{7}_(?:ne|nw|se|sw)_\d{1,2}_[0-9.h]+_(\d{4})(\d{2})(\d{2})", re.I)
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d{2})(?!\d)")


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


def inspect(path: Path, reading: ReadOptions, scene_id: str | None = None) -> Scene:
    """The scene in a local GeoTIFF; Refused with the reason when it cannot be served."""
    try:
        identity, length = identity_of(path), path.stat().st_size
        with rasterio.open(path, driver="GTiff") as dataset:
            return described(
                dataset,
                reading,
                scene_id or path.stem,
                href=str(path),
                identity=identity,
                length=length,
            )
    except OSError as error:
        raise UnsupportedImage(f"cannot be opened: {error.strerror or error}") from error
    except RasterioError as error:
        raise UnsupportedImage(f"is not a readable GeoTIFF: {error}") from error


def described(
    dataset: rasterio.DatasetReader,
    reading: ReadOptions,
    scene_id: str,
    *,
    href: str,
    identity: str,
    length: int,
) -> Scene:
    """The scene in an open file of `length` bytes; Refused when it cannot be served."""
    facts = ImageHeader(
        dataset.crs, dataset.transform, dataset.shape, dataset.dtypes, dataset.nodata
    )
    acquired = acquired_of(Path(href).stem) or _tagged_date(dataset)
    scene = scene_of(facts, reading, scene_id, href=href, identity=identity, acquired=acquired)
    _check_whole(dataset, max(scene.bands), length)
    return scene


def scene_of(
    facts: ImageHeader,
    reading: ReadOptions,
    scene_id: str,
    *,
    href: str,
    identity: str,
    acquired: str,
) -> Scene:
    """The scene of which this is known, no file opened; Refused when it cannot be served."""
    crs = rasterio.crs.CRS.from_user_input(facts.crs) if facts.crs else None
    if crs is None or facts.transform.is_identity:
        raise UnsupportedImage("has no CRS or no place in it: georeference it first")
    count = len(facts.dtypes)
    if count < max(reading.bands):
        raise UnsupportedImage(f"has {count} bands; red, green, blue and near infrared are needed")
    wrong = {facts.dtypes[band - 1] for band in reading.bands} - {"uint8"}
    if wrong:
        raise UnsupportedImage(f"is {', '.join(sorted(wrong))}; NAIP is uint8: rescale it first")
    named = _name_of(crs)
    affine, (rows, cols) = facts.transform, facts.shape
    if affine.determinant == 0:
        raise UnsupportedImage("has pixels of no size")
    upright = not affine.b and not affine.d and affine.a > 0 > affine.e
    try:
        if upright and is_utm(named):
            elsewhere, width, height = None, affine.a, -affine.e
        else:
            elsewhere = grid_crs(named, affine, facts.shape)
            width, height = ground_size(named, affine, cols / 2, rows / 2)
    except (ProjError, ValueError) as error:
        raise UnsupportedImage(f"lies outside of where {crs} is defined") from error
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise UnsupportedImage(f"lies outside of where {crs} is defined")
    if max(width / height, height / width) > LONGEST:
        raise UnsupportedImage(f"has pixels of {width:.3g} × {height:.3g} m, far from square")
    resolution = (affine.a - affine.e) / 2
    square = abs(affine.a + affine.e) <= 0.01 * abs(resolution)
    on_grid = elsewhere is None and upright and square
    if not on_grid:
        resolution = math.sqrt(width * height)
    needed = reading.ground_resolution
    if resolution > COARSEST * needed and not reading.force:
        raise UnsupportedImage(
            f"has pixels of {resolution:g} m; the model needs {needed:g} m, "
            f"at most {COARSEST * needed:g} m (`force = true` serves it all the same)"
        )
    native = None if on_grid else Georeference(named, tuple(affine)[:6], (rows, cols))
    nodata = reading.nodata if reading.nodata is not None else facts.nodata
    return Scene(
        id=scene_id,
        href=href,
        crs=elsewhere or named,
        bounds=(affine.c, affine.f + rows * affine.e, affine.c + cols * affine.a, affine.f)
        if native is None
        else native.bounds_in(elsewhere or named),
        resolution=float(resolution),
        acquired=acquired,
        nodata=float(nodata) if nodata is not None else 0.0,
        identity=identity,
        bands=reading.bands,
        resampling=reading.resampling,
        native=native,
    )


@lru_cache(maxsize=256)
def _name_of(crs: rasterio.crs.CRS) -> str:
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(crs.to_wkt())


def _check_whole(dataset: rasterio.DatasetReader, band: int, length: int) -> None:
    """Whether the last internal tile lies within the file: a truncated one opens well and ends
    early. Nothing is decoded: reading a tile of every file would make an index ten times slower."""
    rows, cols = dataset.block_shapes[band - 1]
    x, y = (dataset.width - 1) // cols, (dataset.height - 1) // rows
    offset, size = (
        dataset.get_tag_item(f"BLOCK_{what}_{x}_{y}", "TIFF", bidx=band)
        for what in ("OFFSET", "SIZE")
    )
    if offset is not None and size is not None and int(offset) + int(size) > length:
        raise UnsupportedImage(
            f"is truncated: it has {length:,} bytes and needs {int(offset) + int(size):,}"
        )


def _tagged_date(dataset: rasterio.DatasetReader) -> str:
    """Year and date from TIFFTAG_DATETIME (`2017:09:03 10:00:00`), or empty."""
    stamp = dataset.tags().get("TIFFTAG_DATETIME", "")
    match = re.match(r"(\d{4}):(\d{2}):(\d{2})", stamp)
    return "-".join(match.groups()) if match else ""
