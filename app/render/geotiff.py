"""Class rasters as GeoTIFF: uint8, nodata 255, color table, class names, provenance."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.io import MemoryFile
from rasterio.shutil import copy as raster_copy
from rasterio.windows import Window as RasterWindow

from app import __version__
from app.grid.classified import SceneRef
from app.grid.pixel_grid import Bounds, PixelGrid
from app.render.attribute_table import Table, aux_xml, stac_of, table_of
from app.render.overviews import write_overviews
from app.render.qgis import write_sidecars
from model.card import ModelCard, ServedCard
from model.legend import NODATA, Rgb
from model.windows import BLOCK, Window

Colors = Sequence[tuple[int, Rgb]]
"""(value, (red, green, blue)) of every class that is drawn."""

MEDIA_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"

CREATION = {
    "driver": "GTiff",
    "count": 1,
    "dtype": "uint8",
    "nodata": NODATA,
    "compress": "deflate",
}
_TILED = {
    "tiled": True,
    "blockxsize": BLOCK,
    "blockysize": BLOCK,
    "bigtiff": "if_safer",
    "sparse_ok": True,
}


def tile_tif(
    array: npt.NDArray[np.uint8],
    colors: Colors,
    bounds: Bounds,
    crs: str,
    card: ModelCard,
    scenes: Sequence[SceneRef] = (),
) -> bytes:
    """Return the bytes of a GeoTIFF of uint8 (rows, cols) that shows `bounds` of `crs`."""
    rows, cols = array.shape
    left, bottom, right, top = bounds
    affine = Affine((right - left) / cols, 0, left, 0, (bottom - top) / rows, top)
    with MemoryFile() as memory:
        size = {"width": cols, "height": rows, "tiled": True, "blockxsize": 256, "blockysize": 256}
        with memory.open(**CREATION, **size, crs=crs, transform=affine) as dataset:
            dataset.write(array, 1)
            dataset.write_colormap(1, {value: (*rgb, 255) for value, rgb in colors})
            dataset.set_band_description(1, "land cover class")
            dataset.update_tags(**provenance(card, scenes), LANDCOVER_CLASSES=_json(card))
        content: bytes = memory.read()
    return content


class ClassRaster:
    """A class raster written block by block; memory does not grow with its size."""

    def __init__(
        self,
        path: Path,
        scratch: Path,
        grid: PixelGrid,
        extent: Window,
        table: Table,
        description: str,
    ) -> None:
        self.path = path
        self.counts = np.zeros(256, dtype=np.int64)
        self.scenes: dict[SceneRef, None] = {}
        self._extent, self._table = extent, table
        self._plain, self._cog = scratch / "plain.tif", scratch / "cog.tif"
        size = {"width": extent.cols, "height": extent.rows}
        where = {"crs": grid.crs, "transform": grid.transform(extent)}
        self._dataset = rasterio.open(self._plain, "w", **CREATION, **_TILED, **size, **where)
        self._dataset.write_colormap(1, {entry.value: (*entry.rgb, 255) for entry in table})
        self._dataset.set_band_description(1, description)

    def write(
        self, block: Window, classes: npt.NDArray[np.uint8], scenes: Sequence[SceneRef]
    ) -> None:
        """Write what of a block, uint8 of its shape, lies within the raster."""
        part = block.intersection(self._extent)
        if part is None:
            return
        rows, cols = part.slices_in(self._extent)
        values = classes[part.slices_in(block)]
        self._dataset.write(values, 1, window=RasterWindow.from_slices(rows, cols))
        self.counts += np.bincount(values.reshape(-1), minlength=256)
        self.scenes |= dict.fromkeys(scenes)

    def finish(self, card: ModelCard, tags: Mapping[str, str] | None = None) -> None:
        """Finish the file and move it to its path, `.aux.xml` beside it.

        Takes seconds for a large one: call it in a thread. OSError when it cannot be written.
        """
        classes = json.dumps(stac_of(self._table), separators=(",", ":"))
        kept = {**provenance(card, tuple(self.scenes)), "LANDCOVER_CLASSES": classes}
        self._dataset.update_tags(**kept, **(tags or {}))
        self._dataset.close()
        write_overviews(self._plain, {**CREATION, **_TILED})
        # The service tells GDAL not to open sidecars; here it must find the overviews.
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="FALSE"):
            raster_copy(
                self._plain,
                self._cog,
                driver="COG",
                compress="deflate",
                blocksize=BLOCK,
                overview_resampling="mode",
                bigtiff="if_safer",
            )
        aux = self._cog.with_name("aux.xml")
        aux.write_bytes(aux_xml(self._table, self.counts.tolist()))
        # The raster first: when it cannot be moved, there is no sidecar either.
        os.replace(self._cog, self.path)
        os.replace(aux, self.path.with_name(f"{self.path.name}.aux.xml"))
        write_sidecars(self.path, self._table)

    def close(self) -> None:
        """Close what was not finished."""
        self._dataset.close()


@contextmanager
def class_cog(
    path: Path,
    grid: PixelGrid,
    extent: Window,
    table: Table,
    description: str = "land cover class",
) -> Iterator[ClassRaster]:
    """Open a Cloud Optimized GeoTIFF of `extent` for writing; it appears when `finish` is called.

    Overviews show the mode. OSError when the path cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=".landcover-", ignore_cleanup_errors=True
    ) as scratch:
        raster = ClassRaster(path, Path(scratch), grid, extent, table, description)
        try:
            yield raster
        finally:
            raster.close()


def provenance(card: ModelCard, scenes: Sequence[SceneRef]) -> dict[str, str]:
    """Return where a result comes from, as tags that every GDAL tool shows."""
    tags = {
        "LANDCOVER_MODEL": f"{card.name} {card.version}",
        "LANDCOVER_MODEL_SHA256": card.sha256 or "",
        "LANDCOVER_ENGINE": card.engine if isinstance(card, ServedCard) else "",
        "LANDCOVER_LICENSE": card.license,
        "LANDCOVER_ATTRIBUTION": card.attribution,
        "TIFFTAG_SOFTWARE": f"landcover {__version__}",
    }
    if scenes:
        tags["LANDCOVER_SCENES"] = ",".join(scene.id for scene in scenes)
        tags["LANDCOVER_DATES"] = ",".join(sorted({scene.date for scene in scenes if scene.date}))
    return {name: value for name, value in tags.items() if value}


def _json(card: ModelCard) -> str:
    return json.dumps(stac_of(table_of(card.legend)), separators=(",", ":"))
