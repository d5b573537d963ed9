"""The woods: where each crown of a closed canopy stands, the same trees in every year."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.demo.ground import COLS, ROWS, Ground
from app.demo.material import Material
from app.demo.noise import Field, generator, smooth

STRIP = 50
"""Rows worked on at once."""
DOME = 0.62
"""Share of a tree's height from its top down to the edge of its crown."""


class Canopy(NamedTuple):
    """Rasters (rows, cols) of a forest that covers everything; `grow` cuts the real one out."""

    reach: Field
    """Distance to the stem of the tree seen from above as a share of its crown's radius."""
    tone: Field
    """Brightness of that tree, a factor; dark where one looks down between the crowns."""
    height: Field
    """Meters above the ground of what is seen from above."""
    root: npt.NDArray[np.int32]
    """Flat index of the pixel where that tree stands."""


def canopy(spacing: float, tall: float, number: int) -> Canopy:
    """Trees on a jittered grid of `spacing` meters; every pixel belongs to the highest crown.

    Crowns are paraboloids of very different widths, `tall` meters high where they are of middle
    width; some stems are missing, and the crowns around leave a gap.
    """
    rng = generator(20, number)
    rows, cols = int(ROWS / spacing) + 3, int(COLS / spacing) + 3
    shape = (rows, cols)
    x = (np.arange(cols)[None] - 1 + rng.uniform(0.02, 0.98, shape)).astype(np.float32) * spacing
    y = (np.arange(rows)[:, None] - 1 + rng.uniform(0.02, 0.98, shape)).astype(np.float32) * spacing
    share = np.clip(rng.normal(0.62, 0.17, shape), 0.3, 1.0)
    share[rng.random(shape) < 0.08] = 0.15
    top = (tall * (0.5 + 0.8 * share) * rng.normal(1, 0.07, shape)).astype(np.float32)
    droop = (DOME * top / (share * spacing) ** 2).astype(np.float32)
    tone = np.clip(rng.normal(1, 0.15, shape), 0.6, 1.45).astype(np.float32)
    ragged = [
        np.float32(0.16 * min(spacing, 6)) * smooth((ROWS, COLS), 3.1, 21, number, way)
        for way in (0, 1)
    ]
    best = np.full((ROWS, COLS), -np.inf, dtype=np.float32)
    tree = np.zeros((ROWS, COLS), dtype=np.int32)
    # A strip at a time: what is worked on stays in the processor's cache.
    for north in range(0, ROWS, STRIP):
        strip = slice(north, min(north + STRIP, ROWS))
        at_x = np.arange(COLS, dtype=np.float32)[None] + np.float32(0.5) + ragged[0][strip]
        at_y = np.arange(strip.start, strip.stop, dtype=np.float32)[:, None] + np.float32(0.5)
        at_y = at_y + ragged[1][strip]
        cell = np.floor(at_y / spacing).astype(np.int32) + 1
        cell = cell * cols + np.floor(at_x / spacing).astype(np.int32) + 1
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                index = np.clip(cell + (down * cols + right), 0, rows * cols - 1)
                fall = (x.take(index) - at_x) ** 2
                fall += (y.take(index) - at_y) ** 2
                fall *= droop.take(index)
                surface = top.take(index) - fall
                higher = surface > best[strip]
                np.copyto(best[strip], surface, where=higher)
                np.copyto(tree[strip], index, where=higher)
    peak = top.take(tree)
    reach = np.sqrt(np.maximum(1 - best / peak, 0) / np.float32(DOME))
    column = np.clip(x, 0, COLS - 1).astype(np.int32)
    row = np.clip(y, 0, ROWS - 1).astype(np.int32)
    shown = tone.take(tree) * np.where(reach < 1, np.float32(1), np.float32(0.7))
    return Canopy(
        reach,
        shown,
        np.maximum(best, np.float32(0.35 * tall)),
        (row * COLS + column).take(tree),
    )


def grow(ground: Ground, trees: Canopy, wood: npt.NDArray[np.bool_], material: Material) -> None:
    """Plant `wood` (rows, cols; True = wooded): crowns at its edge hang over its neighbors."""
    grown = wood | (wood.ravel().take(trees.root) & (trees.reach < 1))
    ground.material[grown] = material
    ground.tone[grown] = trees.tone[grown]
    ground.height[grown] = trees.height[grown]
