"""An open scene: windows of a work grid out of one GeoTIFF, local or remote.

Native windows only, unmasked, driver pinned to GTiff. NAIP's fourth band is often tagged *alpha*,
and everything that warps or masks (WarpedVRT, rio-tiler's default reader) would then treat near
infrared as transparency (rasterio#2104, rasterio#2257).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from app.errors import SourceUnavailable
from app.grid.pixel_grid import NORTH, PixelGrid
from app.imagery.resample import read_resampled
from app.imagery.scene import Scene
from app.imagery.store.opener import RangeFile, close_remote, open_remote
from model.windows import Window

Image = npt.NDArray[np.uint8]


class Handle:
    """A dataset and, when it is remote, the file under it. Belongs to one thread."""

    def __init__(self, dataset: rasterio.DatasetReader, file: RangeFile | None = None) -> None:
        self.dataset = dataset
        self.file = file

    def __del__(self) -> None:
        """The threads that opened it may be gone."""
        self.close()

    def read(self, scene: Scene, grid: PixelGrid, window: Window) -> Image:
        """uint8 (4, rows, cols) of `window`; SourceUnavailable, after which the handle must be
        closed: its cache may hold anything."""
        if self.file is None:
            with translated(scene.id):
                return _read(self.dataset, scene, grid, window)
        self.file.begin()
        try:
            image = _read(self.dataset, scene, grid, window)
        except (OSError, RasterioError) as error:
            self._raise_reason()
            self.file.forget()
            raise SourceUnavailable(scene.id, "the file cannot be read") from error
        self._raise_reason()
        return image

    def close(self) -> None:
        """Gives the dataset back."""
        if self.file is None:
            self.dataset.close()
        else:
            close_remote(self.dataset, self.file)

    def _raise_reason(self) -> None:
        """What went wrong below GDAL, which only knows that something did."""
        if self.file is not None and self.file.error is not None:
            raise self.file.error from None


def open_local(scene: Scene) -> Handle:
    """A handle on a local file; SourceUnavailable when it cannot be opened."""
    with translated(scene.id):
        return Handle(rasterio.open(scene.href, driver="GTiff"))


def open_ranges(scene: Scene) -> Handle:
    """A handle on a remote file; SourceUnavailable when it cannot be opened, or is not what the
    catalog says it is."""
    remote = scene.remote
    assert remote is not None  # noqa: S101 - the caller asked
    with translated(scene.id):
        stat = remote.known(scene.href, scene.id)
        if scene.etag and stat.etag != scene.etag:
            raise remote.changed(scene.href, scene.id)
        dataset, file = open_remote(remote, scene.href, scene.id, stat)
    handle = Handle(dataset, file)
    if not _is_as_described(dataset, scene):
        handle.close()
        raise SourceUnavailable(scene.id, "the file is not what its catalog says")
    return handle


@contextmanager
def translated(scene_id: str) -> Iterator[None]:
    """Foreign errors become SourceUnavailable here and nowhere else."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceUnavailable(scene_id, "the file has vanished") from error
    except (OSError, RasterioError) as error:
        raise SourceUnavailable(scene_id, "the file cannot be read") from error


def _is_as_described(dataset: rasterio.DatasetReader, scene: Scene) -> bool:
    if scene.native is not None:
        kept, found = scene.native.transform, tuple(dataset.transform)[:6]
        return dataset.shape == scene.native.shape and np.allclose(kept, found, rtol=1e-6)
    off = (abs(a - b) for a, b in zip(dataset.bounds, scene.bounds, strict=True))
    kinds = {dataset.dtypes[band - 1] for band in scene.bands if band <= dataset.count}
    return (
        dataset.count >= max(scene.bands)
        and kinds == {"uint8"}
        and all(each <= scene.resolution / 2 for each in off)
    )


def _read(dataset: rasterio.DatasetReader, scene: Scene, grid: PixelGrid, window: Window) -> Image:
    if scene.native is not None:
        return read_resampled(dataset, scene, scene.native, grid, window)
    extent = scene.extent(grid)
    if scene.matches(grid) and extent:
        col, row = window.col - extent.col, window.row - extent.row
        native = RasterWindow(col, row, window.cols, window.rows)
        image: Image = dataset.read(indexes=scene.bands, window=native)
        return image
    ratio = grid.resolution / scene.resolution
    left, _, _, top = scene.bounds
    native = RasterWindow(
        (window.col * grid.resolution - left) / scene.resolution,
        (top - NORTH + window.row * grid.resolution) / scene.resolution,
        window.cols * ratio,
        window.rows * ratio,
    )
    scaled: Image = dataset.read(
        indexes=scene.bands,
        window=native,
        out_shape=(4, *window.shape),
        resampling=Resampling[scene.resampling] if ratio > 1 else Resampling.bilinear,
    )
    return scaled
