"""NAIP-like GeoTIFFs of the made ground, and files that only look like them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning

from tests.world.ground import centers, class_at, ground

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class SyntheticScene:
    """A scene that was written, and what it shows. `left`, `top`: upper-left corner, meters."""

    path: Path
    epsg: int
    left: float
    top: float
    cols: int
    rows: int
    resolution: float = 1.0
    year: int = 2017
    collar: int = 0
    skew: int = 0

    @property
    def bounds(self) -> Bounds:
        """(left, bottom, right, top) in meters of its CRS."""
        right = self.left + self.cols * self.resolution
        return self.left, self.top - self.rows * self.resolution, right, self.top

    @property
    def lonlat(self) -> tuple[float, float]:
        """Longitude and latitude of its center."""
        left, bottom, right, top = self.bounds
        return lonlat(self.epsg, (left + right) / 2, (bottom + top) / 2)

    def valid(self) -> npt.NDArray[np.bool_]:
        """bool (rows, cols), True = data: all but the collar."""
        return without_collar(self.cols, self.rows, self.collar, self.skew)

    def image(self) -> npt.NDArray[np.uint8]:
        """uint8 (4, rows, cols), the pixels it holds; 0 in the collar. Read-only."""
        return _image(self)

    def classes(self) -> npt.NDArray[np.uint8]:
        """uint8 (rows, cols), the true classes; 255 in the collar."""
        x, y = centers(self.left, self.top, self.cols, self.rows, self.resolution)
        return np.where(self.valid(), class_at(x, y, self.year), 255).astype(np.uint8)


@lru_cache(maxsize=8)
def _image(scene: SyntheticScene) -> npt.NDArray[np.uint8]:
    x, y = centers(scene.left, scene.top, scene.cols, scene.rows, scene.resolution)
    image = ground(x, y, scene.year) * scene.valid()
    image.setflags(write=False)
    return image


def lonlat(epsg: int, x: float, y: float) -> tuple[float, float]:
    """Degrees of a point in meters of a CRS."""
    longitude, latitude = Transformer.from_crs(epsg, 4326, always_xy=True).transform(x, y)
    return float(longitude), float(latitude)


def without_collar(cols: int, rows: int, collar: int, skew: int = 0) -> npt.NDArray[np.bool_]:
    """bool (rows, cols): False within `collar` pixels of the border.

    `skew` turns the data like a quarter quad within its UTM rectangle: each side of the collar
    grows by that many pixels along its length.
    """
    row, col = np.ogrid[:rows, :cols]
    tall, wide = max(rows - 1, 1), max(cols - 1, 1)
    inside: npt.NDArray[np.bool_] = (
        ((col - collar) * tall >= skew * row)
        & ((cols - 1 - col - collar) * tall >= skew * (rows - 1 - row))
        & ((row - collar) * wide >= skew * (cols - 1 - col))
        & ((rows - 1 - row - collar) * wide >= skew * col)
    )
    return inside


def write_scene(
    path: Path,
    *,
    epsg: int | None = 26916,
    origin: tuple[float, float] = (502_700.0, 3_648_600.0),
    cols: int = 1500,
    rows: int = 1200,
    resolution: float = 1.0,
    year: int = 2017,
    alpha_band4: bool = False,
    collar: int = 0,
    skew: int = 0,
    overviews: bool = True,
    blocksize: int = 256,
    bands: int = 4,
    dtype: str = "uint8",
    nodata: float | None = None,
    compress: str | None = "deflate",
) -> SyntheticScene:
    """Writes the made ground as a tiled GeoTIFF, pixel-interleaved as NAIP is.

    `origin`: x, y of the upper-left corner. `alpha_band4`: the fourth band is tagged alpha, as in
    both public copies of NAIP. `epsg` None: no georeference. Collar pixels are 0 in every band.
    """
    scene = SyntheticScene(path, epsg or 0, *origin, cols, rows, resolution, year, collar, skew)
    image = scene.image()
    image = image[:bands] if bands <= 4 else np.concatenate([image, image[: bands - 4]])
    profile = {
        "driver": "GTiff",
        "width": cols,
        "height": rows,
        "count": bands,
        "dtype": dtype,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": blocksize,
        "blockysize": blocksize,
        "interleave": "pixel",
        "photometric": "RGB" if bands >= 3 else "MINISBLACK",
        "compress": compress,
    }
    if compress == "deflate":
        profile["zlevel"] = 1
    if bands == 4:
        profile["alpha"] = "YES" if alpha_band4 else "NO"
    if epsg is not None:
        profile["crs"] = f"EPSG:{epsg}"
        profile["transform"] = Affine(resolution, 0, origin[0], 0, -resolution, origin[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        if epsg is None:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", **{k: v for k, v in profile.items() if v is not None}
        ) as file:
            file.write(image.astype(dtype) * (40 if dtype == "uint16" else 1))
            if bands == 4:
                fourth = ColorInterp.alpha if alpha_band4 else ColorInterp.undefined
                file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, fourth)
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4, 8], Resampling.average)
    return scene


BAD_FILES = (
    "three_band",
    "uint16",
    "ungeoreferenced",
    "truncated",
    "vrt",
    "empty",
    "text",
)
"""What `write_bad_file` can write."""


def write_bad_file(path: Path, kind: str) -> Path:
    """A file named like a scene that must be refused; `kind` is one of `BAD_FILES`.

    `vrt` is a VRT under this name that shows a good scene, `<stem>.dat` beside it.
    """
    if kind == "three_band":
        _small(path, bands=3)
    elif kind == "uint16":
        _small(path, dtype="uint16")
    elif kind == "ungeoreferenced":
        _small(path, epsg=None)
    elif kind == "truncated":
        _small(path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 3 // 5])
    elif kind == "vrt":
        good = _small(path.with_suffix(".dat"))
        path.write_text(_vrt(good))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("This is not the image you are looking for.\n" * 100)
    else:
        raise ValueError(f"kind must be one of {BAD_FILES}, got {kind!r}")
    return path


def _small(
    path: Path, *, epsg: int | None = 26916, bands: int = 4, dtype: str = "uint8"
) -> SyntheticScene:
    return write_scene(
        path, epsg=epsg, bands=bands, dtype=dtype, cols=300, rows=260, overviews=False
    )


def _vrt(scene: SyntheticScene) -> str:
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{scene.path}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in range(1, 5)
    )
    return (
        f'<VRTDataset rasterXSize="{scene.cols}" rasterYSize="{scene.rows}">'
        f"<SRS>EPSG:{scene.epsg}</SRS>"
        f"<GeoTransform>{scene.left}, 1, 0, {scene.top}, 0, -1</GeoTransform>{bands}</VRTDataset>"
    )
