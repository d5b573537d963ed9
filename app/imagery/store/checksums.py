"""Checksums of a TIFF's DEFLATE tiles, tested before pixels are taken from them.

Each tile (or strip) is a zlib stream that ends with the Adler-32 of its pixels (RFC 1950). libtiff
stops inflating when a tile is full and never looks at it, so that a single damaged bit can become
other pixels without an error. LZW, ZSTD (as libtiff writes it), JPEG and uncompressed tiles have no
checksum: of them nothing can be known.

The directories are read here, not asked of GDAL, which does not say where the tiles of a mask lie.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from app.imagery.store.range_cache import Range

ReadAt = Callable[[int, int], bytes]
"""(offset, size) → the bytes there; fewer at the end of the file."""

_DEFLATE = frozenset({8, 32946})
_WIDTH, _LENGTH, _COMPRESSION, _ROWS_PER_STRIP = 256, 257, 259, 278
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_STRIPS, _TILES = (273, 279), (324, 325)
_FORMS = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
"""Types of TIFF 6.0 and BigTIFF that offsets and sizes may have."""
_MOST_DIRECTORIES = 1024
_MOST_BYTES = 1 << 30
"""A tile inflated, a list of offsets."""
_PIECE_BYTES = 1 << 16
_LOCAL_FILES = 512
"""Local files whose tested tiles are remembered."""


class Damaged(Exception):
    """Bytes of a file are not those that were written."""


@dataclass(frozen=True, slots=True)
class Directory:
    """The DEFLATE tiles of an image, an overview or a mask.

    `shape`, `tile`: (rows, cols) in pixels; `offsets`, `sizes`: int64 (n,), row by row, and where
    bands lie apart band by band. A sparse tile has no bytes.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    def touching(self, rows: slice, cols: slice) -> Iterator[Range]:
        """Yield (offset, size) of every tile that holds pixels of a window."""
        down, across = (-(-a // b) for a, b in zip(self.shape, self.tile, strict=True))
        row = np.arange(rows.start // self.tile[0], min(-(-rows.stop // self.tile[0]), down))
        col = np.arange(cols.start // self.tile[1], min(-(-cols.stop // self.tile[1]), across))
        plane = np.arange(0, len(self.offsets), down * across)
        numbers = (plane[:, None, None] + row[:, None] * across + col).reshape(-1)
        for number in numbers[numbers < len(self.offsets)].tolist():
            if self.sizes[number] > 0 and self.offsets[number] > 0:
                yield int(self.offsets[number]), int(self.sizes[number])


class TileChecksums:
    """Where the DEFLATE tiles of a file lie: its image, overviews and masks."""

    def __init__(self, read: ReadAt) -> None:
        """Read the directories; Damaged when they make no sense."""
        try:
            self.directories = _directories(read)
        except (ValueError, KeyError, IndexError, OverflowError, ZeroDivisionError):
            raise Damaged("its directories make no sense") from None
        starts, sizes = (
            np.concatenate([np.zeros(0, np.int64), *(getattr(d, name) for d in self.directories)])
            for name in ("offsets", "sizes")
        )
        exists = (starts > 0) & (sizes > 0)
        self._starts, self._stops = starts[exists], (starts + sizes)[exists]
        self._checked: dict[int, int] = {}

    @property
    def tiles(self) -> list[Range]:
        """Return (offset, size) of every tile, in the order of the directories."""
        sizes = self._stops - self._starts
        return list(zip(self._starts.tolist(), sizes.tolist(), strict=True))

    def check(self, wanted: Range, data: bytes, read: ReadAt) -> None:
        """Test the tiles in a range whose bytes are `data`.

        A part of a tile is compared with the whole one, which is read. Damaged when a checksum
        fails. A tile that passed is afterwards known by the CRC-32 of its compressed bytes.
        """
        first, stop = wanted[0], sum(wanted)
        touched = (self._starts < stop) & (self._stops > first)
        for start, end in zip(
            self._starts[touched].tolist(), self._stops[touched].tolist(), strict=True
        ):
            if first <= start and end <= stop:
                self.check_tile(start, data[start - first : end - first])
            elif start <= first and stop <= end:
                whole = read(start, end - start)
                self.check_tile(start, whole)
                if whole[first - start : stop - start] != data:
                    raise Damaged("two reads of the same bytes differ")
            # Else a directory beside the tile is read: nobody takes pixels from such a range.

    def check_tile(self, start: int, tile: bytes) -> None:
        """Test the bytes of the tile at an offset; Damaged when its checksum fails."""
        digest = zlib.crc32(tile)
        if self._checked.get(start) == digest:
            return
        stream, size = zlib.decompressobj(), 0
        try:
            for at in range(0, len(tile), _PIECE_BYTES):
                size += len(stream.decompress(tile[at : at + _PIECE_BYTES]))
                if size > _MOST_BYTES or stream.eof:
                    break
        except zlib.error:
            raise Damaged("the checksum of an internal tile does not match") from None
        if not stream.eof:
            raise Damaged("an internal tile ends early, or holds more than 1 GiB")
        self._checked[start] = digest


class LocalTiles:
    """The tiles of a local file, tested whenever pixels of them are read: a disk may err later."""

    def __init__(self, path: str) -> None:
        """Read the directories; Damaged when they make no sense, OSError when they cannot be
        read."""
        self._path = path
        with Path(path).open("rb") as file:
            self._checksums = TileChecksums(lambda at, size: _read_at(file, at, size))

    def check(self, shape: tuple[int, int], rows: slice, cols: slice) -> None:
        """Test the tiles under a window of the image, or of its overview, of a shape (rows, cols),
        and those of its mask. Damaged when a checksum fails, OSError."""
        directories = [each for each in self._checksums.directories if each.shape == shape]
        if not directories:  # nothing there has a checksum
            return
        with Path(self._path).open("rb") as file:
            for directory in directories:
                for start, size in directory.touching(rows, cols):
                    self._checksums.check_tile(start, _read_at(file, start, size))


@lru_cache(_LOCAL_FILES)
def local_tiles(path: str, identity: str) -> LocalTiles:
    """Return the tiles of a local file that is what `identity` says; errors as `LocalTiles`."""
    del identity  # another file, other tiles
    return LocalTiles(path)


def _read_at(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _directories(read: ReadAt) -> list[Directory]:
    """Return every directory whose tiles or strips are DEFLATE."""
    order = {b"II": "<", b"MM": ">"}[read(0, 2)]
    is_big = _ints(read(2, 2), order + "u2")[0] == 43
    word, entries_form = (order + "u8", order + "u8") if is_big else (order + "u4", order + "u2")
    wide = np.dtype(word).itemsize
    entry = np.dtype(
        [("tag", order + "u2"), ("type", order + "u2"), ("count", word), ("value", f"V{wide}")]
    )
    directories: list[Directory] = []
    seen: set[int] = set()
    at = _ints(read(wide, wide), word)[0]
    while at and at not in seen:
        seen.add(at)
        lead = np.dtype(entries_form).itemsize
        size = _ints(read(at, lead), entries_form)[0] * entry.itemsize
        if size > _MOST_BYTES or len(seen) > _MOST_DIRECTORIES:
            raise ValueError
        block = read(at + lead, size + wide)
        tags = {int(each["tag"]): each for each in np.frombuffer(block[:size], entry)}
        at = _ints(block[size:], word)[0]

        def values(tag: int, tags: dict[int, np.void] = tags) -> Sequence[int]:
            each = tags[tag]
            form = order + _FORMS[int(each["type"])]
            nbytes = int(each["count"]) * np.dtype(form).itemsize
            if nbytes > _MOST_BYTES:
                raise ValueError
            data = each["value"].tobytes()[:nbytes]
            if nbytes > wide:
                data = read(_ints(each["value"].tobytes(), word)[0], nbytes)
                if len(data) < nbytes:
                    raise ValueError
            return _ints(data, form)

        if _COMPRESSION in tags and values(_COMPRESSION)[0] in _DEFLATE:
            rows, cols = values(_LENGTH)[0], values(_WIDTH)[0]
            if _TILES[0] in tags:
                tile, lists = (values(_TILE_LENGTH)[0], values(_TILE_WIDTH)[0]), _TILES
            else:
                most = values(_ROWS_PER_STRIP)[0] if _ROWS_PER_STRIP in tags else rows
                tile, lists = (min(most, rows), cols), _STRIPS
            offsets, sizes = (np.array(values(each), np.int64) for each in lists)
            if not (rows and cols and all(tile)) or offsets.shape != sizes.shape:
                raise ValueError
            directories.append(Directory((rows, cols), tile, offsets, sizes))
    return directories


def _ints(data: bytes, form: str) -> list[int]:
    return [int(each) for each in np.frombuffer(data, form)]
