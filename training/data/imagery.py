"""The user's imagery: the files of a folder, and the header of each.

Only imagery that can be used for training is accepted: four bands of uint8 (or those that a run
names), north up, in a projected CRS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.windows import Window

from model.legend import LEGEND, Legend
from training.data.scenes import BANDS, Label, Scene
from training.errors import LabelError

SUFFIXES = frozenset({".tif", ".tiff", ".vrt"})
LABEL = "_label"

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Picture:
    """An image file. name: its path below the folder, without suffix. shape: rows, cols. crs None:
    its position is unknown.
    """

    path: Path
    name: str
    shape: tuple[int, int]
    crs: CRS | None
    transform: Affine
    nodata: float | None
    bands: int = BANDS

    @property
    def resolution(self) -> float:
        """Return ground meters per pixel."""
        factor = self.crs.axis_info[0].unit_conversion_factor if self.crs else 1.0
        return float(abs(self.transform.a) * factor)

    @property
    def year(self) -> str:
        """Return the year of a file name like NAIP's, `..._20170903` or `..._2017_...`; else ""."""
        result = re.findall(r"(?<!\d)((?:19|20)\d{2})(?:\d{4})?(?!\d)", self.path.stem)
        return result[-1] if result else ""

    @property
    def bounds(self) -> Bounds:
        """Return left, bottom, right, top in units of its CRS."""
        t, (rows, cols) = self.transform, self.shape
        return t.c, t.f + rows * t.e, t.c + cols * t.a, t.f

    @property
    def epsg(self) -> int | None:
        return self.crs.to_epsg() if self.crs else None

    def valid(self, image: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return bool (rows, cols), False where every band is 0 (collars) or nodata."""
        valid: NDArray[np.bool_] = np.any(image, axis=0)
        if self.nodata:
            valid &= (image != self.nodata).any(axis=0)
        return valid


def inspect_image(path: Path, name: str = "", bands: int = BANDS) -> Picture:
    """Read the header of an image. Raises LabelError naming why it cannot be used for training."""
    try:
        with rasterio.open(path) as source:
            _check(path, source, bands)
            return Picture(
                path,
                name or path.stem,
                source.shape,
                CRS.from_user_input(source.crs) if source.crs else None,
                source.transform,
                source.nodata,
                bands,
            )
    except rasterio.errors.RasterioError as error:
        raise LabelError(f"{path} cannot be read as an image: {error}") from error


def read_scene(
    picture: Picture, label: Label, *, name: str, place: str, year: str, legend: Legend = LEGEND
) -> Scene:
    """Read an image as a scene with a label, uint8 (rows, cols) on its pixels."""
    with rasterio.open(picture.path) as source:
        image = source.read(list(range(1, picture.bands + 1)))
    return Scene(
        name, place, year, image, label,
        resolution=picture.resolution, epsg=picture.epsg, transform=picture.transform,
        path=picture.path, legend=legend,
    )  # fmt: skip


def find(imagery: Path, bands: int = BANDS) -> list[Picture]:
    """Return the image `imagery`, or every image below that folder (no label rasters), by name.

    Raises LabelError where there is none, or one that cannot be used for training.
    """
    if imagery.is_file():
        return [inspect_image(imagery, bands=bands)]
    paths = sorted(p for p in imagery.rglob("*") if is_image(p)) if imagery.is_dir() else []
    if not paths:
        raise LabelError(f"no imagery ({', '.join(sorted(SUFFIXES))}) in {imagery}")
    names = [p.relative_to(imagery).with_suffix("").as_posix() for p in paths]
    return [inspect_image(p, name, bands) for p, name in zip(paths, names, strict=True)]


def is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in SUFFIXES and not path.stem.endswith(LABEL) and not hidden


def describe(pictures: Iterable[Picture]) -> str:
    """Return CRSs and extents of imagery, for messages."""
    result: dict[str, list[Bounds]] = {}
    for picture in pictures:
        result.setdefault(crs_name(picture.crs), []).append(picture.bounds)
    parts = []
    for name, boxes in result.items():
        left, bottom, right, top = zip(*boxes, strict=True)
        parts.append(f"{name} {extent((min(left), min(bottom), max(right), max(top)))}")
    return "; ".join(parts)


def crs_name(crs: CRS | None) -> str:
    if crs is None:
        return "no CRS"
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(crs.name)


def extent(bounds: Bounds) -> str:
    left, bottom, right, top = bounds
    return f"({left:.7g}…{right:.7g}, {bottom:.7g}…{top:.7g})"


def _check(path: Path, source: rasterio.DatasetReader, bands: int) -> None:
    if source.count < bands:
        raise LabelError(f"{path} has {source.count} bands, {bands} are needed")
    kinds = sorted(set(source.dtypes[:bands]))
    if kinds != ["uint8"]:
        nan = ""
        if kinds[0].startswith("float"):
            rows, cols = source.shape
            sample = source.read(1, window=Window(0, 0, min(cols, 1024), min(rows, 1024)))
            if missing := int(np.isnan(sample).sum()):
                nan = f" and NaN in {missing:,} of its first {sample.size:,} pixels"
        raise LabelError(
            f"{path} holds {', '.join(kinds)}{nan}; uint8 is needed (0..255 as NAIP is delivered): "
            "gdal_translate -ot Byte -scale LOW HIGH 1 255"
        )
    t = source.transform
    if t.b or t.d or t.e > 0:
        raise LabelError(f"{path} is rotated or upside down; north must be up")
    if source.crs and not source.crs.is_projected:
        raise LabelError(f"{path} is in {source.crs}, in degrees; a projected CRS is needed")
