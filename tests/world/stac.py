"""STAC items of synthetic scenes, as the Planetary Computer's `naip` collection has them, and a
STAC API that serves them: OGC API Features and item search by GET and POST, paged by links."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Protocol
from urllib.parse import urlencode

import shapely
from shapely.geometry import shape

from tests.world.scenes import SyntheticScene, lonlat

Projection = Literal["proj:epsg", "proj:code"]

EO_BANDS = [
    {"name": "Red", "common_name": "red"},
    {"name": "Green", "common_name": "green"},
    {"name": "Blue", "common_name": "blue"},
    {"name": "NIR", "common_name": "nir", "description": "near-infrared"},
]


def outline(scene: SyntheticScene) -> shapely.Polygon:
    """The scene's corners in degrees."""
    left, bottom, right, top = scene.bounds
    corners = ((left, bottom), (right, bottom), (right, top), (left, top))
    return shapely.Polygon([lonlat(scene.epsg, x, y) for x, y in corners])


def item_of(
    scene: SyntheticScene, href: str, *, projection: Projection = "proj:epsg", bands: int = 4
) -> dict[str, Any]:
    """The item of a scene whose image is at `href`."""
    date = scene.path.stem.rpartition("_")[2]
    left, bottom, right, top = scene.bounds
    footprint = outline(scene)
    size = scene.resolution
    placed: dict[str, Any] = {"proj:epsg": scene.epsg}
    if projection == "proj:code":
        placed = {"proj:code": f"EPSG:{scene.epsg}"}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"al_{scene.path.stem}",
        "collection": "naip",
        "geometry": shapely.geometry.mapping(footprint),
        "bbox": list(footprint.bounds),
        "properties": {
            "gsd": round(size, 1),
            "datetime": f"{date[:4]}-{date[4:6]}-{date[6:8]}T16:00:00Z",
            "naip:year": date[:4],
            "naip:state": "al",
            **placed,
            "proj:bbox": [left, bottom, right, top],
            "proj:shape": [scene.rows, scene.cols],
            "proj:transform": [size, 0.0, left, 0.0, -size, top],
        },
        "links": [],
        "assets": {
            "image": {
                "href": href,
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
                "title": "RGBIR COG tile",
                "eo:bands": EO_BANDS[:bands],
            },
            "metadata": {"href": f"{href}.txt", "type": "text/plain", "roles": ["metadata"]},
            "thumbnail": {"href": f"{href}.200.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
            "rendered_preview": {"href": "https://example.org/p.png", "type": "image/png"},
        },
    }


# ---- the API -------------------------------------------------------------------------------------

Paging = Literal["post", "merge", "get"]
Answer = tuple[int, dict[str, Any]]

GEOJSON = "application/geo+json"
CONFORMANCE = [
    *(
        f"https://api.stacspec.org/v1.0.0/{name}"
        for name in ("core", "collections", "ogcapi-features", "item-search", "item-search#query")
    ),
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
]
COLLECTION: dict[str, Any] = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "naip",
    "description": "Synthetic NAIP",
    "license": "proprietary",
    "extent": {
        "spatial": {"bbox": [[-160.0, 17.0, -67.0, 50.0], [-124.784, 24.744, -66.951, 49.346]]},
        "temporal": {"interval": [["2010-01-01T00:00:00Z", "2023-12-31T00:00:00Z"]]},
    },
}


class StacWorld(Protocol):
    """What the API serves. `page`: most items of a page; `paging`: what `next` links are."""

    items: list[dict[str, Any]]
    page: int
    paging: Paging

    @property
    def stac_url(self) -> str: ...


def stac_answer(
    world: StacWorld, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any]
) -> Answer:
    """(status, JSON) of a request to the API, `path` relative to its landing page."""
    documents = {
        "/": _landing(world),
        "/conformance": {"conformsTo": CONFORMANCE},
        "/collections": {
            "collections": [_collection(world)],
            "links": [_link(world, "self", path), _link(world, "root", "/")],
        },
        "/collections/naip": _collection(world),
    }
    documents |= {f"/collections/naip/items/{i.get('id')}": _linked(world, i) for i in world.items}
    path = path or "/"
    if path in documents:
        return 200, documents[path]
    if path == "/collections/naip/items":
        return _page(world, path, "GET", {**query, "collections": "naip"}, query)
    if path != "/search":
        return 404, {"code": "NotFound"}
    if method == "POST" and world.paging == "get":
        return 405, {"code": "MethodNotAllowed"}
    return _page(world, path, method, body or query, body or query)


