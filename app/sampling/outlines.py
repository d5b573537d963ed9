"""Where imagery is, drawn into tiles that are too far out to show classes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from PIL import Image, ImageDraw

from app.grid.pixel_grid import LONLAT, transformer
from app.grid.tile import CRS, Tile
from app.imagery.catalog import Catalog
from app.landcover.source import Source
from model.legend import NODATA

OUTLINE = 254
"""Value of the pixels of an outline: no class, and drawn in images only."""

_SMALLEST = 4
"""Pixels: ground that would be smaller than this is drawn as a dot of this size."""


def draw_outlines(source: Source, tile: Tile) -> npt.NDArray[np.uint8]:
    """Return the outline of a source's imagery in a tile: uint8 (size, size), row 0 in the north,
    `OUTLINE` along it and 255 elsewhere."""
    image = Image.new("L", (tile.size, tile.size), NODATA)
    if source.touches(tile):
        left, bottom, right, top = tile.bounds
        pixel = (right - left) / tile.size
        draw = ImageDraw.Draw(image)
        near = shapely.box(left, bottom, right, top).buffer(_SMALLEST * pixel)
        for part in _parts(source.catalog, source.catalog.generation):
            if not part.intersects(near):
                continue
            if max(part.bounds[2] - part.bounds[0], part.bounds[3] - part.bounds[1]) < (
                _SMALLEST * pixel
            ):
                x, y = (part.centroid.x - left) / pixel, (top - part.centroid.y) / pixel
                half = _SMALLEST / 2
                draw.rectangle((x - half, y - half, x + half, y + half), fill=OUTLINE)
                continue
            for ring in (part.exterior, *part.interiors):
                points = shapely.get_coordinates(ring)
                rows = np.column_stack([points[:, 0] - left, top - points[:, 1]]) / pixel
                draw.line([tuple(row) for row in rows.tolist()], fill=OUTLINE, width=2)
    return np.asarray(image, dtype=np.uint8)


@lru_cache(maxsize=16)
def _parts(catalog: Catalog, generation: int) -> tuple[Any, ...]:
    """Return the polygons of all imagery in Web Mercator; `generation` is part of the key."""
    scenes = catalog.scenes
    ground = (
        shapely.union_all([scene.footprint() for scene in scenes], grid_size=1e-5)
        if scenes
        else shapely.box(*catalog.lonlat_bounds)
    )
    forward = transformer(LONLAT, CRS).transform

    def project(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = forward(points[:, 0], np.clip(points[:, 1], -85.0, 85.0))
        return np.column_stack([x, y])

    return tuple(shapely.get_parts(shapely.transform(ground, project)))
