"""How much of each pixel a polygon covers, exactly.

Every directed edge is cut at the pixels' borders. A piece that crosses a row by dy at x covers, of
the pixel it lies in, dy times what is to its right, and dy of every pixel further right; summed
over closed rings this is the signed area of the polygon in each pixel (Green's theorem, as in
scan-line rasterizers such as FreeType's).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

Doubles = npt.NDArray[np.float64]


def coverage(
    polygon: BaseGeometry, left: float, top: float, resolution: float, size: int
) -> Doubles:
    """float64 (size, size), 0..1: the share of each pixel that lies in `polygon`.

    Row 0 is in the north, its upper edge at `top`. The polygon, in the same units, must lie within
    the square and be valid.
    """
    starts, ends = _edges(polygon, left, top, resolution)
    for axis in (0, 1):
        starts, ends = _cut(starts, ends, axis)
    # Rounding may leave a point a hair outside.
    middle = np.clip((starts + ends) / 2, 0, size)
    col = np.floor(middle[:, 0]).astype(np.int64)
    row = np.minimum(np.floor(middle[:, 1]), size - 1).astype(np.int64)
    rise = ends[:, 1] - starts[:, 1]
    beyond = middle[:, 0] - col
    width = size + 2
    cells = np.concatenate([row * width + col, row * width + col + 1])
    amounts = np.concatenate([rise * (1 - beyond), rise * beyond])
    steps = np.bincount(cells, amounts, minlength=size * width).reshape(size, width)
    covered: Doubles = np.clip(steps.cumsum(axis=1)[:, :size], 0.0, 1.0)
    return covered


def _edges(
    polygon: BaseGeometry, left: float, top: float, resolution: float
) -> tuple[Doubles, Doubles]:
    """Starts and ends, (n, 2) as (col, row), of all edges: outer rings down in the west."""
    starts, ends = [], []
    for part in shapely.get_parts(polygon):
        if part.geom_type != "Polygon":
            continue  # a point or a line that an intersection left
        for number, ring in enumerate((part.exterior, *part.interiors)):
            points = shapely.get_coordinates(ring)
            outer = number == 0
            if shapely.is_ccw(ring) != outer:
                points = points[::-1]
            pixels = np.column_stack([points[:, 0] - left, top - points[:, 1]]) / resolution
            starts.append(pixels[:-1])
            ends.append(pixels[1:])
    if not starts:
        return np.zeros((0, 2)), np.zeros((0, 2))
    return np.concatenate(starts), np.concatenate(ends)


def _cut(starts: Doubles, ends: Doubles, axis: int) -> tuple[Doubles, Doubles]:
    """The segments cut wherever they cross a whole number along `axis`."""
    a, b = starts[:, axis], ends[:, axis]
    first = np.floor(np.minimum(a, b)) + 1
    last = np.ceil(np.maximum(a, b)) - 1
    lines = np.maximum(last - first + 1, 0).astype(np.int64)
    owner = np.repeat(np.arange(len(a)), lines + 1)
    piece = np.arange(len(owner)) - np.repeat(np.cumsum(lines + 1) - lines - 1, lines + 1)
    forth = (b >= a)[owner]
    line = np.where(forth, first[owner] + piece - 1, last[owner] - piece + 1)
    following = np.where(forth, line + 1, line - 1)
    length = np.where(b == a, 1.0, b - a)[owner]

    def at(place: Doubles) -> Doubles:
        share = ((place - a[owner]) / length)[:, None]
        points: Doubles = starts[owner] + share * (ends - starts)[owner]
        points[:, axis] = place
        return points

    opens, closes = (piece == 0)[:, None], (piece == lines[owner])[:, None]
    return np.where(opens, starts[owner], at(line)), np.where(closes, ends[owner], at(following))
