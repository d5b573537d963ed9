"""The work grid: one pixel lattice per projected CRS, the same for every scene, year and request.

Pixel (col, row) is the square whose upper-left corner is x = col · res, y = 10,000,000 − row · res
in the CRS: rows count southwards and are positive everywhere in UTM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from affine import Affine
from pyproj import CRS, Transformer

from model.windows import BLOCK, Window

NORTH = 10_000_000.0
"""y of the upper edge of row 0, meters."""

LONLAT = "OGC:CRS84"
"""Longitude and latitude in degrees, in that order."""

Bounds = tuple[float, float, float, float]
"""(left, bottom, right, top) in the units of a CRS."""

Cells = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, order=True)
class PixelGrid:
    """A projected CRS in meters and a ground resolution in meters per pixel."""

    crs: str
    resolution: float = 1.0

    def cells(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[Cells, Cells]:
        """(cols, rows) of the pixels that hold the points (x, y) of the grid's CRS."""
        cols = np.floor(x / self.resolution).astype(np.int64)
        rows = np.floor((NORTH - y) / self.resolution).astype(np.int64)
        return cols, rows

    def bounds(self, window: Window) -> Bounds:
        """Ground covered by a window, in the grid's CRS."""
        res = self.resolution
        return (
            window.col * res,
            NORTH - window.row_stop * res,
            window.col_stop * res,
            NORTH - window.row * res,
        )

    def touching(self, bounds: Bounds) -> Window:
        """The pixels that share ground with `bounds` (at least one)."""
        left, bottom, right, top = (value / self.resolution for value in bounds)
        north = NORTH / self.resolution
        col, row = math.floor(left), math.floor(north - top)
        cols, rows = math.ceil(right) - col, math.ceil(north - bottom) - row
        return Window(col, row, max(cols, 1), max(rows, 1))

    def inside(self, bounds: Bounds, tolerance: float = 1e-3) -> Window | None:
        """The pixels that lie within `bounds` to `tolerance` pixels, or None."""
        left, bottom, right, top = (value / self.resolution for value in bounds)
        north = NORTH / self.resolution
        col, row = math.ceil(left - tolerance), math.ceil(north - top - tolerance)
        cols = math.floor(right + tolerance) - col
        rows = math.floor(north - bottom + tolerance) - row
        return Window(col, row, cols, rows) if cols > 0 and rows > 0 else None

    def transform(self, window: Window) -> Affine:
        """Affine of an array that holds `window`."""
        left, _, _, top = self.bounds(window)
        return Affine(self.resolution, 0, left, 0, -self.resolution, top)


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """The address of 512 × 512 pixels of a work grid, aligned."""

    grid: PixelGrid
    col: int
    row: int

    @property
    def window(self) -> Window:
        """The pixels of the block."""
        return Window(self.col * BLOCK, self.row * BLOCK, BLOCK, BLOCK)

    @classmethod
    def of(cls, grid: PixelGrid, window: Window) -> Block:
        """The block whose pixels an aligned window is."""
        return cls(grid, window.col // BLOCK, window.row // BLOCK)


@lru_cache(maxsize=256)
def transformer(source: str, target: str) -> Transformer:
    """A cached (x, y) → (x, y) transformer; building one costs 20 ms, using it 0.03 ms."""
    return Transformer.from_crs(source, target, always_xy=True)


@lru_cache(maxsize=64)
def central_meridian(crs: str) -> float:
    """Longitude at which a projected CRS is truest: its central meridian, else its middle."""
    definition = CRS.from_user_input(crs)
    operation = definition.coordinate_operation
    for parameter in operation.params if operation else []:
        if parameter.name == "Longitude of natural origin":
            return float(parameter.value)
    area = definition.area_of_use
    return (area.west + area.east) / 2 if area else 0.0


def bounds_between(source: str, target: str, bounds: Bounds) -> Bounds:
    """`bounds` of CRS `source` as the enclosing bounds in CRS `target`, edges densified."""
    result: Bounds = transformer(source, target).transform_bounds(*bounds, densify_pts=21)
    return result
