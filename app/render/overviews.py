"""Overviews of a class raster: the mode of its pixels, counted at full resolution.

GDAL's own take the mode of the overview before, which is a mode of modes, and break ties by the
lowest value. These are written as a chain of external overviews (`a.tif.ovr`, `a.tif.ovr.ovr`, …),
which GDAL takes over into a Cloud Optimized GeoTIFF. Memory does not grow with the raster.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.windows import Window as RasterWindow

from app.grid.classified import Classes, mode_with_tiebreak
from model.legend import NODATA
from model.windows import BLOCK, Window, cover

MAX_LEVELS = BLOCK.bit_length() - 1
"""At the last one a block is one pixel: 512 pixels are 262 km of 1 m pixels."""


def levels_of(cols: int, rows: int) -> int:
    """Return the number of levels until the longer side fits one block."""
    levels = 0
    while max(cols, rows) > BLOCK << levels and levels < MAX_LEVELS:
        levels += 1
    return levels


def modes(classes: Classes, levels: int) -> list[Classes]:
    """Return levels 1, 2, … of uint8 (n, n), n divisible by 2^levels.

    Level k is uint8 (n / 2ᵏ, n / 2ᵏ): the most frequent value of every 2ᵏ × 2ᵏ pixels, nodata
    counted as one; ties rotate as in `app.grid.classified.mode_of`.
    """
    values = np.unique(classes).tolist()
    if len(values) == 1:
        sides = (classes.shape[0] >> level for level in range(1, levels + 1))
        return [np.full((side, side), values[0], dtype=np.uint8) for side in sides]
    counts: npt.NDArray[Any] = np.stack([classes == value for value in values]).view(np.uint8)
    levels_below = []
    for level in range(levels):
        kind = np.uint8 if level < 3 else np.uint32
        across = counts[:, :, 0::2].astype(kind) + counts[:, :, 1::2]
        counts = across[:, 0::2] + across[:, 1::2]
        levels_below.append(mode_with_tiebreak(values, counts))
    return levels_below


def write_overviews(path: Path, profile: dict[str, Any]) -> None:
    """Write the overviews of the raster `path` beside it; `profile`: its creation options."""
    with ExitStack() as stack:
        full = stack.enter_context(rasterio.open(path, driver="GTiff"))
        levels = levels_of(full.width, full.height)
        files = []
        for level in range(1, levels + 1):
            scale = 1 << level
            size = {"width": -(-full.width // scale), "height": -(-full.height // scale)}
            place = {"crs": full.crs, "transform": full.transform @ Affine.scale(scale)}
            name = f"{path}{'.ovr' * level}"
            files.append(stack.enter_context(rasterio.open(name, "w", **profile, **size, **place)))
        extent = Window(0, 0, full.width, full.height)
        for chunk in cover(extent):
            part = chunk.intersection(extent)
            if part is None or not levels:
                continue
            pixels = np.full(chunk.shape, NODATA, dtype=np.uint8)
            source = RasterWindow(part.col, part.row, part.cols, part.rows)
            pixels[part.slices_in(chunk)] = full.read(1, window=source)
            if (pixels == NODATA).all():
                continue
            for level, (file, mode) in enumerate(zip(files, modes(pixels, levels), strict=True), 1):
                col, row = chunk.col >> level, chunk.row >> level
                rows, cols = (
                    min(mode.shape[0], file.height - row),
                    min(mode.shape[1], file.width - col),
                )
                file.write(mode[:rows, :cols], 1, window=RasterWindow(col, row, cols, rows))
