"""The one bilinear interpolation: of images at fractional positions, and of projections between
control points every 16 pixels (PROJ takes 12 ms for the pixels of one tile)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

EVERY = 16
"""Pixels from one control point to the next, in both directions."""

Positions = npt.NDArray[np.float64]


def sample(
    image: npt.NDArray[np.uint8], cols: Positions, rows: Positions
) -> npt.NDArray[np.float32]:
    """Return an image, uint8 (bands, rows, cols), at positions of any shape, float64.

    Position (0, 0) is the center of the first pixel; beyond the edges the last pixel is repeated.
    The result is float32 (bands, *shape of the positions).
    """
    last_row, last_col = image.shape[-2] - 1, image.shape[-1] - 1
    col, row = np.floor(cols).astype(np.intp), np.floor(rows).astype(np.intp)
    right, down = (cols - col).astype(np.float32), (rows - row).astype(np.float32)
    west, east = np.clip(col, 0, last_col), np.clip(col + 1, 0, last_col)
    north, south = np.clip(row, 0, last_row), np.clip(row + 1, 0, last_row)
    upper = image[:, north, west] * (1 - right) + image[:, north, east] * right
    lower = image[:, south, west] * (1 - right) + image[:, south, east] * right
    return np.asarray(upper * (1 - down) + lower * down, dtype=np.float32)


def control_points(start: int, stop: int) -> npt.NDArray[np.intp]:
    """Return the multiples of `EVERY` that the pixels `start`..`stop` (excluded) lie between.

    They are fixed on the grid, so that nothing depends on the window that is read.
    """
    return np.arange(start // EVERY, (stop - 1) // EVERY + 2, dtype=np.intp) * EVERY


def between(points: Positions, cols: Positions, rows: Positions) -> Positions:
    """Return values at pixel positions from those at control points, float64 (rows, cols).

    `points`: float64 (n, m), its first one at position (0, 0), the others every `EVERY` pixels.
    `cols`, `rows`: float64 (cols,) and (rows,), ascending, within the points. By hand, as a matrix
    product would wake the threads of BLAS.
    """
    col, row = (cols // EVERY).astype(np.intp), (rows // EVERY).astype(np.intp)
    right, down = cols / EVERY - col, (rows / EVERY - row)[:, None]
    along = points[:, col] * (1 - right) + points[:, col + 1] * right
    return np.asarray(along[row] * (1 - down) + along[row + 1] * down)
