"""OGC API – Tiles 1.0 (20-057): collections, tilesets and tile matrix sets.

The tiles are those of app.routes.tiles and app.routes.imagery: every tileset says in its `item`
links where they are, and in its limits which of them have imagery.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from app.errors import UnknownName
from app.grid.pixel_grid import Bounds
from app.grid.tile import TMS, TMS_NAMES
from app.routes.map_layers import MapLayer, MatrixLimits, layer_of, layers_of
from app.routes.requests import selections_of
from app.routes.schemas import TileQuery, openapi_parameters, query_of

router = APIRouter(tags=["ogc api tiles"])

Json = dict[str, Any]

REL = "http://www.opengis.net/def/rel/ogc/1.0/"
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
TIFF = "image/tiff; application=geotiff"
_JSON = "application/json"
_COMMON = "http://www.opengis.net/spec/ogcapi-common-"
_TILES = "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/"

CONFORMANCE = [
    *(f"{_COMMON}1/1.0/conf/{name}" for name in ("core", "landing-page", "json")),
    f"{_COMMON}2/1.0/conf/collections",
    *(
        f"{_TILES}{name}"
        for name in (
            "core", "tileset", "tilesets-list", "dataset-tilesets", "geodata-tilesets",
            "datetime", "png", "jpeg", "tiff",
        )
    ),
]  # fmt: skip
"""What this page adds to /conformance."""

LANDING = {
    "self": ("", _JSON, "This document"),
    "data": ("collections", _JSON, "Layers as collections"),
    f"{REL}tilesets-map": ("tiles", _JSON, "Tilesets of the land cover"),
    f"{REL}tiling-schemes": ("tileMatrixSets", _JSON, "Tile matrix sets"),
    "clients": ("clients", "text/html", "Addresses for QGIS, ArcGIS, GDAL and web maps"),
    "wmts": ("WMTSCapabilities.xml", "application/xml", "WMTS capabilities"),
}
"""What it adds to the landing page: rel → (path, media type, title)."""

_PLACE = "{tileMatrix}/{tileCol}/{tileRow}"


@router.get("/tileMatrixSets", response_model=None)
async def tile_matrix_sets(request: Request) -> Json:
    """The tile matrix sets."""
    address = f"{request.base_url}tileMatrixSets/{TMS_NAMES[0]}"
    links = [_link("self", address)]
    listed = {"id": TMS_NAMES[0], "title": TMS.title, "uri": str(TMS.uri), "links": links}
    return {"tileMatrixSets": [listed]}


@router.get("/tileMatrixSets/{tileMatrixSetId}", response_model=None)
async def tile_matrix_set(tileMatrixSetId: str) -> Json:  # noqa: N803
    """A tile matrix set as OGC 17-083r4 defines it."""
    _known(tileMatrixSetId)
    definition: Json = TMS.model_dump(mode="json", exclude_none=True)
    return definition


@router.get("/tiles", response_model=None, openapi_extra=openapi_parameters(TileQuery))
async def tilesets(request: Request) -> Json:
    """The tilesets of the land cover; the query is carried over into the tiles' addresses."""
    base, query = str(request.base_url), _query_of(request)
    title, bounds, _, _ = _requested(request)
    address = f"{base}tiles/{TMS_NAMES[0]}{query}"
    return {
        "links": [_link("self", f"{base}tiles{query}")],
        "tilesets": [_summary(title, bounds, address, base)],
    }


@router.get(
    "/tiles/{tileMatrixSetId}", response_model=None, openapi_extra=openapi_parameters(TileQuery)
)
async def tileset(request: Request, tileMatrixSetId: str) -> Json:  # noqa: N803
    """The tileset of the land cover with its limits; the query is carried over."""
    _known(tileMatrixSetId)
    base, query = str(request.base_url), _query_of(request)
    title, bounds, limits, zooms = _requested(request)
    address = f"{base}tiles/{TMS_NAMES[0]}"
    items = [
        _link("item", f"{address}/{_PLACE}.{suffix}{query}", media, templated=True)
        for media, suffix in (("image/png", "png"), (TIFF, "tif"))
    ]
    return _tileset(title, bounds, f"{address}{query}", base, items, limits, zooms)