def _link(world: StacWorld, rel: str, path: str, media: str = "application/json") -> dict[str, Any]:
    return {"rel": rel, "href": f"{world.stac_url}{path}", "type": media}


def _landing(world: StacWorld) -> dict[str, Any]:
    methods = ("GET",) if world.paging == "get" else ("GET", "POST")
    return {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "double",
        "description": "A STAC API of synthetic scenes",
        "conformsTo": CONFORMANCE,
        "links": [
            _link(world, "self", "/"),
            _link(world, "root", "/"),
            _link(world, "conformance", "/conformance"),
            _link(world, "data", "/collections"),
            *(_link(world, "search", "/search", GEOJSON) | {"method": m} for m in methods),
        ],
    }


def _collection(world: StacWorld) -> dict[str, Any]:
    path = "/collections/naip"
    links = [_link(world, "self", path), _link(world, "root", "/"), _link(world, "parent", "/")]
    return COLLECTION | {"links": [*links, _link(world, "items", f"{path}/items", GEOJSON)]}


def _linked(world: StacWorld, item: dict[str, Any]) -> dict[str, Any]:
    path = "/collections/naip"
    links = [
        _link(world, "self", f"{path}/items/{item.get('id')}", GEOJSON),
        _link(world, "collection", path),
        _link(world, "root", "/"),
    ]
    return item | {"links": links}


def _page(
    world: StacWorld, path: str, method: str, fields: Mapping[str, Any], sent: Mapping[str, Any]
) -> Answer:
    """One page of what `fields` select; `sent` is what the next link repeats."""
    try:
        matches = _matching(world.items, fields)
        limit = int(fields.get("limit", 10))
        first = int(fields.get("token", 0))
        if limit < 1 or first < 0:
            raise ValueError("limit")  # noqa: TRY301
    except (ValueError, TypeError, KeyError) as error:
        return 400, {"code": "BadRequest", "description": str(error)}
    after = first + min(world.page, limit)
    links = [_link(world, "root", "/"), _link(world, "self", path, GEOJSON)]
    if after < len(matches):
        following = _link(world, "next", path, GEOJSON)
        if method == "GET":
            again = urlencode({**sent, "token": str(after)}, safe=",:/")
            following |= {"method": "GET", "href": f"{following['href']}?{again}"}
        elif world.paging == "merge":
            following |= {"method": "POST", "merge": True, "body": {"token": str(after)}}
        else:
            following |= {"method": "POST", "body": {**sent, "token": str(after)}}
        links.append(following)
    page = [_linked(world, item) for item in matches[first:after]]
    return 200, {
        "type": "FeatureCollection",
        "features": page,
        "links": links,
        "numberMatched": len(matches),
        "numberReturned": len(page),
    }


def _matching(items: list[dict[str, Any]], fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items that a search's fields (of GET: texts; of POST: JSON) select."""
    tests: list[Callable[[dict[str, Any]], bool]] = []
    if box := fields.get("bbox"):
        area = shapely.box(*(float(v) for v in _listed(box)))
        tests.append(lambda item: shape(item["geometry"]).intersects(area))
    if names := fields.get("collections"):
        tests.append(lambda item: item.get("collection", "naip") in _listed(names))
    if ids := fields.get("ids"):
        tests.append(lambda item: item["id"] in _listed(ids))
    if when := fields.get("datetime"):
        start, _, end = str(when).partition("/")
        begin, until = _moment(start, 1), _moment(end or start, 9999)
        tests.append(lambda item: begin <= _moment(item["properties"]["datetime"], 1) <= until)
    for name, wanted in dict(fields.get("query") or {}).items():
        expected = wanted["eq"]
        tests.append(lambda item, n=name, e=expected: item["properties"].get(n) == e)  # type: ignore[misc]
    return [item for item in items if all(test(item) for test in tests)]


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - text or JSON
    return value.split(",") if isinstance(value, str) else list(value)


def _moment(text: str, year_if_open: int) -> datetime:
    if text in ("", ".."):
        return datetime(year_if_open, 1, 1, tzinfo=UTC)
    return datetime.fromisoformat(text)
