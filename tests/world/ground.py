"""The made ground: what lies at any metric coordinate in any year, in closed form.

Wavy cells of about 37 × 41 m, each of one class, under a smooth light and a fine texture. A pixel
shows the ground at its center, so its bands and its class are known from its coordinates alone:
no file, no scene, no window. No band is ever 0 or 255. From one year to another about a third
of the cells change class, and the light moves on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Meters = Doubles | float
Bytes = npt.NDArray[np.uint8]

MIDDLE = 128.0
CONTRAST = 44.0
SIGNATURES = np.array(
    [
        [+1, +1, +1, +1],  # 1 buildings: bright
        [-1, -1, +1, +1],  # 2 roads
        [-1, -1, -1, -1],  # 3 water: dark
        [+1, +1, -1, -1],  # 4 bare
        [-1, +1, -1, +1],  # 5 forest: green and near infrared
        [+1, -1, +1, -1],  # 6 planted
    ],
    dtype=np.float64,
)
"""(class − 1, band): which side of `MIDDLE` a band of a class lies on, by `CONTRAST`."""

NORTH = 10_000_000.0
"""y of the upper edge of row 0 of the work grid, meters (DESIGN 2)."""


def class_at(x: Meters, y: Meters, year: int = 2017) -> Bytes:
    """The class, 1..6, at (x, y) in meters: uint8 of their broadcast shape."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    column = np.floor((x + 9 * np.sin(y / 23)) / 37).astype(np.int64)
    row = np.floor((y + 9 * np.sin(x / 29)) / 41).astype(np.int64)
    lasting = _hash(column, row, 0)
    this_year = _hash(column, row, year)
    changed = (this_year >> np.uint64(20)) % np.uint64(5) == 0
    value: Bytes = (1 + np.where(changed, this_year, lasting) % np.uint64(6)).astype(np.uint8)
    return value


def ground(x: Meters, y: Meters, year: int = 2017) -> Bytes:
    """Red, green, blue, near infrared at (x, y) in meters: uint8 (4, *broadcast shape)."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    index = class_at(x, y, year) - 1
    bands = []
    for band in range(4):
        light = 10 * _sine_of_sum(x / 61, y / 83 + 1.7 * band + 0.9 * year)
        texture = 5 * _sine_of_sum(1.3 * x, band - 0.7 * y)
        level = np.rint(MIDDLE + CONTRAST * SIGNATURES[index, band] + light + texture)
        bands.append(level.astype(np.uint8))
    return np.stack(bands)


def centers(
    left: float, top: float, cols: int, rows: int, resolution: float = 1.0
) -> tuple[Doubles, Doubles]:
    """x (1, cols) and y (rows, 1) of the pixel centers of a raster with this upper-left corner."""
    x = left + (np.arange(cols, dtype=np.float64) + 0.5) * resolution
    y = top - (np.arange(rows, dtype=np.float64) + 0.5) * resolution
    return x[None, :], y[:, None]


def on_grid(
    col: int, row: int, cols: int, rows: int, *, resolution: float = 1.0, year: int = 2017
) -> Bytes:
    """What a window of the work grid shows: uint8 (4, rows, cols)."""
    left, top = col * resolution, NORTH - row * resolution
    return ground(*centers(left, top, cols, rows, resolution), year)


def classes_on_grid(
    col: int, row: int, cols: int, rows: int, *, resolution: float = 1.0, year: int = 2017
) -> Bytes:
    """The true classes of a window of the work grid: uint8 (rows, cols), 1..6."""
    left, top = col * resolution, NORTH - row * resolution
    return class_at(*centers(left, top, cols, rows, resolution), year)


def _sine_of_sum(a: Doubles, b: Doubles) -> Doubles:
    """sin(a + b); for a row and a column this takes n + m sines instead of n × m."""
    result: Doubles = np.sin(a) * np.cos(b) + np.cos(a) * np.sin(b)
    return result


def _hash(i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.uint64]:
    """Integers → well mixed integers, the same on every platform."""
    with np.errstate(over="ignore"):
        mixed = i.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= j.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
        mixed ^= np.full_like(mixed, k) * np.uint64(0x165667B19E3779F9)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(32))
