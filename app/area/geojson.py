"""A client's GeoJSON (RFC 7946) → areas of interest, every value checked and nothing repaired.

An altitude is dropped: it has no area. So is a feature of a collection without a geometry.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json
from shapely.geometry import MultiPolygon, Polygon

from app.area.polygon import SPLIT, SWAPPED, AreaOfInterest, checked
from app.errors import InvalidArea, TooLarge

MAX_VERTICES = 10_000
"""Vertices that the polygons of a document may have, unless a request allows fewer."""

# GeoJSON of 2008 names a CRS; writers mean longitude, latitude by every one of these.
_LONLAT = (
    "CRS84", "OGC:CRS84", "urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:OGC::CRS84",
    "http://www.opengis.net/def/crs/OGC/1.3/CRS84", "https://www.opengis.net/def/crs/OGC/1.3/CRS84",
    "EPSG:4326", "urn:ogc:def:crs:EPSG::4326", "http://www.opengis.net/def/crs/EPSG/0/4326",
)  # fmt: skip
_REPROJECT = "write it in longitude and latitude, as RFC 7946 asks: ogr2ogr -t_srs OGC:CRS84"
_BOM = b"\xef\xbb\xbf"

_LISTS = (list, tuple)
"""What JSON calls an array; tuples are those of shapely's `mapping` and `__geo_interface__`."""

Json = Any


@dataclass(frozen=True, slots=True)
class Areas:
    """One area, or the features of a collection. `notes`: what was left out of them."""

    areas: tuple[AreaOfInterest, ...]
    collection: bool
    notes: tuple[str, ...] = ()


def parse_json(body: bytes) -> Json:
    """Return the JSON document in bytes of UTF-8, with or without a byte order mark; ValueError."""
    # Python's own parser lets NaN and Infinity pass.
    return from_json(body.removeprefix(_BOM), allow_inf_nan=False)


def read_areas(body: bytes, max_vertices: int = MAX_VERTICES) -> Areas:
    """Return the areas in the bytes of a GeoJSON document; errors as `areas_of`."""
    try:
        document = parse_json(body)
    except ValueError as error:
        shown = body[:60].decode("utf-8", "replace")
        raise InvalidArea("body", shown, "a GeoJSON document", f"not JSON: {error}") from error
    return areas_of(document, max_vertices)


def areas_of(document: Json, max_vertices: int = MAX_VERTICES) -> Areas:
    """Return the areas in a GeoJSON Feature, FeatureCollection, Polygon or MultiPolygon.

    InvalidArea names the member and what is expected; TooLarge when all of them together have more
    vertices than allowed.
    """
    kind = _type_of(document, "type")
    collection = kind == "FeatureCollection"
    if not collection:
        area, _, flattened = _feature(document, "", max_vertices)
        return Areas((area,), False, _notes(flattened, 0))
    features, skipped = _features(document)
    parsed = [
        _feature(feature, f"features.{number}.", max_vertices) for number, feature in features
    ]
    vertices = sum(count for _, count, _ in parsed)
    if vertices > max_vertices:
        raise TooLarge("the number of vertices", vertices, max_vertices)
    flattened = any(flat for *_, flat in parsed)
    return Areas(tuple(area for area, *_ in parsed), True, _notes(flattened, skipped))


def _notes(flattened: bool, skipped: int) -> tuple[str, ...]:
    notes = ("altitudes were dropped",) if flattened else ()
    return (*notes, f"features without a geometry were skipped: {skipped}") if skipped else notes


def _features(document: Json) -> tuple[list[tuple[int, Json]], int]:
    """Return (number, feature) of every feature with a geometry, and how many have none."""
    _check_crs(document, "")
    features = document.get("features")
    if not isinstance(features, _LISTS) or not features:
        raise InvalidArea("features", _brief(features), "a list of at least one Feature")
    kept = []
    for number, feature in enumerate(features):
        if _type_of(feature, f"features.{number}.type") != "Feature":
            raise InvalidArea(f"features.{number}.type", feature["type"], "Feature")
        # RFC 7946 3.2: an unlocated feature has null as its geometry.
        if "geometry" not in feature or feature["geometry"] is not None:
            kept.append((number, feature))
    if not kept:
        raise InvalidArea("features", "no geometry in any", "at least one Feature with a polygon")
    return kept, len(features) - len(kept)


