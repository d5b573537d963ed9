"""Several scenes as one image: which comes first, and what fills what it leaves open.

The order is a rule, never the order of a search answer: requested dates before what only fills;
then newest year first; within a year scenes that hold the whole window before those that hold a
part; then newest date, finest resolution, greatest distance of the window's middle from the image's
edge, and the id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.grid.classified import SceneRef
from app.grid.pixel_grid import PixelGrid
from app.imagery.catalog.temporal import LATEST, TemporalFilter
from app.imagery.reader import Pixels, Reader
from app.imagery.scene import NATURAL, Scene
from model.windows import Window


def ordered(
    scenes: Sequence[Scene], grid: PixelGrid, window: Window, when: TemporalFilter = LATEST
) -> tuple[Scene, ...]:
    """Return the scenes that hold any pixel of `window`, first choice first."""
    ranked = []
    for scene in scenes:
        extent = scene.extent(grid)
        if extent is None or extent.intersection(window) is None:
            continue
        middle_col, middle_row = window.col + window.cols // 2, window.row + window.rows // 2
        interior = min(
            middle_col - extent.col,
            extent.col_stop - middle_col,
            middle_row - extent.row,
            extent.row_stop - middle_row,
        )
        rank = (
            not when.contains(scene.acquired),
            -scene.year,
            not extent.contains(window),
            _descending(scene.acquired),
            scene.resolution,
            -interior,
            scene.id,
        )
        ranked.append((rank, scene))
    return tuple(scene for _, scene in sorted(ranked, key=lambda pair: pair[0]))


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Pixels of a window and the scenes that gave them."""

    pixels: Pixels
    scenes: tuple[SceneRef, ...]


def read(reader: Reader, scenes: Sequence[Scene], grid: PixelGrid, window: Window) -> Mosaic:
    """Return `window` filled from `scenes` in their order, until every pixel has data.

    SourceUnavailable when a scene that is needed cannot be read: a hole that should have been
    filled is an error, not an absence.
    """
    bands = len(scenes[0].bands) if scenes else len(NATURAL)
    image = np.zeros((bands, *window.shape), dtype=np.uint8)
    valid = np.zeros(window.shape, dtype=np.bool_)
    used: list[SceneRef] = []
    for scene in scenes:
        extent = scene.extent(grid)
        part = extent.intersection(window) if extent else None
        if part is None:
            continue
        rows, cols = part.slices_in(window)
        if valid[rows, cols].all():
            continue
        pixels = reader.read(scene, grid, part)
        if part == window and not used and pixels.valid.all():
            return Mosaic(pixels, (scene.ref,))
        fill = pixels.valid & ~valid[rows, cols]
        if not fill.any():
            continue
        np.copyto(image[:, rows, cols], pixels.image, where=fill)
        valid[rows, cols] |= fill
        used.append(scene.ref)
        if valid.all():
            break
    return Mosaic(Pixels(image, valid), tuple(used))


def _descending(text: str) -> tuple[int, ...]:
    """Return a key that sorts ISO 8601 dates newest first."""
    return tuple(-ord(char) for char in text)
