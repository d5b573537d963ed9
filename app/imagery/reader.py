"""Pixels of one scene on a work grid, out of one open GeoTIFF, local or remote.

Native windows only, driver pinned to GTiff. NAIP's fourth band is often tagged *alpha*, and
everything that warps, resamples or masks (WarpedVRT, rio-tiler's default reader, a read of another
shape) would then treat near infrared as transparency (rasterio#2104, rasterio#2257). The validity
mask is our own: a pixel is data unless all four bands hold the nodata value, or a mask of the whole
file says otherwise (app.imagery.raster).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from app.errors import SourceUnavailable
from app.grid.pixel_grid import PixelGrid
from app.imagery.catalog.index import Inspected, SkippedFile
from app.imagery.raster import Image, Opened, Raster, Valid
from app.imagery.resample import read_resampled, read_scaled
from app.imagery.scene import (
    ReadOptions,
    Scene,
    UnsupportedImage,
    identity_of,
    mask_beside,
    name_of,
    scene_in,
)
from app.imagery.store.checksums import Damaged, local_tiles
from app.imagery.store.object_store import ObjectStore
from app.imagery.store.opener import RangeFile, close_remote, open_overview, open_remote
from model.windows import Window

OPEN_PER_THREAD = 8


@dataclass(frozen=True, slots=True)
class Pixels:
    """`image`: uint8 (4, rows, cols), red, green, blue, near infrared; `valid`: bool (rows, cols),
    True = data."""

    image: Image
    valid: Valid


class Reader:
    """Reads scenes; keeps a few open in each thread (a GDAL handle belongs to one thread)."""

    def __init__(self, stores: Mapping[str, ObjectStore] | None = None) -> None:
        """`stores`: source id → what reads its remote files."""
        self._stores = stores if stores is not None else {}
        self._local = threading.local()

    def read(self, scene: Scene, grid: PixelGrid, window: Window) -> Pixels:
        """Return `window` of `grid`, which must lie within `scene.extent(grid)`.

        On the grid's own resolution pixels are copied; finer scenes are averaged over each grid
        pixel (from overviews where it is much larger than theirs); coarser ones are interpolated. A
        pixel made of some that are no data is no data. SourceUnavailable when the scene cannot be
        read or is not the file it was.
        """
        handle = self._open(scene)
        try:
            return Pixels(*handle.read(scene, grid, window))
        except SourceUnavailable:
            self.forget(scene)
            raise

    def forget(self, scene: Scene) -> None:
        """Close this thread's handle of a scene."""
        handle = self._handles().pop(_handle_key(scene), None)
        if handle is not None:
            handle.close()

    def _open(self, scene: Scene) -> _Handle:
        handles, key = self._handles(), _handle_key(scene)
        if not scene.store and not _is_unchanged(scene):
            self.forget(scene)
            raise SourceUnavailable(scene.id, "the file changed while it was being served")
        if key not in handles:
            store = self._stores[scene.store] if scene.store else None
            handles[key] = _open_local(scene) if store is None else _open_remote(scene, store)
        handles.move_to_end(key)
        while len(handles) > OPEN_PER_THREAD:
            handles.popitem(last=False)[1].close()
        return handles[key]

    def _handles(self) -> OrderedDict[tuple[str, str, str], _Handle]:
        if not hasattr(self._local, "handles"):
            self._local.handles = OrderedDict()
        handles: OrderedDict[tuple[str, str, str], _Handle] = self._local.handles
        return handles


class RemoteFiles:
    """The files of a source on a network, as catalogs look at them: headers, never pixels."""

    def __init__(self, store: ObjectStore, reading: ReadOptions) -> None:
        self._store = store
        self._reading = reading
        self.source_id = store.source_id
        self.connections = store.limits.connections

    @property
    def unavailable(self) -> str | None:
        """Why the source is being left alone, None when it is not."""
        return self._store.unavailable

    def refusal(self, href: str) -> str | None:
        """Return why an address may not be read and what allows it, None when it may."""
        return self._store.reach.refusal(href)

    def probe(self) -> bool:
        """Find out in a short time whether the server answers; return whether it does."""
        return self._store.probe()

    def take_read(self) -> set[str]:
        """Return the addresses that were read since the last call."""
        read, self._store.touched = self._store.touched, set()
        return read

    def inspect(self, href: str, known: Inspected | None) -> Inspected:
        """Return what a file is now; its header is read unless it is the one that is `known`.

        SourceUnavailable when it cannot be had.
        """
        name = name_of(href)
        stat = self._store.stat(href, name, *((1,) if known else ()))
        if known and known[0] == stat.identity:
            return known
        if stat.plain:
            # Without TLS only a second read shows damage, which would be kept as what the file is.
            stat = self._store.stat(href, name) if known else stat
            self._store.confirm(href, name, stat)
        try:
            dataset, file = open_remote(self._store, href, name, stat)
            try:
                scene = scene_in(dataset, self._reading, name, href, stat.identity, stat.length)
            finally:
                close_remote(file)
            if file.error is not None:
                raise file.error
        except UnsupportedImage as refusal:
            return stat.identity, SkippedFile(href, str(refusal))
        except (OSError, RasterioError):
            return stat.identity, SkippedFile(href, "is not a readable GeoTIFF")
        return stat.identity, replace(scene, etag=stat.etag, store=self.source_id)