@router.get("/collections", response_model=None)
async def collections(request: Request) -> Json:
    """Classes, confidence and imagery of every source, each a collection."""
    base = str(request.base_url)
    layers = layers_of(request.app.state.services)
    return {
        "links": [_link("self", f"{base}collections")],
        "collections": [_collection(layer, base) for layer in layers],
    }


@router.get("/collections/{collectionId}", response_model=None)
async def collection(request: Request, collectionId: str) -> Json:  # noqa: N803
    """One layer of one source: its extent, years and tilesets."""
    return _collection(_layer(request, collectionId), str(request.base_url))


@router.get("/collections/{collectionId}/styles", response_model=None)
async def styles(request: Request, collectionId: str) -> Json:  # noqa: N803
    """The styles of a layer, each with its tilesets."""
    layer, base = _layer(request, collectionId), str(request.base_url)
    return {
        "default": layer.default_style,
        "styles": [
            {
                "id": style,
                "title": title,
                "links": [_link(f"{REL}tilesets-map", f"{_home(layer, base, style)}/map/tiles")],
            }
            for style, title in layer.styles.items()
        ],
    }


@router.get("/collections/{collectionId}/map/tiles", response_model=None)
async def collection_tilesets(request: Request, collectionId: str) -> Json:  # noqa: N803
    """The tilesets of a layer in its default style."""
    return _tilesets(request, collectionId, None)


@router.get("/collections/{collectionId}/map/tiles/{tileMatrixSetId}", response_model=None)
async def collection_tileset(
    request: Request,
    collectionId: str,  # noqa: N803
    tileMatrixSetId: str,  # noqa: N803
) -> Json:
    """A tileset of a layer in its default style: addresses and limits."""
    _known(tileMatrixSetId)
    return _layer_tileset(request, collectionId, None)


@router.get("/collections/{collectionId}/styles/{styleId}/map/tiles", response_model=None)
async def style_tilesets(request: Request, collectionId: str, styleId: str) -> Json:  # noqa: N803
    """The tilesets of a layer in a style."""
    return _tilesets(request, collectionId, styleId)


@router.get(
    "/collections/{collectionId}/styles/{styleId}/map/tiles/{tileMatrixSetId}",
    response_model=None,
)
async def style_tileset(
    request: Request,
    collectionId: str,  # noqa: N803
    styleId: str,  # noqa: N803
    tileMatrixSetId: str,  # noqa: N803
) -> Json:
    """A tileset of a layer in a style: addresses and limits."""
    _known(tileMatrixSetId)
    return _layer_tileset(request, collectionId, styleId)


def _collection(layer: MapLayer, base: str) -> Json:
    home = _home(layer, base, None)
    extent: Json = {"spatial": {"bbox": [list(layer.source.bounds)], "crs": CRS84}}
    if years := layer.source.years:
        interval = [f"{min(years)}-01-01T00:00:00Z", f"{max(years)}-12-31T23:59:59Z"]
        extent["temporal"] = {"interval": [interval]}
    links = [
        _link("self", home),
        _link(f"{REL}tilesets-map", f"{home}/map/tiles"),
        _link(f"{REL}styles", f"{home}/styles"),
    ]
    if layer.kind == "class":
        links.append(_link("describedby", f"{base}legend"))
    return {
        "id": layer.id,
        "title": layer.title,
        "attribution": layer.source.attribution,
        "extent": extent,
        "crs": [CRS84, str(TMS.model_dump(mode="json")["crs"])],
        "dataType": "map",
        "links": links,
    }