def _feature(document: Json, prefix: str, most: int) -> tuple[AreaOfInterest, int, bool]:
    """Return (area, its vertices, whether altitudes were dropped) of a Feature or a geometry."""
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
    for member, value in (("id", name), ("properties", properties)):
        _check_writable(value, f"{prefix}{member}")
    prefix = f"{prefix}geometry."
    _type_of(document.get("geometry"), f"{prefix}type")
    _check_crs(document["geometry"], prefix)
    geometry, count, flat = _geometry(document["geometry"], prefix, most)
    return AreaOfInterest(geometry, name, properties), count, flat


def _check_writable(value: Json, field: str) -> None:
    """Raise InvalidArea for what JSON can bring and cannot carry back: 1e999 is infinite."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise InvalidArea(field, _brief(value), "finite numbers of fewer digits") from error


def _geometry(document: Json, prefix: str, most: int) -> tuple[Polygon | MultiPolygon, int, bool]:
    kind, field = document["type"], f"{prefix}coordinates"
    if kind not in ("Polygon", "MultiPolygon"):
        hint = "take the collection apart" if kind == "GeometryCollection" else ""
        raise InvalidArea(f"{prefix}type", kind, "Polygon or MultiPolygon", hint)
    coordinates = document.get("coordinates")
    parts = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(parts, _LISTS) or not parts:
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
    return checked(geometry, field), counted, deep


def _rings(part: Json, field: str) -> Json:
    if not isinstance(part, _LISTS) or not part:
        raise InvalidArea(field, _brief(part), "polygons as lists of at least one ring")
    return part


def _size(ring: Json) -> int:
    return len(ring) if isinstance(ring, _LISTS) else 0


def _ring(ring: Json, field: str) -> tuple[list[tuple[float, float]], bool]:
    """Return (points, whether any has an altitude) of a closed ring."""
    if not isinstance(ring, _LISTS) or len(ring) < 4:
        raise InvalidArea(field, _brief(ring), "a ring of at least four positions")
    points = [_position(position, f"{field}.{number}") for number, position in enumerate(ring)]
    if points[0] != points[-1]:
        raise InvalidArea(
            field, _brief(ring[-1]), "a closed ring, whose last position is its first"
        )
    return points, any(len(position) > 2 for position in ring)


def _position(position: Json, field: str) -> tuple[float, float]:
    if not isinstance(position, _LISTS) or len(position) not in (2, 3):
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
        return SWAPPED
    if -90 <= latitude <= 90 and -360 <= longitude <= 360:
        return SPLIT
    if abs(longitude) > 1000 or abs(latitude) > 1000:
        return f"these look like meters or feet; {_REPROJECT}"
    return ""


def _check_crs(document: Json, prefix: str) -> None:
    crs = document.get("crs")
    if crs is None:
        return
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else crs
    if name not in _LONLAT:
        hint = f"{_REPROJECT}; or leave `crs` out if it is"
        raise InvalidArea(f"{prefix}crs", _brief(name), "OGC:CRS84, EPSG:4326 or no CRS", hint)


def _type_of(document: Json, field: str) -> str:
    kind = document.get("type") if isinstance(document, dict) else None
    if not isinstance(kind, str):
        raise InvalidArea(field, _brief(document), "a GeoJSON object with a `type`")
    return kind


def _brief(value: Json) -> str:
    """Return a few words about a value that may be huge or deep."""
    if isinstance(value, (*_LISTS, dict)) and len(value) > 4:
        return f"{type(value).__name__} of {len(value)}"
    return "".join(_shown(value, 4))[:80]


def _shown(value: Json, depth: int) -> Iterator[str]:
    if isinstance(value, _LISTS) and depth:
        yield "["
        for number, item in enumerate(value[:4]):
            yield ", " if number else ""
            yield from _shown(item, depth - 1)
        yield "]"
    elif isinstance(value, (*_LISTS, dict)):
        yield f"{type(value).__name__} of {len(value)}"
    else:
        yield "null" if value is None else _text(value)


def _text(value: Json) -> str:
    try:
        return str(value)
    except ValueError:  # an integer of thousands of digits
        return "a number of thousands of digits"
