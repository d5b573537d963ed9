"""A canvas: a rectangle of pixels in any CRS, and the classes under their centers.

A pixel shows what a point query at its center answers: blocks are looked up, never resampled.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from affine import Affine

from app.grid.classified import SceneRef
from app.grid.pixel_grid import (
    LONLAT,
    NORTH,
    Block,
    Bounds,
    Cells,
    PixelGrid,
    central_meridian,
    transformer,
)
from app.landcover.blocks import LandCover, Selection
from app.scheduling import ahead
from model.legend import NODATA
from model.windows import BLOCK, Window

_SHIFT = BLOCK.bit_length() - 1
_EAST = 1 << 31
"""Added to block columns, which are negative west of some projections' origin."""

Classes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Lattice:
    """All pixels of a CRS and a resolution; rows count south from y = `north`.

    Pixel (col, row) is the square whose upper-left corner is x = col · res, y = north − row · res.
    """

    crs: str
    resolution: float
    north: float = NORTH

    @classmethod
    def of(cls, grid: PixelGrid) -> Lattice:
        """A work grid's own pixels."""
        return cls(grid.crs, grid.resolution)

    def is_of(self, grid: PixelGrid) -> bool:
        """Whether its pixels are those of the grid."""
        return self == Lattice.of(grid)

    def touching(self, bounds: Bounds) -> Window:
        """The pixels that share ground with `bounds` of its CRS."""
        left, bottom, right, top = bounds
        moved = (left, bottom - self.north + NORTH, right, top - self.north + NORTH)
        return PixelGrid(self.crs, self.resolution).touching(moved)

    def transform(self, window: Window) -> Affine:
        """Affine of an array that holds `window`."""
        left, top = window.col * self.resolution, self.north - window.row * self.resolution
        return Affine(self.resolution, 0, left, 0, -self.resolution, top)

    def centers(self, window: Window) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """x (rows, cols) and y (rows, cols) of the pixels' centers."""
        x = (np.arange(window.col, window.col_stop) + 0.5) * self.resolution
        y = self.north - (np.arange(window.row, window.row_stop) + 0.5) * self.resolution
        across, down = np.meshgrid(x, y)
        return across, down


@dataclass(frozen=True, slots=True)
class Shown:
    """`classes`: uint8 (rows, cols), 255 = nodata; the scenes they are from."""

    classes: Classes
    scenes: tuple[SceneRef, ...]


async def classes_under(
    landcover: LandCover,
    selection: Selection,
    lattice: Lattice,
    window: Window,
    wanted: Mask | None = None,
) -> Shown:
    """The classes of the pixels of `window` that are `wanted`, bool of its shape (None: all).

    Each pixel asks the work grid whose central meridian is nearest, then the next one.
    """
    array = np.full(window.shape, NODATA, dtype=np.uint8)
    still = np.ones(window.shape, dtype=bool) if wanted is None else wanted.copy()
    scenes: dict[SceneRef, None] = {}
    grids = sorted(selection.source.grids())
    for first in _ranks(lattice, grids, window):
        for number, grid in enumerate(grids):
            here = still & (first == number)
            if here.any():
                scenes |= await _place(landcover, selection, lattice, window, grid, here, array)
        still &= array == NODATA
    return Shown(array, tuple(scenes))


def _ranks(lattice: Lattice, grids: list[PixelGrid], window: Window) -> list[npt.NDArray[np.intp]]:
    """For every rank the number of the grid that has it: one for all pixels, (1, 1), or each's."""
    if len(grids) == 1:
        return [np.zeros((1, 1), dtype=np.intp)]
    x, y = lattice.centers(window)
    longitude = transformer(lattice.crs, LONLAT).transform
    corners, _ = longitude(
        x[:: window.rows - 1 or 1, :: window.cols - 1 or 1].ravel(),
        y[:: window.rows - 1 or 1, :: window.cols - 1 or 1].ravel(),
    )
    order = _nearest(grids, np.array([[min(corners), max(corners)]]))
    if (order[:, :, 0] == order[:, :, 1]).all():
        # Going east two grids change places once: the same at both ends is the same between.
        return list(order[:, :, :1])
    everywhere, _ = longitude(x, y)
    return list(_nearest(grids, everywhere))


def _nearest(grids: list[PixelGrid], longitude: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """(ranks, rows, cols): the numbers of the grids by the distance of their central meridian."""
    distance = np.stack([np.abs(longitude - central_meridian(grid.crs)) for grid in grids])
    order: npt.NDArray[np.intp] = np.argsort(distance, axis=0, kind="stable")
    return order


async def _place(
    landcover: LandCover,
    selection: Selection,
    lattice: Lattice,
    window: Window,
    grid: PixelGrid,
    wanted: Mask,
    array: Classes,
) -> dict[SceneRef, None]:
    """Writes the pixels of `wanted` from the blocks of one grid into `array`."""
    block = Block.of(grid, window)
    if lattice.is_of(grid) and block.window == window:
        found = await landcover.block(selection, block)
        if found is None:
            return {}
        np.copyto(array, found.classes, where=wanted)
        return dict.fromkeys(found.scenes)
    where = np.flatnonzero(wanted)
    cols, rows = _cells(lattice, grid, window, where)
    address = ((rows >> _SHIFT) << 32) + (cols >> _SHIFT) + _EAST
    # Sorted once, so that many blocks under a coarse canvas do not each look at every pixel.
    order = np.argsort(address, kind="stable")
    addresses, starts = np.unique(address[order], return_index=True)
    blocks = [
        Block(grid, (value & 0xFFFFFFFF) - _EAST, value >> 32) for value in addresses.tolist()
    ]
    pixels = dict(zip(blocks, np.split(order, starts[1:]), strict=True))
    needed = [block for block in blocks if landcover.scenes(selection, block)]
    scenes: dict[SceneRef, None] = {}
    results = ahead(
        needed, lambda block: landcover.block(selection, block), 2 * landcover.infers.workers
    )
    flat = array.reshape(-1)
    async with aclosing(results):
        async for block, found in results:
            if found is not None:
                inner = pixels[block]
                row, col = rows[inner] & (BLOCK - 1), cols[inner] & (BLOCK - 1)
                flat[where[inner]] = found.classes[row, col]
                scenes |= dict.fromkeys(found.scenes)
    return scenes


def _cells(
    lattice: Lattice, grid: PixelGrid, window: Window, where: npt.NDArray[np.intp]
) -> tuple[Cells, Cells]:
    """(cols, rows) of the grid's pixels that hold the centers of the window's flat pixels."""
    row, col = np.divmod(where, window.cols)
    if lattice.is_of(grid):
        return col + window.col, row + window.row
    x = (col + window.col + 0.5) * lattice.resolution
    y = lattice.north - (row + window.row + 0.5) * lattice.resolution
    east, north = transformer(lattice.crs, grid.crs).transform(x, y)
    known = np.isfinite(east) & np.isfinite(north)
    # Where the projection ends there is no imagery either: no scene holds row −1.
    return grid.cells(np.where(known, east, 0.0), np.where(known, north, NORTH + 0.5))
