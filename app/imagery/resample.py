"""Imagery that does not lie on a work grid: degrees, feet, rotated or stretched pixels.

Each grid pixel is sampled where its center falls in the image, by bilinear interpolation between
image pixels made about as large as the grid's (averaged by a power of two: an overview, where there
is one). Nothing depends on the window that is read, so a pixel is the same whoever asks: positions
are interpolated between points at fixed multiples of 16 grid pixels, and averages begin at fixed
multiples of their size. GDAL's own warper approximates by chunks of what is asked, and takes a
fourth band tagged alpha for transparency: it does neither.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterWindow

from app.grid.pixel_grid import NORTH, PixelGrid, transformer
from app.imagery.scene import Georeference, Scene
from model.windows import Window

Image = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

_EVERY = 16


def read_mapped(
    dataset: rasterio.DatasetReader,
    scene: Scene,
    native: Georeference,
    grid: PixelGrid,
    window: Window,
) -> Image:
    """uint8 (4, rows, cols) of `window`; nodata in every band where the image does not reach."""
    image = np.full((4, *window.shape), int(scene.nodata), dtype=np.uint8)
    factor = 1 << max(0, round(math.log2(grid.resolution / scene.resolution)))
    rows, cols = (length // factor for length in native.shape)
    across, down = _positions(native, grid, window)
    across, down = across / factor - 0.5, down / factor - 0.5
    inside = (across >= -0.5) & (across <= cols - 0.5) & (down >= -0.5) & (down <= rows - 0.5)
    if not inside.any():
        return image
    left, right = _span(across[inside], cols)
    top, bottom = _span(down[inside], rows)
    part = RasterWindow(
        left * factor, top * factor, (right - left) * factor, (bottom - top) * factor
    )
    pixels = dataset.read(
        indexes=scene.bands,
        window=part,
        out_shape=(4, bottom - top, right - left),
        resampling=Resampling[scene.resampling] if factor > 1 else Resampling.nearest,
    )
    image[:, inside] = _sampled(pixels, across[inside] - left, down[inside] - top)
    return image


def _positions(native: Georeference, grid: PixelGrid, window: Window) -> tuple[Doubles, Doubles]:
    """Where the centers of the window's pixels fall in the image: its columns and rows, from the
    outer edge of the first one, each float64 (rows, cols)."""
    first_col, first_row = window.col // _EVERY, window.row // _EVERY
    knot_cols = np.arange(first_col, (window.col_stop - 1) // _EVERY + 2) * _EVERY
    knot_rows = np.arange(first_row, (window.row_stop - 1) // _EVERY + 2) * _EVERY
    x, y = np.meshgrid(knot_cols * grid.resolution, NORTH - knot_rows * grid.resolution)
    there = transformer(grid.crs, native.crs).transform(x, y)
    to_pixels = ~Affine(*native.transform)
    placed = (
        to_pixels.a * there[0] + to_pixels.b * there[1] + to_pixels.c,
        to_pixels.d * there[0] + to_pixels.e * there[1] + to_pixels.f,
    )
    col = np.arange(window.col, window.col_stop, dtype=np.float64) + 0.5
    row = np.arange(window.row, window.row_stop, dtype=np.float64) + 0.5
    across, down = (
        _between(np.asarray(knots), np.asarray(col), np.asarray(row), first_col, first_row)
        for knots in placed
    )
    return across, down


def _between(knots: Doubles, col: Doubles, row: Doubles, first_col: int, first_row: int) -> Doubles:
    """Bilinear between the knots, at grid positions."""
    i, j = (col // _EVERY).astype(np.intp), (row // _EVERY).astype(np.intp)
    right, low = col / _EVERY - i, (row / _EVERY - j)[:, None]
    i, j = i - first_col, j - first_row
    along = knots[:, i] * (1 - right) + knots[:, i + 1] * right
    return np.asarray(along[j] * (1 - low) + along[j + 1] * low)


def _span(positions: Doubles, count: int) -> tuple[int, int]:
    """The pixels that positions (0: the first one's center) lie between, and one more."""
    first, last = math.floor(float(positions.min())) - 1, math.floor(float(positions.max())) + 3
    return max(first, 0), min(last, count)


def _sampled(pixels: Image, across: Doubles, down: Doubles) -> Image:
    """(4, rows, cols) at positions (n,) → uint8 (4, n)."""
    rows, cols = pixels.shape[1:]
    i, j = np.floor(across).astype(np.intp), np.floor(down).astype(np.intp)
    right, low = (across - i).astype(np.float32), (down - j).astype(np.float32)
    west, east = np.clip(i, 0, cols - 1), np.clip(i + 1, 0, cols - 1)
    north, south = np.clip(j, 0, rows - 1), np.clip(j + 1, 0, rows - 1)
    upper = pixels[:, north, west] * (1 - right) + pixels[:, north, east] * right
    lower = pixels[:, south, west] * (1 - right) + pixels[:, south, east] * right
    sampled: Image = np.rint(upper * (1 - low) + lower * low).astype(np.uint8)
    return sampled
