"""Which CRS the work grid of an image has: its own, or a UTM zone where its own is not true to the
meter."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from affine import Affine
from pyproj import CRS, Geod

from app.grid.pixel_grid import LONLAT, transformer

TRUE_TO = 0.05
"""How far a projection's meters may be from those on the ground, as a share."""

Coordinate = TypeVar("Coordinate", float, npt.NDArray[np.float64])

_GEOD = Geod(ellps="WGS84")


def place(affine: Affine, col: Coordinate, row: Coordinate) -> tuple[Coordinate, Coordinate]:
    """Return (x, y) of image positions, in the CRS of the affine."""
    return (
        affine.a * col + affine.b * row + affine.c,
        affine.d * col + affine.e * row + affine.f,
    )


def ground_size(crs: str, affine: Affine, col: float, row: float) -> tuple[float, float]:
    """Return the (width, height) of the pixel at (col, row) on the ground, meters."""
    to_degrees = transformer(crs, LONLAT).transform
    here, right, below = (
        to_degrees(*place(affine, col + dx, row + dy)) for dx, dy in ((0, 0), (1, 0), (0, 1))
    )
    _, _, width = _GEOD.inv(*here, *right)
    _, _, height = _GEOD.inv(*here, *below)
    return float(width), float(height)


def grid_crs(crs: str, affine: Affine, shape: tuple[int, int]) -> str | None:
    """Return the CRS of the work grid when it is not the image's own, None when it is.

    Own: projected, in meters, and true within `TRUE_TO` at the image's center (Web Mercator at
    40° N says 1 m for 0.77 m). Else the WGS 84 UTM zone of the center.
    """
    rows, cols = shape
    if _is_in_meters(crs):
        width, height = ground_size(crs, affine, cols / 2, rows / 2)
        nominal = math.hypot(affine.a, affine.d), math.hypot(affine.b, affine.e)
        if all(
            abs(ground / named - 1) <= TRUE_TO
            for ground, named in zip((width, height), nominal, strict=True)
        ):
            return None
    longitude, latitude = transformer(crs, LONLAT).transform(*place(affine, cols / 2, rows / 2))
    zone = int((longitude + 180) // 6) % 60 + 1
    return f"EPSG:{326 if latitude >= 0 else 327}{zone:02d}"


@lru_cache(maxsize=256)
def is_utm(crs: str) -> bool:
    """Return whether a CRS is a UTM zone, which is true to the meter wherever it is used."""
    return CRS.from_user_input(crs).utm_zone is not None


@lru_cache(maxsize=256)
def _is_in_meters(crs: str) -> bool:
    axes = CRS.from_user_input(crs)
    return axes.is_projected and all(
        abs(axis.unit_conversion_factor - 1) < 1e-9 for axis in axes.axis_info[:2]
    )
