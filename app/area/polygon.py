"""An area of interest: a valid polygon in degrees, and how large it is on the ellipsoid.

Never repaired: mending a self-crossing ring can take seconds to for ever (`make_valid` on 300
random points: 20 s) and may mean another place; it is the client's to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import shapely
from pyproj import Geod
from shapely.geometry import MultiPolygon, Polygon

from app.errors import InvalidArea, TooLarge
from app.grid.pixel_grid import Bounds

STEP = 0.004
"""Degrees between points of an edge before it is projected. GeoJSON's edges are straight in
degrees; a chord of this length stays within 5 mm of it below 50° N."""

MOST_POINTS = 200_000
"""Points of an area after that: 800 degrees of outline."""

SPLIT = "split a polygon that crosses the antimeridian there (RFC 7946 3.1.9)"
SWAPPED = "longitude comes first in GeoJSON; these look like latitude, longitude"

_ELLIPSOID = Geod(ellps="WGS84")


@dataclass(frozen=True)
class AreaOfInterest:
    """A valid polygon in degrees (longitude, latitude), with what the client said of it."""

    geometry: Polygon | MultiPolygon
    id: str | int | float | None = None
    properties: Mapping[str, Any] | None = None

    @cached_property
    def square_meters(self) -> float:
        """Area on the ellipsoid (Karney 2013, WGS 84)."""
        return square_meters(self.outline)

    @cached_property
    def outline(self) -> Polygon | MultiPolygon:
        """The same ground with points every `STEP`, so that its edges survive a projection."""
        return shapely.segmentize(self.geometry, STEP)

    @classmethod
    def of_bounds(cls, bounds: Bounds) -> AreaOfInterest:
        """The rectangle (west, south, east, north) in degrees; InvalidArea when there is none."""
        west, south, east, north = bounds
        for field, low, high in (("minx", west, east), ("miny", south, north)):
            if not low < high:
                raise InvalidArea(
                    field, low, f"less than {high:g}", SPLIT if field[3] == "x" else ""
                )
        return cls(checked(shapely.box(*bounds), "bbox"))


def square_meters(geometry: Polygon | MultiPolygon) -> float:
    """Area of polygons in degrees on the ellipsoid, m²; edges are geodesics."""
    if geometry.is_empty:
        return 0.0
    return abs(float(_ELLIPSOID.geometry_area_perimeter(shapely.orient_polygons(geometry))[0]))


def checked(geometry: Polygon | MultiPolygon, field: str) -> Polygon | MultiPolygon:
    """The geometry when it is valid, has an area and may be projected."""
    if not shapely.is_valid(geometry):
        reason = shapely.is_valid_reason(geometry)
        raise InvalidArea(field, reason, "a valid polygon", "mend it first, such as with QGIS")
    if not geometry.area > 0:
        raise InvalidArea(field, "no area", "a polygon with an area")
    west, _, east, _ = geometry.bounds
    if east - west > 180:
        raise InvalidArea(field, f"{east - west:g} degrees wide", "at most 180", SPLIT)
    points = geometry.length / STEP
    if points > MOST_POINTS:
        raise TooLarge("the outline in degrees", geometry.length, MOST_POINTS * STEP)
    return geometry


def check_order(area: AreaOfInterest, bounds: Bounds) -> None:
    """InvalidArea when an area lies outside `bounds` and would touch them with its axes swapped."""
    covered = shapely.box(*bounds)
    if shapely.box(*area.geometry.bounds).intersects(covered):
        return
    west, south, east, north = area.geometry.bounds
    if shapely.box(south, west, north, east).intersects(covered):
        raise InvalidArea(
            "coordinates",
            f"{west:g},{south:g},{east:g},{north:g}",
            "an area in longitude, latitude",
            SWAPPED,
        )
