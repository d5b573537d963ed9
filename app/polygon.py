"""A client's GeoJSON (RFC 7946) → areas of interest, every value checked and nothing repaired.

Repairing a self-crossing ring can take seconds to for ever (`make_valid` on 300 random points:
20 s) and may mean another place; it is the client's to do. An altitude is dropped: it has no area.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import shapely
from pydantic_core import from_json
from pyproj import Geod
from shapely.geometry import MultiPolygon, Polygon

from app.errors import InvalidArea, TooLarge
from app.grid import Bounds

LONLAT = "OGC:CRS84"
STEP = 0.004
"""Degrees between points of an edge before it is projected. GeoJSON's edges are straight in
degrees; a chord of this length stays within 5 mm of it below 50° N."""

MOST_POINTS = 200_000
"""Points of an area after that: 800 degrees of outline."""

_ELLIPSOID = Geod(ellps="WGS84")
_CRS84 = ("CRS84", "OGC:CRS84", "urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:OGC::CRS84")
_REPROJECT = "write it in longitude and latitude, as RFC 7946 asks: ogr2ogr -t_srs OGC:CRS84"
_SPLIT = "split a polygon that crosses the antimeridian there (RFC 7946 3.1.9)"
_SWAPPED = "longitude comes first in GeoJSON; these look like latitude, longitude"

Json = Any


@dataclass(frozen=True)
class AreaOfInterest:
    """A valid polygon in degrees (longitude, latitude), with what the client said of it."""

    geometry: Polygon | MultiPolygon
    id: str | int | float | None = None
    properties: Mapping[str, Json] | None = None

    @cached_property
    def square_metres(self) -> float:
        """Area on the ellipsoid (Karney 2013, WGS 84)."""
        return square_metres(self.outline)

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
                    field, low, f"less than {high:g}", _SPLIT if field[3] == "x" else ""
                )
        return cls(_checked(shapely.box(*bounds), "bbox"))


@dataclass(frozen=True, slots=True)
class Areas:
    """One area, or the features of a collection. `notes`: what was changed in them."""

    areas: tuple[AreaOfInterest, ...]
    collection: bool
    notes: tuple[str, ...] = ()


def square_metres(geometry: Polygon | MultiPolygon) -> float:
    """Area of polygons in degrees on the ellipsoid, m²; edges are geodesics."""
    if geometry.is_empty:
        return 0.0
    return abs(float(_ELLIPSOID.geometry_area_perimeter(shapely.orient_polygons(geometry))[0]))


def read_areas(body: bytes, most_vertices: int) -> Areas:
    """The areas in the bytes of a GeoJSON document; as `areas_of`."""
    try:
        # Python's own parser lets NaN and Infinity pass.
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        shown = body[:60].decode("utf-8", "replace")
        raise InvalidArea("body", shown, "a GeoJSON document", f"not JSON: {error}") from error
    return areas_of(document, most_vertices)


def areas_of(document: Json, most_vertices: int) -> Areas:
    """The areas in a GeoJSON Feature, FeatureCollection, Polygon or MultiPolygon.

    InvalidArea names the member and what is expected; TooLarge when all of them together have more
    vertices than allowed.
    """
    kind = _type_of(document, "type")
    collection = kind == "FeatureCollection"
    features = _features(document) if collection else [document]
    parsed = [
        _feature(feature, f"features.{number}." if collection else "", most_vertices)
        for number, feature in enumerate(features)
    ]
    vertices = sum(count for _, count, _ in parsed)
    if vertices > most_vertices:
        raise TooLarge("the number of vertices", vertices, most_vertices)
    notes = ("altitudes were dropped",) if any(flat for *_, flat in parsed) else ()
    return Areas(tuple(area for area, *_ in parsed), collection, notes)


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
            _SWAPPED,
        )


def _features(document: Json) -> list[Json]:
    _check_crs(document, "")
    features = document.get("features")
    if not isinstance(features, list) or not features:
        raise InvalidArea("features", _brief(features), "a list of at least one Feature")
    for number, feature in enumerate(features):
        if _type_of(feature, f"features.{number}.type") != "Feature":
            raise InvalidArea(f"features.{number}.type", feature["type"], "Feature")
    return features


def _feature(document: Json, prefix: str, most: int) -> tuple[AreaOfInterest, int, bool]:
    """(area, its vertices, whether altitudes were dropped) of a Feature or a bare geometry."""
    _check_crs(document, prefix)
    if document["type"] != "Feature":
        geometry, count, flat = _geometry(document, prefix, most)
        return AreaOfInterest(geometry), count, flat
    properties = document.get("properties")
    if properties is not None and not isinstance(properties, dict):
        raise InvalidArea(f"{prefix}properties", _brief(properties), "an object or null")
    name = document.get("id")
    if name is not None and (isinstance(name, bool) or not isinstance(name, (str, int, float))):
        raise InvalidArea(f"{prefix}id", _brief(name), "a string or a number")
    prefix = f"{prefix}geometry."
    _type_of(document.get("geometry"), f"{prefix}type")
    _check_crs(document["geometry"], prefix)
    geometry, count, flat = _geometry(document["geometry"], prefix, most)
    return AreaOfInterest(geometry, name, properties), count, flat


def _geometry(document: Json, prefix: str, most: int) -> tuple[Polygon | MultiPolygon, int, bool]:
    kind, field = document["type"], f"{prefix}coordinates"
    if kind not in ("Polygon", "MultiPolygon"):
        hint = "take the collection apart" if kind == "GeometryCollection" else ""
        raise InvalidArea(f"{prefix}type", kind, "Polygon or MultiPolygon", hint)
    coordinates = document.get("coordinates")
    parts = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(parts, list) or not parts:
        raise InvalidArea(field, _brief(parts), "a list of polygons")
    counted = sum(_size(ring) for part in parts for ring in _rings(part, field))
    if counted > most:
        raise TooLarge("the number of vertices", counted, most)
    polygons, deep = [], False
    for number, part in enumerate(parts):
        path = f"{field}.{number}" if kind == "MultiPolygon" else field
        rings = [_ring(ring, f"{path}.{index}") for index, ring in enumerate(part)]
        deep |= any(altitude for _, altitude in rings)
        shell, *holes = (points for points, _ in rings)
        polygons.append(Polygon(shell, holes))
    geometry = polygons[0] if kind == "Polygon" else MultiPolygon(polygons)
    return _checked(geometry, field), counted, deep


def _rings(part: Json, field: str) -> list[Json]:
    if not isinstance(part, list) or not part:
        raise InvalidArea(field, _brief(part), "polygons as lists of at least one ring")
    return part


def _size(ring: Json) -> int:
    return len(ring) if isinstance(ring, list) else 0


def _ring(ring: Json, field: str) -> tuple[list[tuple[float, float]], bool]:
    """(points, whether any has an altitude) of a closed ring."""
    if not isinstance(ring, list) or len(ring) < 4:
        raise InvalidArea(field, _brief(ring), "a ring of at least four positions")
    points = [_position(position, f"{field}.{number}") for number, position in enumerate(ring)]
    if points[0] != points[-1]:
        raise InvalidArea(
            field, _brief(ring[-1]), "a closed ring, whose last position is its first"
        )
    return points, any(len(position) > 2 for position in ring)


def _position(position: Json, field: str) -> tuple[float, float]:
    if not isinstance(position, list) or len(position) not in (2, 3):
        raise InvalidArea(field, _brief(position), "longitude, latitude and perhaps an altitude")
    for value in position:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidArea(field, _brief(position), "numbers")
    longitude, latitude = position[:2]
    # Comparisons that NaN fails too, and that no integer is too large for.
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
        hint = _hint_of(longitude, latitude)
        raise InvalidArea(field, _brief(position), "longitude ±180 and latitude ±90 degrees", hint)
    return float(longitude), float(latitude)


def _hint_of(longitude: float, latitude: float) -> str:
    if -90 <= longitude <= 90 and -180 <= latitude <= 180:
        return _SWAPPED
    if -90 <= latitude <= 90 and -360 <= longitude <= 360:
        return _SPLIT
    if abs(longitude) > 1000 or abs(latitude) > 1000:
        return f"these look like metres or feet; {_REPROJECT}"
    return ""


def _checked(geometry: Polygon | MultiPolygon, field: str) -> Polygon | MultiPolygon:
    """The geometry when it is valid, has an area and may be projected."""
    if not shapely.is_valid(geometry):
        reason = shapely.is_valid_reason(geometry)
        raise InvalidArea(field, reason, "a valid polygon", "mend it first, such as with QGIS")
    if not geometry.area > 0:
        raise InvalidArea(field, "no area", "a polygon with an area")
    west, _, east, _ = geometry.bounds
    if east - west > 180:
        raise InvalidArea(field, f"{east - west:g} degrees wide", "at most 180", _SPLIT)
    points = geometry.length / STEP
    if points > MOST_POINTS:
        raise TooLarge("the outline in degrees", geometry.length, MOST_POINTS * STEP)
    return geometry


def _check_crs(document: Json, prefix: str) -> None:
    crs = document.get("crs")
    if crs is None:
        return
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else crs
    if name not in _CRS84:
        hint = f"{_REPROJECT}; or leave `crs` out if it is"
        raise InvalidArea(f"{prefix}crs", _brief(name), "no CRS but OGC:CRS84", hint)


def _type_of(document: Json, field: str) -> str:
    kind = document.get("type") if isinstance(document, dict) else None
    if not isinstance(kind, str):
        raise InvalidArea(field, _brief(document), "a GeoJSON object with a `type`")
    return kind


def _brief(value: Json) -> str:
    """A few words about a value that may be huge or deep."""
    if isinstance(value, (list, dict)) and len(value) > 4:
        return f"{type(value).__name__} of {len(value)}"
    return "".join(_shown(value, 4))[:80]


def _shown(value: Json, depth: int) -> Iterator[str]:
    if isinstance(value, list) and depth:
        yield "["
        for number, item in enumerate(value[:4]):
            yield ", " if number else ""
            yield from _shown(item, depth - 1)
        yield "]"
    elif isinstance(value, (list, dict)):
        yield f"{type(value).__name__} of {len(value)}"
    else:
        yield "null" if value is None else _text(value)


def _text(value: Json) -> str:
    try:
        return str(value)
    except ValueError:  # an integer of thousands of digits
        return "a number of thousands of digits"
