"""Imagery on a work grid whose pixels are others: finer, coarser, in degrees, feet, turned.

Finer pixels are averaged over the area of each grid pixel. An image that does not lie on a grid is
sampled where each pixel's center falls in it, by bilinear interpolation between image pixels made
about as large as the grid's. Nothing depends on the window that is read, so that a pixel is the
same in every request: control points and averages begin at fixed multiples of their size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.windows import Window as RasterWindow

from app.grid.interpolate import Positions, between, control_points, sample
from app.grid.pixel_grid import NORTH, PixelGrid, transformer
from app.imagery.raster import FROM_OVERVIEWS, Image, Level, Raster, Valid
from app.imagery.scene import Georeference, Resampling, Scene
from model.windows import Window

Floats = npt.NDArray[np.float32]

_STRIP_BYTES = 32_000_000
"""Image read at once: an estimate of a file without overviews spans all of it."""

_ALL = 1 - 1e-4
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Taps:
    """Which pixels of one axis of an image make each pixel of a result, and by which weight.

    `first`: int (n,), the first of them; `weights`: float32 (taps, n), of those that follow it.
    """

    first: npt.NDArray[np.int64]
    weights: Floats

    @classmethod
    def of(cls, starts: npt.NDArray[np.floating[Any]], ratio: float, kind: Resampling) -> Taps:
        """Return the taps of pixels `ratio` image pixels long that begin at `starts`, float64 (n,).

        `average`: by the share of each image pixel (a box); `bilinear`: by its distance from the
        center (a triangle twice as wide); `nearest`: the image pixel at the center. Pixels finer
        than the image's are interpolated between two.
        """
        starts = np.round(starts, 6)
        centers = starts + ratio / 2
        if kind == "nearest" and ratio > 1:
            return cls(np.floor(centers).astype(np.int64), np.ones((1, len(starts)), np.float32))
        is_box = ratio >= 1 and kind == "average"
        reach = ratio / 2 if is_box else max(ratio, 1.0)
        first = np.floor(centers - reach + (0 if is_box else 0.5)).astype(np.int64)
        pixels = first + np.arange(math.ceil(2 * reach) + 1)[:, None]
        if is_box:
            ends = np.minimum(pixels + 1, centers + reach), np.maximum(pixels, centers - reach)
            weights = np.maximum(ends[0] - ends[1], 0)
        else:
            weights = np.maximum(1 - np.abs(pixels + 0.5 - centers) / reach, 0)
        weights[weights < 1e-6] = 0
        used = np.flatnonzero(weights.any(axis=1))[-1] + 1
        weights = weights[:used] / weights.sum(axis=0)
        return cls(first, weights.astype(np.float32))

    def span(self, size: int) -> tuple[int, int]:
        """Return the pixels (start, stop) of an axis of `size` that are needed."""
        start, stop = int(self.first.min()), int(self.first.max()) + len(self.weights)
        return min(max(start, 0), size - 1), max(min(stop, size), 1)

    def part(self, start: int, stop: int) -> Taps:
        """Return the taps of some pixels of the result."""
        return Taps(self.first[start:stop], self.weights[:, start:stop])

    def gather(self, values: Floats, begin: int, axis: int) -> Floats:
        """Return float32 (…) whose `axis`, -1 or -2, is n long; that of `values` begins at pixel
        `begin`, and beyond its edges its last pixel is repeated."""
        last = values.shape[axis] - 1
        shape = (-1, 1) if axis == -2 else (-1,)
        total: Floats | None = None
        for number, weight in enumerate(self.weights):
            at = np.clip(self.first - begin + number, 0, last)
            term = np.take(values, at, axis=axis)
            term *= weight.reshape(shape)
            total = term if total is None else np.add(total, term, out=total)
        assert total is not None  # noqa: S101 - there is one tap at least
        return total


def read_scaled(
    raster: Raster, scene: Scene, grid: PixelGrid, window: Window
) -> tuple[Image, Valid]:
    """Return `window` of `grid`, uint8 (4, rows, cols), and bool (rows, cols), True = data, of an
    upright scene in the grid's CRS."""
    ratio = grid.resolution / scene.resolution
    level = raster.level(ratio)
    left, bottom, right, top = scene.bounds
    rows, cols = level.shape
    across, down = cols / (right - left), rows / (top - bottom)
    x = np.arange(window.col, window.col_stop, dtype=np.float64) * grid.resolution
    y = NORTH - np.arange(window.row, window.row_stop, dtype=np.float64) * grid.resolution
    kind = scene.resampling
    return _reduced(
        raster,
        scene,
        level,
        Taps.of((top - y) * down, grid.resolution * down, kind),
        Taps.of((x - left) * across, grid.resolution * across, kind),
        _ALL if ratio < FROM_OVERVIEWS else _HALF,
    )


