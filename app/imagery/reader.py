"""Pixels of one scene on a work grid.

Native windows only: `indexes=(1, 2, 3, 4)`, unmasked, driver pinned to GTiff. NAIP's fourth band
is often tagged *alpha*, and everything that warps or masks (WarpedVRT, rio-tiler's default
reader) would then treat near infrared as transparency (rasterio#2104, rasterio#2257).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from app.errors import SourceUnavailable
from app.grid import NORTH, WorkGrid
from app.imagery.scene import Scene, identity_of
from model.windows import Window

OPEN_PER_THREAD = 8


@dataclass(frozen=True, slots=True)
class Pixels:
    """`image`: uint8 (4, rows, cols), red, green, blue, near infrared; `valid`: bool (rows, cols),
    True = data."""

    image: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.bool_]


class Reader:
    """Reads scenes; keeps a few open in each thread (a GDAL handle belongs to one thread)."""

    def __init__(self) -> None:
        self._local = threading.local()

    def read(self, scene: Scene, grid: WorkGrid, window: Window) -> Pixels:
        """`window` of `grid`, which must lie within `scene.extent(grid)`.

        On the grid's own resolution pixels are copied; finer scenes are averaged over each grid
        pixel (from overviews where there are any); coarser ones are interpolated. SourceUnavailable
        when the scene cannot be read or is not the file it was.
        """
        with _translated(scene):
            dataset = self._open(scene)
            matches = scene.matches(grid)
            if matches and (extent := scene.extent(grid)):
                col, row = window.col - extent.col, window.row - extent.row
                native = RasterWindow(col, row, window.cols, window.rows)
                image = dataset.read(indexes=scene.bands, window=native)
            else:
                ratio = grid.resolution / scene.resolution
                left, _, _, top = scene.bounds
                native = RasterWindow(
                    (window.col * grid.resolution - left) / scene.resolution,
                    (top - NORTH + window.row * grid.resolution) / scene.resolution,
                    window.cols * ratio,
                    window.rows * ratio,
                )
                image = dataset.read(
                    indexes=scene.bands,
                    window=native,
                    out_shape=(4, *window.shape),
                    resampling=Resampling[scene.resampling] if ratio > 1 else Resampling.bilinear,
                )
        valid = (image != scene.nodata).any(axis=0)
        if not matches and not valid.all():
            valid = _eroded(valid)
        return Pixels(image, valid)

    def forget(self, scene: Scene) -> None:
        """Closes this thread's handle of a scene."""
        dataset = self._handles().pop((scene.href, scene.identity), None)
        if dataset is not None:
            dataset.close()

    def _open(self, scene: Scene) -> rasterio.DatasetReader:
        handles = self._handles()
        key = (scene.href, scene.identity)
        if identity_of(Path(scene.href)) != scene.identity:
            self.forget(scene)
            raise SourceUnavailable(scene.id, "the file changed while it was being served")
        if key not in handles:
            handles[key] = rasterio.open(scene.href, driver="GTiff")
        handles.move_to_end(key)
        while len(handles) > OPEN_PER_THREAD:
            handles.popitem(last=False)[1].close()
        return handles[key]

    def _handles(self) -> OrderedDict[tuple[str, str], rasterio.DatasetReader]:
        if not hasattr(self._local, "handles"):
            self._local.handles = OrderedDict()
        handles: OrderedDict[tuple[str, str], rasterio.DatasetReader] = self._local.handles
        return handles


@contextmanager
def _translated(scene: Scene) -> Iterator[None]:
    """Foreign errors become SourceUnavailable here and nowhere else."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceUnavailable(scene.id, "the file has vanished") from error
    except (OSError, RasterioError) as error:
        raise SourceUnavailable(scene.id, "the file cannot be read") from error


def _eroded(valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """`valid` without the pixels that touch an invalid one: resampling mixed the collar in."""
    framed = np.pad(valid, 1, mode="edge")
    rows, cols = valid.shape
    out = valid.copy()
    for down in range(3):
        for right in range(3):
            out &= framed[down : down + rows, right : right + cols]
    return out
