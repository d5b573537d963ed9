"""Bodies that are no usable area: (what is wrong, body, status, what the hint speaks of)."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

LON, LAT = -86.965, 32.967
"""Within the imagery of `two_quads`."""
RING: list[list[float]] = [
    [LON, LAT],
    [LON + 0.001, LAT],
    [LON + 0.001, LAT + 0.001],
    [LON, LAT + 0.001],
    [LON, LAT],
]


def polygon(*rings: Any, **members: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"type": "Polygon", "coordinates": list(rings), **members}


def feature(geometry: Any, **members: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"type": "Feature", "properties": {}, "geometry": geometry, **members}


def collection(*features: Any, **members: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"type": "FeatureCollection", "features": list(features), **members}


def moved(east: float, north: float = 0.0, factor: float = 1.0) -> list[list[float]]:
    return [[LON + east + (x - LON) * factor, LAT + north + (y - LAT) * factor] for x, y in RING]


def crossing(points: int) -> list[list[float]]:
    """A ring through random points: `make_valid` would take from seconds to for ever."""
    draw = np.random.default_rng(5).uniform(0, 0.01, (points, 2))
    ring = np.add(draw, (LON, LAT)).tolist()
    return [*ring, ring[0]]


def circle(points: int) -> list[list[float]]:
    angle = np.linspace(0, 2 * math.pi, points, endpoint=False)
    ring = np.column_stack([LON + 0.001 * np.cos(angle), LAT + 0.001 * np.sin(angle)]).tolist()
    return [*ring, ring[0]]


def replaced(index: int, position: Any) -> list[Any]:  # noqa: ANN401
    ring: list[Any] = [list(point) for point in RING]
    ring[index] = position
    return ring


def _crs(name: str) -> dict[str, Any]:
    return {"type": "name", "properties": {"name": name}}


_FEATURE = (
    '{"type":"Feature","geometry":{"type":"Polygon","coordinates":'
    "[[[-87,33],[-86.9,33],[-86.9,33.1],[-87,33]]]},%s}"
)
_NUMBER = '{"type":"Polygon","coordinates":[[[%s,33],[-87,33.1],[-86.9,33.1],[%s,33]]]}'

DOCUMENTS: list[tuple[str, Any, int, str]] = [
    # what it is made of
    ("null", None, 422, ""),
    ("a number", 7, 422, ""),
    ("a string", "POLYGON ((0 0, 1 0, 1 1, 0 0))", 422, ""),
    ("a list", [RING], 422, ""),
    ("an object without type", {"coordinates": [RING]}, 422, ""),
    ("a type that is a number", {"type": 1, "coordinates": [RING]}, 422, ""),
    ("a type in lower case", {"type": "polygon", "coordinates": [RING]}, 422, ""),
    ("an unknown type", {"type": "Circle", "coordinates": [RING]}, 422, ""),
    ("a topology", {"type": "Topology", "objects": {}, "arcs": []}, 422, ""),
    ("a point", {"type": "Point", "coordinates": [LON, LAT]}, 422, ""),
    ("points", {"type": "MultiPoint", "coordinates": RING}, 422, ""),
    ("a line", {"type": "LineString", "coordinates": RING}, 422, ""),
    ("lines", {"type": "MultiLineString", "coordinates": [RING]}, 422, ""),
    (
        "a geometry collection",
        {"type": "GeometryCollection", "geometries": [polygon(RING)]},
        422,
        "apart",
    ),
    (
        "a feature of a collection",
        feature({"type": "GeometryCollection", "geometries": []}),
        422,
        "apart",
    ),
    ("a feature without geometry", {"type": "Feature", "properties": {}}, 422, ""),
    ("a feature with null geometry", feature(None), 422, ""),
    ("a feature in a feature", feature(feature(polygon(RING))), 422, ""),
    ("a feature with a list as properties", feature(polygon(RING), properties=[1]), 422, ""),
    ("a feature with a list as id", feature(polygon(RING), id=[1]), 422, ""),
    ("a feature with true as id", feature(polygon(RING), id=True), 422, ""),
    ("an empty collection", collection(), 422, ""),
    ("a collection without features", {"type": "FeatureCollection"}, 422, ""),
    ("a collection of nothing", collection(None), 422, ""),
    ("a collection of geometries", collection(polygon(RING)), 422, ""),
    ("a collection in a collection", collection(collection(feature(polygon(RING)))), 422, ""),
    (
        "a collection whose second is bad",
        collection(feature(polygon(RING)), feature({"type": "Point", "coordinates": [LON, LAT]})),
        422,
        "",
    ),
    ("a collection without any geometry", collection(feature(None), feature(None)), 422, ""),
    (
        "a collection whose second has no geometry member",
        collection(feature(polygon(RING)), {"type": "Feature", "properties": {}}),
        422,
        "",
    ),
    # coordinates
    ("no coordinates", {"type": "Polygon"}, 422, ""),
    ("null coordinates", {"type": "Polygon", "coordinates": None}, 422, ""),
    ("coordinates as an object", {"type": "Polygon", "coordinates": {"0": RING}}, 422, ""),
    ("coordinates as text", {"type": "Polygon", "coordinates": "0,0 1,1"}, 422, ""),
    ("an empty polygon", {"type": "Polygon", "coordinates": []}, 422, ""),
    ("an empty multipolygon", {"type": "MultiPolygon", "coordinates": []}, 422, ""),
    ("a multipolygon of an empty one", {"type": "MultiPolygon", "coordinates": [[]]}, 422, ""),
    ("a multipolygon one level too flat", {"type": "MultiPolygon", "coordinates": [RING]}, 422, ""),
    ("a polygon one level too flat", {"type": "Polygon", "coordinates": RING}, 422, ""),
    ("a polygon one level too deep", {"type": "Polygon", "coordinates": [[RING]]}, 422, ""),
    ("an empty ring", polygon([]), 422, ""),
    ("a ring of three", polygon(RING[:3]), 422, ""),
    ("an open ring", polygon(RING[:4]), 422, ""),
    ("a position of one", polygon(replaced(1, [LON])), 422, ""),
    ("a position of four", polygon(replaced(1, [LON, LAT, 0, 0])), 422, ""),
    ("an empty position", polygon(replaced(1, [])), 422, ""),
    ("null as position", polygon(replaced(1, None)), 422, ""),
    ("text as number", polygon(replaced(1, ["-87", "33"])), 422, ""),
    ("null as number", polygon(replaced(1, [LON, None])), 422, ""),
    ("true as number", polygon(replaced(1, [True, LAT])), 422, ""),
    ("text as altitude", polygon(replaced(1, [LON, LAT, "high"])), 422, ""),
    # places
    ("north of the pole", polygon(replaced(2, [LON, 91])), 422, ""),
    (
        "latitude first",
        polygon([[y, -170.0 + x - LON] for x, y in RING]),
        422,
        "longitude comes first",
    ),
    (
        "latitude first, where it could be",
        polygon([[y, x] for x, y in RING]),
        422,
        "longitude comes first",
    ),
    (
        "UTM meters",
        polygon(
            [[500_000, 3_650_000], [501_000, 3_650_000], [501_000, 3_651_000], [500_000, 3_650_000]]
        ),
        422,
        "meters",
    ),
    (
        "web Mercator",
        polygon(
            [
                [-9_684_000, 3_895_000],
                [-9_683_000, 3_895_000],
                [-9_683_000, 3_896_000],
                [-9_684_000, 3_895_000],
            ]
        ),
        422,
        "meters",
    ),
    ("longitudes to 360", polygon(moved(360)), 422, "antimeridian"),
    (
        "over the antimeridian",
        polygon([[179, 50], [-179, 50], [-179, 51], [179, 51], [179, 50]]),
        422,
        "antimeridian",
    ),
    (
        "beyond the antimeridian",
        polygon([[179, 50], [181, 50], [181, 51], [179, 51], [179, 50]]),
        422,
        "antimeridian",
    ),
    (
        "the whole world",
        polygon([[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]),
        422,
        "antimeridian",
    ),
    ("1e308", polygon(replaced(1, [1e308, -1e308])), 422, ""),
    ("an integer of 400 digits", polygon(replaced(1, [10**400, LAT])), 422, ""),
    # shapes
    ("a bow-tie", polygon([RING[0], RING[2], RING[1], RING[3], RING[0]]), 422, "mend"),
    ("a hole outside", polygon(RING, moved(0.1)), 422, "mend"),
    ("a hole over the edge", polygon(RING, moved(0.0005)), 422, "mend"),
    ("a hole as large as the polygon", polygon(RING, RING), 422, "mend"),
    (
        "two holes over each other",
        polygon(RING, moved(0.0001, 0.0001, 0.5), moved(0.0002, 0.0002, 0.5)),
        422,
        "mend",
    ),
    (
        "parts over each other",
        {"type": "MultiPolygon", "coordinates": [[RING], [moved(0.0005)]]},
        422,
        "mend",
    ),
    ("the same part twice", {"type": "MultiPolygon", "coordinates": [[RING], [RING]]}, 422, "mend"),
    ("a spike", polygon([*RING[:2], [LON + 0.002, LAT], *RING[1:]]), 422, "mend"),
    ("one point four times", polygon([RING[0]] * 4), 422, ""),
    ("a line there and back", polygon([RING[0], RING[1], RING[0], RING[0]]), 422, ""),
    ("300 random points", polygon(crossing(300)), 422, "mend"),
    ("900 random points", polygon(crossing(900)), 422, "mend"),
    ("1,001 vertices", polygon(circle(1001)), 413, ""),
    ("20,000 vertices", polygon(circle(20_000)), 413, ""),
    (
        "many parts with too many vertices together",
        collection(*[feature(polygon(circle(400)))] * 3),
        413,
        "",
    ),
    # crs
    ("a projected CRS", polygon(RING, crs=_crs("urn:ogc:def:crs:EPSG::26916")), 422, "ogr2ogr"),
    ("NAD 83", feature(polygon(RING), crs=_crs("EPSG:4269")), 422, "ogr2ogr"),
    (
        "a CRS in the collection",
        collection(feature(polygon(RING)), crs=_crs("EPSG:3857")),
        422,
        "ogr2ogr",
    ),
    ("a CRS in the geometry", feature(polygon(RING, crs=_crs("EPSG:3857"))), 422, "ogr2ogr"),
    (
        "a linked CRS",
        polygon(RING, crs={"type": "link", "properties": {"href": "http://169.254.169.254/"}}),
        422,
        "ogr2ogr",
    ),
    ("a CRS as a path", polygon(RING, crs="/vsicurl/http://127.0.0.1/a.prj"), 422, "ogr2ogr"),
    # too large
    (
        "a whole state",
        polygon([[-88.4, 30.3], [-84.9, 30.3], [-84.9, 35.0], [-88.4, 35.0], [-88.4, 30.3]]),
        413,
        "job",
    ),
]

TEXTS: list[tuple[str, bytes, int, str]] = [
    ("nothing", b"", 422, "not JSON"),
    ("blanks", b"   ", 422, "not JSON"),
    ("half a document", b'{"type": "Polygon", "coordinates": [[[', 422, "not JSON"),
    ("XML", b"<gml:Polygon/>", 422, "not JSON"),
    ("binary", bytes(range(256)), 422, "not JSON"),
    ("UTF-16", json.dumps(polygon(RING)).encode("utf-16"), 422, "not JSON"),
    ("two documents", json.dumps(polygon(RING)).encode() * 2, 422, "not JSON"),
    ("NaN", (_NUMBER % ("NaN", "NaN")).encode(), 422, "not JSON"),
    ("Infinity", (_NUMBER % ("Infinity", "Infinity")).encode(), 422, "not JSON"),
    ("minus Infinity", (_NUMBER % ("-Infinity", "-Infinity")).encode(), 422, "not JSON"),
    ("a number that overflows", (_NUMBER % ("1e999", "1e999")).encode(), 422, ""),
    ("an id that overflows", (_FEATURE % '"id":1e999').encode(), 422, ""),
    ("an id of 5,000 digits", (_FEATURE % f'"id":{"9" * 5000}').encode(), 422, ""),
    (
        "a property that overflows",
        (_FEATURE % '"properties":{"a":[{"b":-1e999}]}').encode(),
        422,
        "",
    ),
    ("half a surrogate pair as id", (_FEATURE % r'"id":"\ud800"').encode(), 422, "not JSON"),
    (
        "NaN among the properties",
        b'{"type":"Feature","properties":{"a":NaN},"geometry":null}',
        422,
        "not JSON",
    ),
    ("100,000 lists in each other", b"[" * 100_000 + b"]" * 100_000, 422, "not JSON"),
    ("100,000 objects in each other", b'{"a":' * 100_000, 422, "not JSON"),
    (
        "coordinates 5,000 deep",
        b'{"type":"Polygon","coordinates":' + b"[" * 5000 + b"]" * 5000 + b"}",
        422,
        "not JSON",
    ),
    ("an integer of 5,000 digits", (_NUMBER % ("9" * 5000, "9" * 5000)).encode(), 422, ""),
    (
        "100,000 vertices",
        json.dumps(polygon([[round(x, 3), round(y, 3)] for x, y in circle(100_000)])).encode(),
        413,
        "",
    ),
    ("more than a MiB", b" " * (1024 * 1024 + 1), 413, ""),
]

BAD: list[tuple[str, bytes, int, str]] = [
    *(
        (name, json.dumps(document).encode(), status, hint)
        for name, document, status, hint in DOCUMENTS
    ),
    *TEXTS,
]
