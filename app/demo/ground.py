"""The ground being drawn: material, tone and height of each square meter, later things on top.

Local coordinates are meters east (x) and south (y) of the county's north-west corner, so the
pixel (row, col) is the square from (col, row) to (col + 1, row + 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from app.demo.material import Material
from app.demo.noise import Field

ROWS, COLS = 3400, 3000
"""Size of the county in pixels of one meter."""


class Ground:
    """Rasters of the county, each (rows, cols): `material` uint8, `tone` and `height` float32.

    `tone` is a factor on brightness, `height` is meters above the ground.
    """

    def __init__(self) -> None:
        self.material: npt.NDArray[np.uint8] = np.zeros((ROWS, COLS), dtype=np.uint8)
        self.tone: Field = np.ones((ROWS, COLS), dtype=np.float32)
        self.height: Field = np.zeros((ROWS, COLS), dtype=np.float32)

    def fill(
        self,
        shapes: Sequence[BaseGeometry],
        material: Material,
        tone: float = 1.0,
        height: float = 0.0,
    ) -> None:
        """Cover the pixels whose centers lie in `shapes` (local meters)."""
        where, mask = self.mask(shapes)
        self.material[where][mask] = material
        self.tone[where][mask] = tone
        self.height[where][mask] = height

    def mask(
        self, shapes: Sequence[BaseGeometry]
    ) -> tuple[tuple[slice, slice], npt.NDArray[np.bool_]]:
        """The window around `shapes` and, inside it, bool (rows, cols): True = covered."""
        drawn = [shape for shape in shapes if not shape.is_empty]
        bounds = np.array([shape.bounds for shape in drawn] or [(0, 0, 0, 0)])
        left, top = (math.floor(v) for v in bounds[:, :2].min(axis=0))
        right, bottom = (math.ceil(v) for v in bounds[:, 2:].max(axis=0))
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, COLS), min(bottom, ROWS)
        where = (slice(top, max(top, bottom)), slice(left, max(left, right)))
        if not drawn or bottom <= top or right <= left:
            return where, np.zeros((max(0, bottom - top), max(0, right - left)), dtype=np.bool_)
        burned = rasterize(
            drawn,
            out_shape=(bottom - top, right - left),
            transform=Affine.translation(left, top),
            dtype="uint8",
        )
        return where, burned.astype(np.bool_)

    def block(
        self,
        center: tuple[float, float],
        half: tuple[float, float],
        angle: float,
        material: Material,
        tone: float = 1.0,
        wall: float = 0.0,
        pitch: float = 0.0,
        *,
        gable: bool = False,
    ) -> None:
        """A rectangle of `half` length and width (meters) turned by `angle` (radians).

        With `pitch` (rise over run) it carries a hip or `gable` roof on a `wall` of that many
        meters; what is already higher there stays, so two blocks make an L-shaped house.
        """
        window = self._around(center, math.hypot(*half))
        if window is None:
            return
        where, x, y = window
        along = np.abs(x * math.cos(angle) + y * math.sin(angle))
        across = np.abs(y * math.cos(angle) - x * math.sin(angle))
        inside = (along <= half[0]) & (across <= half[1])
        run = half[1] - across
        rise = wall + pitch * (run if gable else np.minimum(half[0] - along, run))
        inside &= rise >= np.where(self.material[where] == material, self.height[where], 0)
        self.material[where][inside] = material
        self.tone[where][inside] = tone
        self.height[where][inside] = rise[inside]

    def crown(
        self,
        center: tuple[float, float],
        radius: float,
        tone: float = 1.0,
        material: Material = Material.YARD_TREE,
    ) -> None:
        """A single tree: a dome about as high as it is wide."""
        window = self._around(center, radius)
        if window is None:
            return
        where, x, y = window
        turn = np.arctan2(y, x) * 3 + center[0]
        reach = radius * (1 + 0.14 * np.sin(turn) + 0.08 * np.sin(2.3 * turn))
        left = 1 - (x * x + y * y) / (reach * reach)
        inside = left > 0
        self.material[where][inside] = material
        self.tone[where][inside] = tone
        self.height[where][inside] = (radius * (0.7 + 1.1 * np.sqrt(np.maximum(left, 0))))[inside]

    def _around(
        self, center: tuple[float, float], reach: float
    ) -> tuple[tuple[slice, slice], Field, Field] | None:
        left, top = int(center[0] - reach) - 1, int(center[1] - reach) - 1
        right, bottom = int(center[0] + reach) + 2, int(center[1] + reach) + 2
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, COLS), min(bottom, ROWS)
        if right <= left or bottom <= top:
            return None
        x = (np.arange(left, right, dtype=np.float32) + 0.5 - center[0])[None, :]
        y = (np.arange(top, bottom, dtype=np.float32) + 0.5 - center[1])[:, None]
        return (slice(top, bottom), slice(left, right)), x, y