def read_resampled(
    raster: Raster, scene: Scene, native: Georeference, grid: PixelGrid, window: Window
) -> tuple[Image, Valid]:
    """Return `window` of `grid`, uint8 (4, rows, cols), and bool (rows, cols), True = data, of a
    scene that does not lie on it; no data where the image does not reach."""
    image = np.zeros((len(scene.bands), *window.shape), dtype=np.uint8)
    valid = np.zeros(window.shape, dtype=np.bool_)
    ratio = grid.resolution / scene.resolution
    level = raster.level(ratio)
    factor = 1 << max(0, round(math.log2(ratio / math.sqrt(level.scale[0] * level.scale[1]))))
    rows, cols = (max(length // factor, 1) for length in level.shape)
    across, down = _positions(native, grid, window)
    across = across / (factor * level.scale[0]) - 0.5
    down = down / (factor * level.scale[1]) - 0.5
    inside = (across >= -0.5) & (across <= cols - 0.5) & (down >= -0.5) & (down <= rows - 0.5)
    if not inside.any():
        return image, valid
    left, right = _span(across[inside], cols)
    top, bottom = _span(down[inside], rows)
    share = _ALL if ratio < FROM_OVERVIEWS else _HALF
    across_taps, down_taps = (
        Taps.of(np.arange(start, stop, dtype=np.float64) * factor, factor, scene.resampling)
        for start, stop in ((left, right), (top, bottom))
    )
    pixels, data = _reduced(raster, scene, level, down_taps, across_taps, share)
    where = across[inside] - left, down[inside] - top
    image[:, inside] = np.rint(sample(pixels, *where))
    if data.all():
        valid[inside] = True
    else:
        valid[inside] = sample(data[None].astype(np.uint8), *where)[0] >= _ALL
    return image, valid


def _reduced(
    raster: Raster, scene: Scene, level: Level, rows: Taps, cols: Taps, share: float
) -> tuple[Image, Valid]:
    """Return the pixels that the taps make of a level, uint8 (4, rows, cols), and bool (rows,
    cols): True where at least `share` of their weight is data, of which alone they are made."""
    image = np.zeros((len(scene.bands), len(rows.first), len(cols.first)), dtype=np.uint8)
    valid = np.zeros(image.shape[1:], dtype=np.bool_)
    height, width = level.shape
    left, right = cols.span(width)
    for start, stop in _strips(rows, right - left, len(scene.bands)):
        down = rows.part(start, stop)
        top, bottom = down.span(height)
        pixels, data = _read(raster, scene, level, (left, top, right, bottom))
        sums = pixels.astype(np.float32)
        if not data.all():
            sums *= data
        made = cols.gather(down.gather(sums, top, -2), left, -1)
        if data.all():
            valid[start:stop] = True
        else:
            of_data = cols.gather(down.gather(data.astype(np.float32), top, -2), left, -1)
            valid[start:stop] = of_data >= share
            made /= np.maximum(of_data, 1e-3)
        image[:, start:stop] = np.rint(made, out=made)
    return image, valid


def _read(
    raster: Raster, scene: Scene, level: Level, bounds: tuple[int, int, int, int]
) -> tuple[Image, Valid]:
    """Return the pixels left, top, right, bottom of a level; of an overview those that touch no
    data count as none, as they may have some of it mixed in."""
    left, top, right, bottom = bounds
    more = 0 if level.number is None else 1
    rows, cols = level.shape
    first_col, first_row = max(left - more, 0), max(top - more, 0)
    wide = min(right + more, cols) - first_col
    tall = min(bottom + more, rows) - first_row
    window = RasterWindow(first_col, first_row, wide, tall)
    image, valid = raster.read(scene.bands, scene.nodata, level, window)
    if more and not valid.all():
        valid = _eroded(valid)
    part = (
        slice(top - first_row, bottom - first_row),
        slice(left - first_col, right - first_col),
    )
    return image[:, *part], valid[part]


def _strips(rows: Taps, width: int, bands: int) -> Iterator[tuple[int, int]]:
    """Yield rows of the result (start, stop) so that not too much is read at once."""
    count = len(rows.first)
    reach = int(rows.first.max()) - int(rows.first.min()) + len(rows.weights)
    step = max(1, int(count * _STRIP_BYTES / (bands * width * reach)))
    for start in range(0, count, step):
        yield start, min(start + step, count)


def _eroded(valid: Valid) -> Valid:
    """Return `valid` without the pixels that touch an invalid one."""
    padded = np.pad(valid, 1, mode="edge")
    rows, cols = valid.shape
    out = valid.copy()
    for down in range(3):
        for right in range(3):
            out &= padded[down : down + rows, right : right + cols]
    return out


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
