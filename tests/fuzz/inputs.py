"""Strategies: polygons good and bad, queries, keys of tiles, and documents with something odd."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

LON, LAT = -86.9651, 32.9672
"""Within the imagery of `two_quads`."""

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 255, 256, 2**31, 2**63, 10**400, -(10**400), 1e308, -1e308, 5e-324,
    math.nan, math.inf, -math.inf, "", " ", "\x00", "\ud800", "é" * 200, "a" * 5000, "²", "1e999",
    "../../etc/passwd", "/vsicurl/http://127.0.0.1:1/", "file:///etc/passwd", "http://[::1", "%",
    "http://127.0.0.1:99999/a.tif", "<VRTDataset>", "{}", "[]", "2017-13-45T99:99:99Z", "-0001",
    [], {}, [None], [[]], [1e308] * 6, {"type": 1}, {"": ""}, [0] * 1000,
]  # fmt: skip
odd: SearchStrategy[Any] = st.one_of(
    st.sampled_from(ODD),
    st.integers(),
    st.floats(),
    st.text(max_size=40),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=5,
    ),
)


def _places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401
    """Return the path of every node of a document but its root."""
    children: Any = ()
    if isinstance(document, dict):
        children = document.items()
    elif isinstance(document, list):
        children = enumerate(document)
    found = []
    for key, value in children:
        found += [(*path, key), *_places(value, (*path, key))]
    return found


@st.composite
def changed(draw: st.DrawFn, base: Any, most: int = 3) -> Any:  # noqa: ANN401 - any JSON
    """A document with up to `most` of its nodes replaced, removed, repeated or wrapped deep."""
    document = copy.deepcopy(base)
    for _ in range(draw(st.integers(1, most))):
        places = _places(document)
        if not places:
            break
        *path, last = draw(st.sampled_from(places))
        parent = document
        for key in path:
            parent = parent[key]
        how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "more", "deep"]))
        if how == "remove":
            del parent[last]
        elif how == "more" and isinstance(parent, list):
            parent.extend(copy.deepcopy(parent[last]) for _ in range(draw(st.integers(1, 5))))
        elif how == "deep":
            value = parent[last]
            for _ in range(draw(st.sampled_from([2, 50, 400]))):
                value = [value]
            parent[last] = value
        else:
            parent[last] = copy.deepcopy(draw(odd))
    return document


def as_json(document: Any) -> str:  # noqa: ANN401 - any JSON
    """Return JSON as clients and catalogs write it, NaN and lone surrogates included."""
    return json.dumps(document, ensure_ascii=True)


# ---- polygons

_near = st.floats(-0.004, 0.004)


@st.composite
def rings(draw: st.DrawFn) -> list[list[float]]:
    """A closed ring: mostly a star around a point (simple), else through random points."""
    count = draw(st.integers(3, 40))
    if draw(st.integers(0, 4)):
        radii = draw(st.lists(st.floats(1e-5, 0.003), min_size=count, max_size=count))
        east, north = draw(_near), draw(_near)
        ring = [
            [
                LON + east + r * math.cos(2 * math.pi * n / count),
                LAT + north + r * math.sin(2 * math.pi * n / count),
            ]
            for n, r in enumerate(radii)
        ]
    else:
        ring = [[LON + draw(_near), LAT + draw(_near)] for _ in range(count)]
    return [*ring, ring[0]]


@st.composite
def far_rings(draw: st.DrawFn) -> list[list[float]]:
    """A closed ring anywhere on Earth, and beyond it."""
    lon = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, 180.0, 179.999, 360.0, 1e308]))
    lat = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 89.99, 91.0, 5e-324]))
    ring = [[draw(lon), draw(lat)] for _ in range(draw(st.integers(3, 8)))]
    return [*ring, ring[0]]


_any_ring = st.one_of(rings(), rings(), rings(), far_rings())
polygons = st.builds(
    lambda outer, holes: {"type": "Polygon", "coordinates": [outer, *holes]},
    _any_ring,
    st.just([]) | st.lists(rings(), max_size=2),
)
multipolygons = st.builds(
    lambda parts: {"type": "MultiPolygon", "coordinates": [[ring] for ring in parts]},
    st.lists(_any_ring, min_size=1, max_size=4),
)
geometries = polygons | multipolygons
features = st.builds(
    lambda geometry, properties, id: {
        "type": "Feature", "geometry": geometry, "properties": properties, "id": id
    },
    geometries | st.none(),
    st.none() | st.dictionaries(st.text(max_size=5), odd, max_size=3),
    st.none() | st.integers() | st.text(max_size=5) | odd,
)  # fmt: skip
documents = st.one_of(
    geometries,
    features,
    st.builds(
        lambda them: {"type": "FeatureCollection", "features": them},
        st.lists(features, min_size=1, max_size=4),
    ),
)
areas = st.one_of(documents, documents, documents.flatmap(changed))
"""GeoJSON documents; a third of them with something odd in it."""

# ---- queries and keys of tiles

_value = st.one_of(
    st.sampled_from(
        ["latest", "2017", "1", "0", "-1", "nan", "inf", "1e-200", "1e999", "two_quads0", "older",
         "2017-01-01/..", "../..", "EPSG:26916", "EPSG:0", "EPSG:999999999999", "json", "csv",
         "confidence", "change", "1,5", "1,,5", "colorblind", '{"1": "#ff0000"}', '{"1": [[[]]]}',
         "[" * 3000, "512", "exact", "estimate", "100", "ndvi"]
    ),
    st.text(max_size=30),
    odd.map(str),
)  # fmt: skip
_NAMES = (
    "source", "year", "datetime", "fill", "tilesize", "model", "layer", "from", "to", "classes",
    "colormap_name", "colormap", "min_confidence", "quality", "style", "f", "crs", "resolution",
    "assessment", "bbox", "probabilities", "limit", "x",
)  # fmt: skip
queries = st.dictionaries(st.sampled_from(_NAMES), _value, max_size=4).map(
    lambda pairs: urlencode(pairs, errors="surrogatepass") if pairs else ""
)
_number = st.one_of(
    st.integers(0, 24).map(str), st.integers().map(str), st.text(max_size=6),
    st.sampled_from(["-1", "99999999999", "1e3", "0x10", "²", "1_0", "", ".", "..", "%00"]),
)  # fmt: skip


@st.composite
def tile_keys(draw: st.DrawFn, middle: Callable[[int], tuple[int, int]]) -> str:
    """Path and query of a tile: near the imagery, anywhere, or nonsense."""
    z = draw(st.integers(8, 22))
    x, y = middle(z)
    zxy = [str(z), str(x + draw(st.integers(-2, 2))), str(y + draw(st.integers(-2, 2)))]
    if draw(st.booleans()):
        zxy[draw(st.integers(0, 2))] = draw(_number)
    tms = draw(st.sampled_from(["WebMercatorQuad", "WebMercatorQuad", "WGS1984Quad", "", "x/../"]))
    scale = draw(st.sampled_from(["", "", "@2x", "@3x"]))
    suffix = draw(st.sampled_from(["", ".png", ".webp", ".tif", ".npy", ".jpg", ".", ".png.png"]))
    kind = draw(st.sampled_from(["/tiles", "/tiles", "/imagery/tiles", ""]))

    path = "/".join([*([tms] if kind else []), *(quote(part, errors="replace") for part in zxy)])
    query = draw(queries)
    return f"{kind}/{path}{scale}{suffix}" + (f"?{query}" if query else "")
