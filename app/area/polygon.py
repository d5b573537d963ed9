"""An area of interest: a valid polygon in degrees, and how large it is on the ellipsoid.

Never repaired: `make_valid` takes 20 s for 300 random points and may return another place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Geod
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, Polygon

from app.errors import InvalidArea, TooLarge
from app.grid.pixel_grid import Bounds

STEP = 0.004
"""Degrees between points of an edge before it is projected. GeoJSON's edges are straight in
degrees; a chord of this length stays within 5 mm of it below 50° N."""

MAX_POINTS = 200_000
"""Points of an area after that: 800 degrees of outline."""

SPLIT = "split a polygon that crosses the antimeridian there (RFC 7946 3.1.9)"
SWAPPED = "longitude comes first in GeoJSON; these look like latitude, longitude"

_ELLIPSOID = Geod(ellps="WGS84")


@dataclass(frozen=True)
class AreaOfInterest:
    """A valid polygon in degrees (longitude, latitude), with the id and properties it came with."""

    geometry: Polygon | MultiPolygon
    id: str | int | float | None = None
    properties: Mapping[str, Any] | None = None

    @cached_property
    def square_meters(self) -> float:
        """Return the area on the ellipsoid (Karney 2013, WGS 84)."""
        return square_meters(self.outline)

    @cached_property
    def outline(self) -> Polygon | MultiPolygon:
        """Return the same polygon with points every `STEP`, so that its edges survive a
        projection."""
        return shapely.segmentize(self.geometry, STEP)

    @cached_property
    def boxes(self) -> tuple[Bounds, ...]:
        """Return (west, south, east, north) around the area, degrees; two boxes, west and east of
        Greenwich, for an area wider than 180 degrees, such as one that is split at 180°."""
        return tuple(tuple(shapely.total_bounds(side).tolist()) for side in self._sides)

    @cached_property
    def middle(self) -> tuple[float, float]:
        """Return (longitude, latitude) of the centroid, degrees."""
        if len(self._sides) == 1:
            center = self.geometry.centroid
            return center.x, center.y
        west, east = self._sides
        # Counted eastward from Greenwich, both sides of 180° are neighbors.
        parts = [*east, *(translate(part, 360) for part in west)]
        center = MultiPolygon(parts).centroid
        return (center.x + 180) % 360 - 180, center.y

    @cached_property
    def _sides(self) -> tuple[npt.NDArray[np.object_], ...]:
        parts = shapely.get_parts(self.geometry)
        left, _, right, _ = shapely.bounds(parts).T
        if right.max() - left.min() <= 180:
            return (parts,)
        is_west = left + right < 0
        return parts[is_west], parts[~is_west]

    @classmethod
    def of_bounds(cls, bounds: Bounds) -> AreaOfInterest:
        """Return the rectangle (west, south, east, north) in degrees; InvalidArea when there is
        none."""
        west, south, east, north = bounds
        for field, low, high in (("minx", west, east), ("miny", south, north)):
            if not low < high:
                raise InvalidArea(
                    field, low, f"less than {high:g}", SPLIT if field[3] == "x" else ""
                )
        return cls(checked(shapely.box(*bounds), "bbox"))


def square_meters(geometry: Polygon | MultiPolygon) -> float:
    """Return the area of polygons in degrees on the ellipsoid, m²; edges are geodesics."""
    if geometry.is_empty:
        return 0.0
    return abs(float(_ELLIPSOID.geometry_area_perimeter(shapely.orient_polygons(geometry))[0]))


def checked(geometry: Polygon | MultiPolygon, field: str) -> Polygon | MultiPolygon:
    """Return the geometry; InvalidArea when it is not valid, has no area or a part is wider than
    180 degrees, TooLarge when its outline is too long to be projected."""
    if not shapely.is_valid(geometry):
        reason = shapely.is_valid_reason(geometry)
        raise InvalidArea(field, reason, "a valid polygon", "mend it first, such as with QGIS")
    if not geometry.area > 0:
        raise InvalidArea(field, "no area", "a polygon with an area")
    west, _, east, _ = shapely.bounds(shapely.get_parts(geometry)).T
    width = float((east - west).max())
    if width > 180:
        raise InvalidArea(field, f"{width:g} degrees wide", "at most 180", SPLIT)
    if geometry.length / STEP > MAX_POINTS:
        raise TooLarge("the outline in degrees", geometry.length, MAX_POINTS * STEP)
    return geometry


def check_order(area: AreaOfInterest, bounds: Bounds) -> None:
    """Raise InvalidArea when an area lies outside `bounds` and would touch them with its axes
    swapped."""
    covered = shapely.box(*bounds)
    if any(shapely.box(*box).intersects(covered) for box in area.boxes):
        return
    for west, south, east, north in area.boxes:
        if shapely.box(south, west, north, east).intersects(covered):
            raise InvalidArea(
                "coordinates",
                f"{west:g},{south:g},{east:g},{north:g}",
                "an area in longitude, latitude",
                SWAPPED,
            )


def polygons_of(geometry: shapely.Geometry) -> Polygon | MultiPolygon:
    """Return the polygons of a geometry, without the points and lines that cutting may leave."""
    parts = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)