class _Handle:
    """A raster and, when it is remote, the file under it. Belongs to one thread."""

    def __init__(self, raster: Raster, file: RangeFile | None = None) -> None:
        self.raster = raster
        self.file = file

    def __del__(self) -> None:
        """The threads that opened it may be gone."""
        self.close()

    def read(self, scene: Scene, grid: PixelGrid, window: Window) -> tuple[Image, Valid]:
        """Return `window`, uint8 (4, rows, cols) and bool (rows, cols); SourceUnavailable, after
        which the handle must be closed: its cache may hold anything."""
        if self.file is None:
            with _translated(scene.id):
                return _read(self.raster, scene, grid, window)
        self.file.begin()
        try:
            pixels = _read(self.raster, scene, grid, window)
        except (OSError, RasterioError) as error:
            self._raise_reason()
            self.file.forget()
            raise SourceUnavailable(scene.id, "the file cannot be read") from error
        self._raise_reason()
        return pixels

    def close(self) -> None:
        """Close the datasets."""
        self.raster.close()

    def _raise_reason(self) -> None:
        """Raise what went wrong below GDAL, which only knows that something did."""
        if self.file is not None and self.file.error is not None:
            raise self.file.error from None


def _open_local(scene: Scene) -> _Handle:
    """Return a handle on a local file; SourceUnavailable when it cannot be opened."""
    with _translated(scene.id):
        mask = mask_beside(Path(scene.href))
        test = local_tiles(scene.href, scene.identity).check
        raster = Raster(
            Opened.at(scene.href, test),
            lambda number: Opened.at(scene.href, test, overview_level=number),
            Opened.at(mask, local_tiles(str(mask), identity_of(mask)).check) if mask else None,
        )
        return _Handle(raster)


def _open_remote(scene: Scene, store: ObjectStore) -> _Handle:
    """Return a handle on a remote file; SourceUnavailable when it cannot be opened, or is not what
    the catalog says it is."""
    with _translated(scene.id):
        stat = store.known(scene.href, scene.id)
        if scene.etag and stat.etag != scene.etag:
            raise store.changed(scene.href, scene.id)
        dataset, file = open_remote(store, scene.href, scene.id, stat)
    file.check_tiles()

    def overview(number: int) -> Opened:
        dataset, again = open_overview(file, number)
        return Opened(dataset, partial(close_remote, again))

    handle = _Handle(Raster(Opened(dataset, partial(close_remote, file)), overview), file)
    if not _is_as_described(dataset, scene):
        handle.close()
        raise SourceUnavailable(scene.id, "the file is not what its catalog says")
    return handle


@contextmanager
def _translated(scene_id: str) -> Iterator[None]:
    """Turn foreign errors into SourceUnavailable, here and nowhere else."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceUnavailable(scene_id, "the file has vanished") from error
    except Damaged as damage:
        raise SourceUnavailable(scene_id, f"the file is damaged: {damage}") from damage
    except (OSError, RasterioError) as error:
        raise SourceUnavailable(scene_id, "the file cannot be read") from error


def _handle_key(scene: Scene) -> tuple[str, str, str]:
    """Return what a handle is kept by: two sources may read one file in different ways."""
    return scene.store, scene.href, scene.identity


def _is_unchanged(scene: Scene) -> bool:
    with _translated(scene.id):
        return identity_of(Path(scene.href)) == scene.identity


def _is_as_described(dataset: rasterio.DatasetReader, scene: Scene) -> bool:
    if scene.native is not None:
        described, actual = scene.native.transform, tuple(dataset.transform)[:6]
        return dataset.shape == scene.native.shape and np.allclose(described, actual, rtol=1e-6)
    off = (abs(a - b) for a, b in zip(dataset.bounds, scene.bounds, strict=True))
    kinds = {dataset.dtypes[band - 1] for band in scene.bands if band <= dataset.count}
    return (
        dataset.count >= max(scene.bands)
        and kinds == {"uint8"}
        and all(each <= scene.resolution / 2 for each in off)
    )


def _read(raster: Raster, scene: Scene, grid: PixelGrid, window: Window) -> tuple[Image, Valid]:
    if scene.native is not None:
        return read_resampled(raster, scene, scene.native, grid, window)
    extent = scene.extent(grid)
    if not scene.matches(grid) or extent is None:
        return read_scaled(raster, scene, grid, window)
    col, row = window.col - extent.col, window.row - extent.row
    native = RasterWindow(col, row, window.cols, window.rows)
    return raster.read(scene.bands, scene.nodata, raster.level(1), native)
