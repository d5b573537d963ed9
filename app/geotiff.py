"""Class rasters as GeoTIFF: uint8, nodata 255, colour table, class names, provenance."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.io import MemoryFile
from rasterio.shutil import copy as raster_copy
from rasterio.windows import Window as RasterWindow

from app.classified import SceneRef
from app.grid import Bounds, WorkGrid
from model.card import ModelCard
from model.legend import NODATA, Rgb
from model.windows import BLOCK, Window

Colours = Sequence[tuple[int, Rgb]]
"""(value, (red, green, blue)) of every class that is drawn."""

CREATION = {
    "driver": "GTiff",
    "count": 1,
    "dtype": "uint8",
    "nodata": NODATA,
    "compress": "deflate",
}


def tile_tif(
    array: npt.NDArray[np.uint8], colours: Colours, bounds: Bounds, crs: str, card: ModelCard
) -> bytes:
    """uint8 (rows, cols) that shows `bounds` of `crs`, as the bytes of a GeoTIFF."""
    rows, cols = array.shape
    left, bottom, right, top = bounds
    affine = Affine((right - left) / cols, 0, left, 0, (bottom - top) / rows, top)
    with MemoryFile() as memory:
        size = {"width": cols, "height": rows, "tiled": True, "blockxsize": 256, "blockysize": 256}
        with memory.open(**CREATION, **size, crs=crs, transform=affine) as dataset:
            dataset.write(array, 1)
            _describe(dataset, colours, card, ())
        content: bytes = memory.read()
    return content


class ClassRaster:
    """A class raster being written block by block; memory does not grow with its size."""

    def __init__(self, dataset: rasterio.io.DatasetWriter, extent: Window) -> None:
        self._dataset = dataset
        self._extent = extent
        self.scenes: dict[SceneRef, None] = {}

    def write(
        self, block: Window, classes: npt.NDArray[np.uint8], scenes: Sequence[SceneRef]
    ) -> None:
        """Writes what of a block, uint8 (512, 512), lies within the raster."""
        part = block.intersection(self._extent)
        if part is None:
            return
        rows, cols = part.slices_in(self._extent)
        target = RasterWindow.from_slices(rows, cols)
        self._dataset.write(classes[part.slices_in(block)], 1, window=target)
        self.scenes |= dict.fromkeys(scenes)


@contextmanager
def class_cog(
    path: Path,
    grid: WorkGrid,
    extent: Window,
    colours: Colours,
    card: ModelCard,
    tags: dict[str, str] | None = None,
) -> Iterator[ClassRaster]:
    """A Cloud Optimized GeoTIFF of `extent`, there when the block ends well and not before.

    Overviews show the mode. `tags` are put over its own. OSError when the place cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".landcover-") as scratch:
        plain, cog = Path(scratch) / "plain.tif", Path(scratch) / "cog.tif"
        size = {
            "width": extent.cols,
            "height": extent.rows,
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "bigtiff": "if_safer",
            "sparse_ok": True,
        }
        where = {"crs": grid.crs, "transform": grid.transform(extent)}
        with rasterio.open(plain, "w", **CREATION, **size, **where) as dataset:
            raster = ClassRaster(dataset, extent)
            yield raster
            _describe(dataset, colours, card, tuple(raster.scenes))
            dataset.update_tags(**(tags or {}))
        raster_copy(
            plain,
            cog,
            driver="COG",
            compress="deflate",
            blocksize=BLOCK,
            overview_resampling="mode",
            bigtiff="if_safer",
        )
        os.replace(cog, path)


def _describe(
    dataset: rasterio.io.DatasetWriter,
    colours: Colours,
    card: ModelCard,
    scenes: Sequence[SceneRef],
) -> None:
    """Colour table, class names and provenance, as tags every GDAL tool shows."""
    dataset.write_colormap(1, {value: (*rgb, 255) for value, rgb in colours})
    dataset.set_band_description(1, "land cover class")
    tags = {
        "LANDCOVER_MODEL": f"{card.name} {card.version}",
        "LANDCOVER_MODEL_SHA256": card.sha256 or "",
        "LANDCOVER_CLASSES": json.dumps(card.legend.stac()),
    }
    if scenes:
        tags["LANDCOVER_SCENES"] = ",".join(scene.id for scene in scenes)
        tags["LANDCOVER_DATES"] = ",".join(sorted({scene.date for scene in scenes if scene.date}))
    dataset.update_tags(**tags)
