"""Imagery that does not lie on a work grid: degrees, feet, rotated or stretched pixels.

Each grid pixel is sampled where its center falls in the image, by bilinear interpolation between
image pixels made about as large as the grid's (averaged by a power of two: an overview, where there
is one). Nothing depends on the window that is read, so that a pixel is the same in every request:
control points and averages begin at fixed multiples of their size. GDAL's own warper approximates
by chunks of the request, and takes a fourth band tagged alpha for transparency: it does neither.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterWindow

from app.grid.interpolate import Positions, between, control_points, sample
from app.grid.pixel_grid import NORTH, PixelGrid, transformer
from app.imagery.scene import Georeference, Scene
from model.windows import Window

Image = npt.NDArray[np.uint8]


def read_resampled(
    dataset: rasterio.DatasetReader,
    scene: Scene,
    native: Georeference,
    grid: PixelGrid,
    window: Window,
) -> Image:
    """Return `window` of `grid`, uint8 (4, rows, cols); nodata in every band where the image does
    not reach."""
    image = np.full((len(scene.bands), *window.shape), int(scene.nodata), dtype=np.uint8)
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
        out_shape=(len(scene.bands), bottom - top, right - left),
        resampling=Resampling[scene.resampling] if factor > 1 else Resampling.nearest,
    )
    image[:, inside] = np.rint(sample(pixels, across[inside] - left, down[inside] - top))
    return image


def _positions(
    native: Georeference, grid: PixelGrid, window: Window
) -> tuple[Positions, Positions]:
    """Return where the centers of the window's pixels fall in the image: its columns and rows, from
    the outer edge of the first one, each float64 (rows, cols)."""
    point_cols = control_points(window.col, window.col_stop)
    point_rows = control_points(window.row, window.row_stop)
    x, y = np.meshgrid(point_cols * grid.resolution, NORTH - point_rows * grid.resolution)
    there = transformer(grid.crs, native.crs).transform(x, y)
    to_pixels = ~Affine(*native.transform)
    across = to_pixels.a * there[0] + to_pixels.b * there[1] + to_pixels.c
    down = to_pixels.d * there[0] + to_pixels.e * there[1] + to_pixels.f
    cols = np.arange(window.col, window.col_stop) + 0.5 - point_cols[0]
    rows = np.arange(window.row, window.row_stop) + 0.5 - point_rows[0]
    return between(across, cols, rows), between(down, cols, rows)


def _span(positions: Positions, count: int) -> tuple[int, int]:
    """Return the pixels that positions (0: the first one's center) lie between, and one more."""
    first, last = math.floor(float(positions.min())) - 1, math.floor(float(positions.max())) + 3
    return max(first, 0), min(last, count)
