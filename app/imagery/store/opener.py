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
from dataclasses import dataclass
from typing import Self

import rasterio
from rasterio.abc import MultiByteRangeResourceContainer
from rasterio.errors import RasterioError

from app.errors import SourceUnavailable
from app.imagery.store.checksums import Damaged, TileChecksums
from app.imagery.store.object_store import HEADER_BYTES, ObjectStat, ObjectStore
from app.imagery.store.range_cache import Range

_serial = itertools.count()
_open: dict[int, rasterio.DatasetReader] = {}
"""Open datasets by the id of their files: left to the garbage collector, a dataset may be taken
apart in a context that does not know its opener."""


@dataclass(slots=True)
class _Read:
    """A read: by when it must end (time.monotonic), and what went wrong.

    `checks_tiles`: pixels are read, not only the header; `checksums`: of the file, from then on.
    """

    deadline: float = 0.0
    error: SourceUnavailable | None = None
    checks_tiles: bool = False
    checksums: TileChecksums | None = None


class RangeFile(MultiByteRangeResourceContainer):  # type: ignore[misc]
    """A file-like object on byte ranges, and the folder it lies in. Used by one thread at a time.

    `context`: in which the dataset is opened and must be closed, as rasterio keeps open files in a
    ContextVar, and a dataset may be closed by another thread than the one it served.
    """

    def __init__(
        self, store: ObjectStore, href: str, name: str, stat: ObjectStat, read: _Read | None = None
    ) -> None:
        """`read`: the one under way, of a file that is read together with another."""
        self._store, self._href, self.name, self._stat = store, href, name, stat
        self._at = 0
        self.context = contextvars.Context()
        self._read = read or _Read()
        if read is None:
            self.begin()

    def begin(self) -> None:
        """Begin a read: from now on it has as long as the limits allow."""
        self._read.deadline = time.monotonic() + self._store.limits.read_s
        self._read.error = None

    def check_tiles(self) -> None:
        """Give GDAL no tile from now on whose checksum is not right; of `again` as well."""
        self._read.checks_tiles = True

    @property
    def error(self) -> SourceUnavailable | None:
        """Return what went wrong since the read began."""
        return self._read.error

    def again(self) -> RangeFile:
        """Return the same file to be opened once more; one read of both has one deadline."""
        return RangeFile(self._store, self._href, self.name, self._stat, self._read)

    def read(self, size: int = -1) -> bytes:
        """Return bytes from the current position on; none after an error."""
        left = self._stat.length - self._at
        size = left if size < 0 else min(size, left)
        if size <= 0:
            return b""
        (piece,) = self._checked([(self._at, size)], [self._piece(self._at, size)])
        self._at += len(piece)
        return piece

    def get_byte_ranges(self, offsets: list[int], sizes: list[int]) -> list[bytes]:
        """Return the ranges GDAL needs for a window; zeros after an error."""
        ranges = list(zip(offsets, sizes, strict=True))
        if any(offset + size > self._stat.length for offset, size in ranges):
            # GDAL would take what memory holds for the rest of an uncompressed tile.
            self._read.error = self._read.error or SourceUnavailable(
                self.name, "the file is truncated"
            )
        return self._checked(ranges, self._fetch(ranges, zeros=True))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, as in any file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._stat.length}
        self._at = base[whence] + offset
        return self._at

    def tell(self) -> int:
        """Return the position, as in any file."""
        return self._at

    def forget(self, *, header: bool = False) -> None:
        """Drop the bytes: they made no sense to GDAL; `header`: not even the header did."""
        self._store.forget(self._href, self._stat, header=header)

    def _piece(self, at: int, size: int) -> bytes:
        """Return bytes as they came, fewer at the end of the file, none after an error."""
        # Headers are read in small pieces, one after the other: whole pages for them.
        page = HEADER_BYTES if size < HEADER_BYTES else 1
        first = at // page * page
        stop = min(-(-(at + size) // page) * page, self._stat.length)
        if stop <= first:
            return b""
        (data,) = self._fetch([(first, stop - first)])
        return data[at - first : at - first + size]

    def _checked(self, ranges: list[Range], pieces: list[bytes]) -> list[bytes]:
        """Return the bytes of ranges, zeros in place of all when those of a tile are damaged."""
        read = self._read
        if not read.checks_tiles or read.error is not None:
            return pieces
        try:
            if read.checksums is None:
                read.checksums = TileChecksums(self._piece)
            for wanted, piece in zip(ranges, pieces, strict=True):
                read.checksums.check(wanted, piece, self._piece)
        except Damaged as damage:
            # Nothing but the first error counts: the directories may not have been had at all.
            read.error = read.error or SourceUnavailable(
                self.name, f"the file is damaged: {damage}"
            )
            self.forget()
            return [bytes(size) for _, size in ranges]
        return pieces

    def _fetch(self, ranges: list[Range], *, zeros: bool = False) -> list[bytes]:
        read = self._read
        if read.error is None:
            try:
                return self._store.fetch(self._href, self.name, self._stat, ranges, read.deadline)
            except SourceUnavailable as error:
                read.error = error
            except Exception as error:
                reason = f"cannot be read ({type(error).__name__})"
                read.error = SourceUnavailable(self.name, reason)
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
    return _dataset(file), file


def open_overview(file: RangeFile, number: int) -> tuple[rasterio.DatasetReader, RangeFile]:
    """Return an overview (from 0) of a file that is open, and another file under it, which shares
    the reads of the first; errors as `open_remote`."""
    overview = file.again()
    return _dataset(overview, overview_level=number), overview


def close_remote(file: RangeFile) -> None:
    """Close the dataset on a file; from any thread, and again without harm."""
    dataset = _open.pop(id(file), None)
    if dataset is not None:
        file.context.run(dataset.close)


def _dataset(file: RangeFile, **options: int) -> rasterio.DatasetReader:
    # GDAL sees a name of ours, never an address.
    alias = f"{next(_serial)}-{re.sub(r'[^A-Za-z0-9_.~-]', '_', file.name)}.tif"
    try:
        dataset = file.context.run(rasterio.open, alias, opener=file, driver="GTiff", **options)
    except (OSError, RasterioError):
        file.forget(header=file.error is None)
        if file.error is not None:
            raise file.error from None
        raise
    _open[id(file)] = dataset
    if file.error is not None:
        close_remote(file)
        raise file.error
    return dataset
