"""Pixels of one scene on a work grid.

The validity mask is our own, not GDAL's (see app.imagery.handle): a pixel is data unless all four
bands hold the nodata value.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.errors import SourceUnavailable
from app.grid.pixel_grid import PixelGrid
from app.imagery.handle import Handle, open_local, open_ranges, translated
from app.imagery.inspection import identity_of
from app.imagery.scene import Scene
from model.windows import Window

OPEN_PER_THREAD = 8


@dataclass(frozen=True, slots=True)
class Pixels:
    """`image`: uint8 (4, rows, cols), red, green, blue, near infrared; `valid`: bool (rows, cols),
    True = data."""

    image: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.bool_]


class Reader:
    """Reads scenes; keeps a few open in each thread (a GDAL handle belongs to one thread)."""

    def __init__(self) -> None:
        self._local = threading.local()

    def read(self, scene: Scene, grid: PixelGrid, window: Window) -> Pixels:
        """`window` of `grid`, which must lie within `scene.extent(grid)`.

        On the grid's own resolution pixels are copied; finer scenes are averaged over each grid
        pixel (from overviews where there are any); coarser ones are interpolated. SourceUnavailable
        when the scene cannot be read or is not the file it was.
        """
        handle = self._open(scene)
        try:
            image = handle.read(scene, grid, window)
        except SourceUnavailable:
            self.forget(scene)
            raise
        valid = (image != scene.nodata).any(axis=0)
        if not scene.matches(grid) and not valid.all():
            valid = _eroded(valid)
        return Pixels(image, valid)

    def forget(self, scene: Scene) -> None:
        """Closes this thread's handle of a scene."""
        handle = self._handles().pop(_place(scene), None)
        if handle is not None:
            handle.close()

    def _open(self, scene: Scene) -> Handle:
        handles = self._handles()
        key = _place(scene)
        if scene.remote is None and not _is_unchanged(scene):
            self.forget(scene)
            raise SourceUnavailable(scene.id, "the file changed while it was being served")
        if key not in handles:
            handles[key] = open_local(scene) if scene.remote is None else open_ranges(scene)
        handles.move_to_end(key)
        while len(handles) > OPEN_PER_THREAD:
            handles.popitem(last=False)[1].close()
        return handles[key]

    def _handles(self) -> OrderedDict[tuple[str, str, str], Handle]:
        if not hasattr(self._local, "handles"):
            self._local.handles = OrderedDict()
        handles: OrderedDict[tuple[str, str, str], Handle] = self._local.handles
        return handles


def _place(scene: Scene) -> tuple[str, str, str]:
    """What a handle is kept by: two sources may ask for one file in different ways."""
    return scene.remote.source_id if scene.remote else "", scene.href, scene.identity


def _is_unchanged(scene: Scene) -> bool:
    with translated(scene.id):
        return identity_of(Path(scene.href)) == scene.identity


def _eroded(valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """`valid` without the pixels that touch an invalid one: resampling mixed the collar in."""
    encode_entry = np.pad(valid, 1, mode="edge")
    rows, cols = valid.shape
    out = valid.copy()
    for down in range(3):
        for right in range(3):
            out &= encode_entry[down : down + rows, right : right + cols]
    return out
