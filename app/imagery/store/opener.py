"""A remote file as GDAL reads it: our byte ranges behind rasterio's opener.

GDAL asks for all internal tiles of a window at once (`get_byte_ranges`). No exception may leave
these methods, as it would be lost between C and Python: the first one is remembered, the caller
looks at `error` after each read and must then drop the dataset, whose cache may hold anything.
"""

from __future__ import annotations

import contextvars
import itertools
import os
import re
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import rasterio
from rasterio.abc import MultiByteRangeResourceContainer
from rasterio.errors import RasterioError

from app.errors import SourceUnavailable
from app.imagery.store.object_store import HEADER_BYTES, ObjectStore
from app.imagery.store.range_request import ObjectStat

_serial = itertools.count()
_openers: dict[int, ExitStack] = {}
"""The registrations of rasterio's openers, by the id of their files. GDAL asks them as long as a
dataset is open; left to the dataset, the garbage collector may undo one before the dataset is
closed, in a context that does not know it."""


class RangeFile:
    """A file-like object on byte ranges. Used by one thread at a time."""

    def __init__(self, remote: ObjectStore, href: str, name: str, stat: ObjectStat) -> None:
        self._remote = remote
        self._href = href
        self._name = name
        self._stat = stat
        self._at = 0
        self._deadline = 0.0
        self.error: SourceUnavailable | None = None
        self.context = contextvars.Context()
        """In which the dataset is opened and must be closed: rasterio keeps open files in a
        ContextVar, and a dataset may be closed by another thread than the one it served."""
        self.begin()

    def begin(self) -> None:
        """A read begins: from now on it has as long as the limits allow."""
        self._deadline = time.monotonic() + self._remote.limits.read_s
        self.error = None

    def read(self, size: int = -1) -> bytes:
        """Bytes from the current place on; none after an error."""
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
        """The ranges GDAL needs for a window; zeros after an error."""
        return self._fetch(list(zip(offsets, sizes, strict=True)), zeros=True)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._stat.length}
        self._at = base[whence] + offset
        return self._at

    def tell(self) -> int:
        """As of any file."""
        return self._at

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def forget(self) -> None:
        """The bytes made no sense to GDAL: they are not kept."""
        self._remote.forget(self._href, self._stat)

    def _fetch(self, ranges: list[tuple[int, int]], *, zeros: bool = False) -> list[bytes]:
        if self.error is None:
            try:
                return self._remote.fetch(
                    self._href, self._name, self._stat, ranges, self._deadline
                )
            except SourceUnavailable as error:
                self.error = error
            except Exception as error:
                self.error = SourceUnavailable(
                    self._name, f"cannot be read ({type(error).__name__})"
                )
        return [bytes(size) if zeros else b"" for _, size in ranges]


class _Container(MultiByteRangeResourceContainer):  # type: ignore[misc]
    """The one file that a dataset is opened on."""

    def __init__(self, file: RangeFile, size: int) -> None:
        self._file = file
        self._size = size

    def open(self, path: str, mode: str = "r", **_: object) -> RangeFile:
        del path, mode
        return self._file

    def isfile(self, path: str) -> bool:
        del path
        return True

    def isdir(self, path: str) -> bool:
        del path
        return False

    def ls(self, path: str) -> list[str]:
        del path
        return []

    def mtime(self, path: str) -> int:
        del path
        return 0

    def rm(self, path: str) -> None:
        del path

    def size(self, path: str) -> int:
        del path
        return self._size


def open_remote(
    remote: ObjectStore, href: str, name: str, stat: ObjectStat
) -> tuple[rasterio.DatasetReader, RangeFile]:
    """The dataset on a remote GeoTIFF, and the file under it.

    SourceUnavailable when its header cannot be had, RasterioError when it is no GeoTIFF.
    """
    file = RangeFile(remote, href, name, stat)
    # GDAL sees a name of ours, never an address.
    alias = f"{next(_serial)}-{re.sub(r'[^A-Za-z0-9_.~-]', '_', name)}.tif"
    try:
        dataset = file.context.run(_opened, alias, _Container(file, stat.length), file)
    except (OSError, RasterioError):
        file.forget()
        if file.error is not None:
            raise file.error from None
        raise
    if file.error is not None:
        close_remote(dataset, file)
        raise file.error
    return dataset, file


def close_remote(dataset: rasterio.DatasetReader, file: RangeFile) -> None:
    """Closes what `open_remote` opened; from any thread, and again without harm."""
    file.context.run(dataset.close)
    stack = _openers.pop(id(file), None)
    if stack is not None:
        file.context.run(stack.close)


def _opened(alias: str, container: _Container, file: RangeFile) -> rasterio.DatasetReader:
    dataset = rasterio.open(alias, opener=container, driver="GTiff")
    _openers[id(file)] = dataset._env.pop_all()
    return dataset
