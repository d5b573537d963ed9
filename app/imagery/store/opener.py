"""A remote file as GDAL reads it: our byte ranges behind rasterio's opener.

GDAL requests all internal tiles of a window at once (`get_byte_ranges`). No exception may leave
these methods, as it would be lost between C and Python: the first one is remembered, the caller
looks at `error` after each read and must then drop the dataset, whose cache may hold anything.
"""

from __future__ import annotations

import contextvars
import itertools
import os
import re
import time
from typing import Self

import rasterio
from rasterio.abc import MultiByteRangeResourceContainer
from rasterio.errors import RasterioError

from app.errors import SourceUnavailable
from app.imagery.store.object_store import HEADER_BYTES, ObjectStat, ObjectStore
from app.imagery.store.range_cache import Range

_serial = itertools.count()
_open: dict[int, rasterio.DatasetReader] = {}
"""Open datasets by the id of their files: left to the garbage collector, a dataset may be taken
apart in a context that does not know its opener."""


class RangeFile(MultiByteRangeResourceContainer):  # type: ignore[misc]
    """A file-like object on byte ranges, and the folder it lies in. Used by one thread at a time.

    `context`: in which the dataset is opened and must be closed, as rasterio keeps open files in a
    ContextVar, and a dataset may be closed by another thread than the one it served.
    """

    def __init__(self, store: ObjectStore, href: str, name: str, stat: ObjectStat) -> None:
        self._store, self._href, self._name, self._stat = store, href, name, stat
        self._at = 0
        self.context = contextvars.Context()
        self.begin()

    def begin(self) -> None:
        """Begin a read: from now on it has as long as the limits allow."""
        self._deadline = time.monotonic() + self._store.limits.read_s
        self.error: SourceUnavailable | None = None

    def read(self, size: int = -1) -> bytes:
        """Return bytes from the current position on; none after an error."""
        left = self._stat.length - self._at
        size = left if size < 0 else min(size, left)
        if size <= 0:
            return b""
        # Headers are read in small pieces, one after the other: whole pages for them.
        page = HEADER_BYTES if size < HEADER_BYTES else 1
        first = self._at // page * page
        stop = min(-(-(self._at + size) // page) * page, self._stat.length)
        (data,) = self._fetch([(first, stop - first)])
        piece = data[self._at - first : self._at - first + size]
        self._at += len(piece)
        return piece

    def get_byte_ranges(self, offsets: list[int], sizes: list[int]) -> list[bytes]:
        """Return the ranges GDAL needs for a window; zeros after an error."""
        return self._fetch(list(zip(offsets, sizes, strict=True)), zeros=True)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, as in any file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._stat.length}
        self._at = base[whence] + offset
        return self._at

    def tell(self) -> int:
        """Return the position, as in any file."""
        return self._at

    def forget(self) -> None:
        """Drop the bytes: they made no sense to GDAL."""
        self._store.forget(self._href, self._stat)

    def _fetch(self, ranges: list[Range], *, zeros: bool = False) -> list[bytes]:
        if self.error is None:
            try:
                return self._store.fetch(self._href, self._name, self._stat, ranges, self._deadline)
            except SourceUnavailable as error:
                self.error = error
            except Exception as error:
                reason = f"cannot be read ({type(error).__name__})"
                self.error = SourceUnavailable(self._name, reason)
        return [bytes(size) if zeros else b"" for _, size in ranges]

    # What rasterio asks of an opener: there is one file, and this is it.

    def open(self, path: str, mode: str = "r", **_: object) -> Self:
        del path, mode
        return self

    def size(self, path: str) -> int:
        del path
        return self._stat.length

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    close = __exit__
    isfile = staticmethod(lambda _: True)
    isdir = mtime = rm = staticmethod(lambda _: 0)
    ls = staticmethod(lambda _: ())


def open_remote(
    store: ObjectStore, href: str, name: str, stat: ObjectStat
) -> tuple[rasterio.DatasetReader, RangeFile]:
    """Return the dataset on a remote GeoTIFF, and the file under it.

    SourceUnavailable when its header cannot be had, RasterioError when it is no GeoTIFF.
    """
    file = RangeFile(store, href, name, stat)
    # GDAL sees a name of ours, never an address.
    alias = f"{next(_serial)}-{re.sub(r'[^A-Za-z0-9_.~-]', '_', name)}.tif"
    try:
        dataset = file.context.run(rasterio.open, alias, opener=file, driver="GTiff")
    except (OSError, RasterioError):
        file.forget()
        if file.error is not None:
            raise file.error from None
        raise
    _open[id(file)] = dataset
    if file.error is not None:
        close_remote(dataset, file)
        raise file.error
    return dataset, file


def close_remote(dataset: rasterio.DatasetReader, file: RangeFile) -> None:
    """Close what `open_remote` opened; from any thread, and again without harm."""
    if _open.pop(id(file), None) is not None:
        file.context.run(dataset.close)