def _tilesets(request: Request, collection_id: str, style: str | None) -> Json:
    layer, base = _layer(request, collection_id, style), str(request.base_url)
    address = f"{_home(layer, base, style)}/map/tiles"
    tileset = _summary(layer.title, layer.source.bounds, f"{address}/{TMS_NAMES[0]}", base)
    return {"links": [_link("self", address)], "tilesets": [tileset]}


def _layer_tileset(request: Request, collection_id: str, style: str | None) -> Json:
    layer, base = _layer(request, collection_id, style), str(request.base_url)
    formats = dict(layer.formats)
    if layer.kind == "class":
        formats[TIFF] = "tif"
    selected = style or layer.default_style
    items = [
        _link("item", layer.template(base, suffix, style=selected, year="", place=_PLACE), media,
              templated=True)
        for media, suffix in formats.items()
    ]  # fmt: skip
    address = f"{_home(layer, base, style)}/map/tiles/{TMS_NAMES[0]}"
    source = layer.source
    return _tileset(layer.title, source.bounds, address, base, items, layer.limits(), source.zooms)


def _summary(title: str, bounds: Bounds, address: str, base: str) -> Json:
    """What a list says of a tileset."""
    west, south, east, north = bounds
    scheme = f"{base}tileMatrixSets/{TMS_NAMES[0]}"
    return {
        "title": title,
        "dataType": "map",
        "crs": TMS.model_dump(mode="json")["crs"],
        "tileMatrixSetURI": str(TMS.uri),
        "boundingBox": {"lowerLeft": [west, south], "upperRight": [east, north], "crs": CRS84},
        "links": [
            _link("self", address),
            _link(f"{REL}tiling-scheme", scheme),
        ],
    }


def _tileset(
    title: str,
    bounds: Bounds,
    address: str,
    base: str,
    items: list[Json],
    limits: list[MatrixLimits],
    zooms: tuple[int, int],
) -> Json:
    west, south, east, north = bounds
    document = _summary(title, bounds, address, base)
    document["links"] += items
    middle = [(west + east) / 2, (south + north) / 2]
    document["centerPoint"] = {"coordinates": middle, "crs": CRS84, "tileMatrix": str(zooms[1])}
    document["tileMatrixSetLimits"] = [
        {
            "tileMatrix": str(each.zoom),
            "minTileRow": each.min_row,
            "maxTileRow": each.max_row,
            "minTileCol": each.min_col,
            "maxTileCol": each.max_col,
        }
        for each in limits
    ]
    return document


def _requested(request: Request) -> tuple[str, Bounds, list[MatrixLimits], tuple[int, int]]:
    """Title, bounds, limits and zooms of what a request's tile parameters select."""
    services = request.app.state.services
    query = query_of(TileQuery, request.scope["query_string"])
    layer = MapLayer(selections_of(services, query)[-1].source, "class")
    return layer.title, layer.source.bounds, layer.limits(), layer.source.zooms


def _query_of(request: Request) -> str:
    return f"?{request.url.query}" if request.url.query else ""


def _layer(request: Request, collection_id: str, style: str | None = None) -> MapLayer:
    try:
        layer = layer_of(request.app.state.services, collection_id)
    except UnknownName as error:
        raise UnknownName("collectionId", collection_id, error.known) from error
    if style is not None and style not in layer.styles:
        raise UnknownName("styleId", style, layer.styles)
    return layer


def _home(layer: MapLayer, base: str, style: str | None) -> str:
    """The address of a collection, or of it in a style."""
    home = f"{base}collections/{layer.id}"
    return f"{home}/styles/{style}" if style else home


def _link(rel: str, href: str, media: str = _JSON, *, templated: bool = False) -> Json:
    link: Json = {"rel": rel, "href": href, "type": media}
    return link | ({"templated": True} if templated else {})


def _known(tile_matrix_set_id: str) -> None:
    if tile_matrix_set_id not in TMS_NAMES:
        raise UnknownName("tileMatrixSetId", tile_matrix_set_id, TMS_NAMES)
