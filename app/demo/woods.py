"""The woods: where each crown of a closed canopy stands, the same trees in every year."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.demo.ground import COLS, ROWS, Ground
from app.demo.material import Material
from app.demo.noise import Field, generator

STRIP = 50
"""Rows worked on at once."""


class Canopy(NamedTuple):
    """Rasters (rows, cols) of a forest that covers everything; `grow` cuts the real one out."""

    reach: Field
    """Distance to the nearest stem as a share of its crown's radius."""
    tone: Field
    """Brightness of the nearest tree, a factor."""
    root: npt.NDArray[np.int32]
    """Flat index of the pixel where the nearest tree stands."""
    tall: float
    """Height of a tree in meters."""


def canopy(spacing: float, tall: float, number: int) -> Canopy:
    """Trees on a jittered grid of `spacing` meters; every pixel belongs to the nearest one."""
    rng = generator(20, number)
    rows, cols = int(ROWS / spacing) + 3, int(COLS / spacing) + 3
    shape = (rows, cols)
    x = (np.arange(cols)[None] - 1 + rng.uniform(0.08, 0.92, shape)).astype(np.float32) * spacing
    y = (np.arange(rows)[:, None] - 1 + rng.uniform(0.08, 0.92, shape)).astype(np.float32) * spacing
    size = rng.uniform(0.5, 0.82, shape).astype(np.float32) * spacing
    tone = rng.normal(1, 0.10, shape).astype(np.float32)
    at_x = np.arange(COLS, dtype=np.float32)[None] + np.float32(0.5)
    cell_x = (at_x / spacing).astype(np.int32) + 1
    best = np.full((ROWS, COLS), np.inf, dtype=np.float32)
    tree = np.zeros((ROWS, COLS), dtype=np.int32)
    # A strip at a time: what is worked on stays in the processor's cache.
    for top in range(0, ROWS, STRIP):
        strip = slice(top, min(top + STRIP, ROWS))
        at_y = np.arange(strip.start, strip.stop, dtype=np.float32)[:, None] + np.float32(0.5)
        cell_y = (at_y / spacing).astype(np.int32) + 1
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                index = (cell_y + down) * cols + (cell_x + right)
                reach = (x.take(index) - at_x) ** 2
                reach += (y.take(index) - at_y) ** 2
                reach /= (size * size).take(index)
                nearer = reach < best[strip]
                np.copyto(best[strip], reach, where=nearer)
                np.copyto(tree[strip], index, where=nearer)
    column = np.clip(x, 0, COLS - 1).astype(np.int32)
    row = np.clip(y, 0, ROWS - 1).astype(np.int32)
    return Canopy(np.sqrt(best), tone.take(tree), (row * COLS + column).take(tree), tall)


def grow(ground: Ground, trees: Canopy, wood: npt.NDArray[np.bool_], material: Material) -> None:
    """Plant `wood` (rows, cols; True = wooded): crowns at its edge hang over its neighbors."""
    grown = wood | (wood.ravel().take(trees.root) & (trees.reach < 1))
    dome = np.sqrt(np.maximum(1 - trees.reach * trees.reach, 0))
    height = np.float32(trees.tall) * (np.float32(0.55) + np.float32(0.45) * dome)
    ground.material[grown] = material
    ground.tone[grown] = trees.tone[grown]
    ground.height[grown] = height[grown]
