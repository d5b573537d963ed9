"""Checksums of a TIFF's DEFLATE tiles, tested before GDAL is given their bytes.

Each tile (or strip) is a zlib stream that ends with the Adler-32 of its pixels (RFC 1950). libtiff
stops inflating when a tile is full and never looks at it, so that a single damaged bit can become
other pixels without an error. LZW, ZSTD (as libtiff writes it), JPEG and uncompressed tiles have no
checksum: of them nothing can be known.

The directories are read here, not asked of GDAL, which does not say where the tiles of a mask lie.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from app.imagery.store.range_cache import Range

ReadAt = Callable[[int, int], bytes]
"""(offset, size) → the bytes there; fewer at the end of the file."""

_DEFLATE = frozenset({8, 32946})
_COMPRESSION, _STRIPS, _TILES = 259, (273, 279), (324, 325)
_FORMS = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
"""Types of TIFF 6.0 and BigTIFF that offsets and sizes may have."""
_MOST_DIRECTORIES = 1024
_MOST_BYTES = 1 << 30
"""A tile inflated, a list of offsets."""
_PIECE_BYTES = 1 << 16


class Damaged(Exception):
    """Bytes of a file are not those that were written."""


class TileChecksums:
    """Where the DEFLATE tiles of a file lie: its image, overviews and masks."""

    def __init__(self, read: ReadAt) -> None:
        """Read the directories; Damaged when they make no sense."""
        try:
            self._starts, sizes = _deflate_tiles(read)
        except (ValueError, KeyError, IndexError, OverflowError):
            raise Damaged("its directories make no sense") from None
        self._stops = self._starts + sizes
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
                self._check(start, data[start - first : end - first])
            elif start <= first and stop <= end:
                whole = read(start, end - start)
                self._check(start, whole)
                if whole[first - start : stop - start] != data:
                    raise Damaged("two reads of the same bytes differ")
            # Else a directory beside the tile is read: nobody takes pixels from such a range.

    def _check(self, start: int, tile: bytes) -> None:
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


def _deflate_tiles(read: ReadAt) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the offsets and sizes of all DEFLATE tiles and strips, each int64 (n,)."""
    order = {b"II": "<", b"MM": ">"}[read(0, 2)]
    is_big = _ints(read(2, 2), order + "u2")[0] == 43
    word, entries_form = (order + "u8", order + "u8") if is_big else (order + "u4", order + "u2")
    wide = np.dtype(word).itemsize
    entry = np.dtype(
        [("tag", order + "u2"), ("type", order + "u2"), ("count", word), ("value", f"V{wide}")]
    )
    tables: list[npt.NDArray[np.int64]] = [np.zeros((2, 0), np.int64)]
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
            offsets, sizes = _TILES if _TILES[0] in tags else _STRIPS
            tables.append(np.array((values(offsets), values(sizes)), np.int64))
    # A sparse tile has no bytes.
    tiles = np.concatenate(tables, axis=1)
    tiles = tiles[:, (tiles[1] > 0) & (tiles[0] > 0)]
    return tiles[0], tiles[1]


def _ints(data: bytes, form: str) -> list[int]:
    return [int(each) for each in np.frombuffer(data, form)]
