"""WMTS 1.0.0, key-value pairs and RESTful: GetCapabilities, GetTile, GetFeatureInfo.

A tile is the answer of the tile route itself: the same cache, ETag and pixels as its XYZ address.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.errors import Busy, InvalidRequest, LandcoverError, SourceUnavailable, UnknownName
from app.grid.pixel_grid import LONLAT, transformer
from app.grid.tile import CRS, TMS_NAMES, Tile
from app.routes import imagery, point, tiles
from app.routes.map_layers import MapLayer, layer_of, layers_of
from app.routes.problems import STATUS
from app.routes.wmts_capabilities import INFO_FORMATS, capabilities, exception_report
from app.services import Services

router = APIRouter(tags=["wmts"])

XML = "application/xml"
_OPERATIONS = ("getcapabilities", "gettile", "getfeatureinfo")
_SIZE = 256
_CODES = {
    "x": "TileOutOfRange", "y": "TileOutOfRange",
    "i": "PointIJOutOfRange", "j": "PointIJOutOfRange",
}  # fmt: skip
_LOCATORS = {"z": "TileMatrix", "x": "TileCol", "y": "TileRow"}
_STATUS = {"OperationNotSupported": 501, "NoApplicableCode": 500}
_XML_ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {XML: {}}}}


class OwsException(Exception):
    """A refusal with a code of OWS Common and the parameter that it concerns."""

    def __init__(self, code: str, locator: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.locator = locator


@router.get("/WMTSCapabilities.xml", response_class=Response, responses=_XML_ANSWER)
@router.get("/wmts/1.0.0/WMTSCapabilities.xml", response_class=Response, include_in_schema=False)
async def wmts_capabilities(request: Request) -> Response:
    """The WMTS capabilities: what QGIS, ArcGIS, GDAL and OWSLib are given."""
    return _capabilities(request)


@router.get("/wmts", response_class=Response, responses=_XML_ANSWER)
async def wmts(request: Request) -> Response:
    """WMTS with key-value pairs; `service=WMTS` and `request=GetCapabilities`, `GetTile` or
    `GetFeatureInfo`. Errors are OWS exception reports."""
    parameters = {name.lower(): value for name, value in request.query_params.items()}
    try:
        operation = _operation(parameters)
        if operation == "getcapabilities":
            return _get_capabilities(request, parameters)
        answer = _get_tile if operation == "gettile" else _get_feature_info
        return await answer(request, parameters)
    except OwsException as error:
        status = _STATUS.get(error.code, 400)
        return _report(status, error.code, str(error), error.locator)
    except (InvalidRequest, UnknownName) as error:
        code = _CODES.get(error.field, "InvalidParameterValue")
        return _report(400, code, str(error), _LOCATORS.get(error.field, error.field))
    except LandcoverError as error:
        known = (STATUS[kind][0] for kind in type(error).__mro__ if kind in STATUS)
        report = _report(next(known, 500), "NoApplicableCode", str(error))
        if isinstance(error, Busy | SourceUnavailable):
            report.headers["retry-after"] = str(error.retry_after)
        return report


@router.get(
    "/wmts/info/{layer}/{year}/{tileMatrixSetId}/{z}/{x}/{y}/{i}/{j}.{suffix}",
    response_class=Response,
    responses={200: {"content": {media: {} for media in INFO_FORMATS}}},
)
async def wmts_feature_info(
    request: Request,
    layer: str,
    year: str,
    tileMatrixSetId: str,  # noqa: N803 - as everywhere
    z: str,
    x: str,
    y: str,
    i: str,
    j: str,
    suffix: str,
) -> Response:
    """What is in one pixel of a tile: class, confidence and scene, as `json`, `html` or `txt`."""
    media_types = {suffix: media for media, suffix in INFO_FORMATS.items()}
    if suffix not in media_types:
        raise UnknownName("format", suffix, media_types)
    if tileMatrixSetId not in TMS_NAMES:
        raise UnknownName("tileMatrixSetId", tileMatrixSetId, TMS_NAMES)
    selected = layer_of(request.app.state.services, layer)
    at = {"z": z, "x": x, "y": y, "i": i, "j": j}
    numbers = {name: _whole(name, value) for name, value in at.items()}
    return await _feature_info(request, selected, year, numbers, media_types[suffix])


def _capabilities(request: Request) -> Response:
    services: Services = request.app.state.services
    content = capabilities(
        layers_of(services),
        services.model(None).card.legend,
        str(request.base_url),
        request.app.title,
        request.app.description,
    )
    return Response(content, media_type=XML, headers={"cache-control": "no-cache"})


def _get_capabilities(request: Request, parameters: Mapping[str, str]) -> Response:
    accepted = parameters.get("acceptversions", "1.0.0").split(",")
    if "1.0.0" not in (version.strip() for version in accepted):
        raise OwsException("VersionNegotiationFailed", "acceptversions", "1.0.0 is what there is")
    return _capabilities(request)


async def _get_tile(request: Request, parameters: Mapping[str, str]) -> Response:
    """The answer of the tile's own route, asked with the tile's own address."""
    layer = _layer(request, parameters)
    style = _style(layer, parameters)
    media = _required(parameters, "format")
    if media not in layer.formats:
        raise OwsException("InvalidParameterValue", "format", f"one of {list(layer.formats)}")
    z, x, y = _place(parameters)
    row = f"{y}.{layer.formats[media]}"
    endpoint = imagery.imagery_tile if layer.kind == "imagery" else tiles.tile
    route = _route_of(endpoint)
    scope = request.scope
    place = {"tileMatrixSetId": TMS_NAMES[0], "z": str(z), "x": str(x), "y": row}
    path = route.path.format_map(place)
    query = layer.query(style, parameters.get("year") or layer.years[0])
    # The root path, if any, stays in front, as in a request for the tile itself.
    scope["path"] = scope["path"].removesuffix("/wmts") + path
    scope["query_string"] = query.encode()
    scope["path_params"], scope["route"] = place, route
    return await endpoint(Request(scope, request.receive))


async def _get_feature_info(request: Request, parameters: Mapping[str, str]) -> Response:
    layer = _layer(request, parameters)
    _style(layer, parameters)
    media = _required(parameters, "infoformat")
    if media not in INFO_FORMATS:
        raise OwsException("InvalidParameterValue", "infoformat", f"one of {list(INFO_FORMATS)}")
    z, x, y = _place(parameters)
    i, j = (_number(parameters, name) for name in ("i", "j"))
    year = parameters.get("year") or layer.years[0]
    at = {"z": z, "x": x, "y": y, "i": i, "j": j}
    return await _feature_info(request, layer, year, at, media)


async def _feature_info(
    request: Request, layer: MapLayer, year: str, at: Mapping[str, int], media: str
) -> Response:
    """The point query under the center of a pixel."""
    if layer.kind == "imagery":
        raise InvalidRequest("layer", layer.id, "a layer of classes or confidence")
    for name in ("i", "j"):
        if not 0 <= at[name] < _SIZE:
            raise InvalidRequest(name, at[name], f"0..{_SIZE - 1}")
    left, _, right, top = Tile(at["z"], at["x"], at["y"], _SIZE).bounds
    pixel = (right - left) / _SIZE
    x, y = left + (at["i"] + 0.5) * pixel, top - (at["j"] + 0.5) * pixel
    longitude, latitude = transformer(CRS, LONLAT).transform(x, y)
    answer = await point.point(
        request, lon=repr(longitude), lat=repr(latitude), source=layer.source.id, year=year,
        datetime="", fill="", model=None, probabilities=False,
    )  # fmt: skip
    properties = _properties(answer)
    if media == "application/json":
        geometry = {"type": "Point", "coordinates": [longitude, latitude]}
        feature = {"type": "Feature", "geometry": geometry, "properties": properties}
        features = [feature] if properties else []
        return JSONResponse({"type": "FeatureCollection", "features": features})
    if media == "text/html":
        return Response(_table(properties), media_type="text/html; charset=utf-8")
    lines = [f"{name} = {value}" for name, value in properties.items()] or ["no imagery here"]
    return Response("\n".join(lines) + "\n", media_type="text/plain; charset=utf-8")


def _properties(answer: dict[str, Any]) -> dict[str, Any]:
    """The point's answer, flat, as attribute tables show it; empty where no imagery is."""
    if answer["class"] is None:
        return {}
    scene = answer["scene"] or {}
    return {
        "class": answer["class"]["title"],
        "name": answer["class"]["name"],
        "value": answer["class"]["value"],
        "confidence": answer["confidence"],
        "scene": scene.get("id"),
        "date": scene.get("date"),
        "source": answer["source"],
        "model": answer["model"],
    }


def _table(properties: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in properties.items()
    )
    body = f"<table>{rows}</table>" if rows else "<p>no imagery here</p>"
    return f"<!doctype html><html><head><title>Land cover</title></head><body>{body}</body></html>"


def _operation(parameters: Mapping[str, str]) -> str:
    """The operation in lower case; OwsException when there is no such one."""
    service = _required(parameters, "service")
    if service.upper() != "WMTS":
        raise OwsException("InvalidParameterValue", "service", "WMTS is what there is")
    operation = _required(parameters, "request").lower()
    version = parameters.get("version", "1.0.0")
    if operation != "getcapabilities" and version != "1.0.0":
        raise OwsException("InvalidParameterValue", "version", "1.0.0 is what there is")
    if operation not in _OPERATIONS:
        raise OwsException("OperationNotSupported", "request", f"no operation {operation[:80]!r}")
    return operation


def _layer(request: Request, parameters: Mapping[str, str]) -> MapLayer:
    return layer_of(request.app.state.services, _required(parameters, "layer"))


def _style(layer: MapLayer, parameters: Mapping[str, str]) -> str:
    style = parameters.get("style") or layer.default_style
    if style == "default":
        return layer.default_style
    if style not in layer.styles:
        raise OwsException("InvalidParameterValue", "style", f"one of {list(layer.styles)}")
    return style


def _place(parameters: Mapping[str, str]) -> tuple[int, int, int]:
    """(zoom, column, row) of the tile that is asked for."""
    if _required(parameters, "tilematrixset") not in TMS_NAMES:
        raise OwsException("InvalidParameterValue", "tilematrixset", f"one of {TMS_NAMES}")
    z, x, y = (_number(parameters, name) for name in ("tilematrix", "tilecol", "tilerow"))
    return z, x, y


def _required(parameters: Mapping[str, str], name: str) -> str:
    value = parameters.get(name, "").strip()
    if not value:
        raise OwsException("MissingParameterValue", name, f"{name} is missing")
    return value


def _number(parameters: Mapping[str, str], name: str) -> int:
    value = _required(parameters, name)
    if not re.fullmatch(r"-?[0-9]{1,10}", value):
        raise OwsException("InvalidParameterValue", name, f"{value[:80]!r} is no whole number")
    return int(value)


def _whole(name: str, value: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,10}", value):
        raise InvalidRequest(name, value, "a whole number")
    return int(value)


def _route_of(endpoint: Any) -> Route:  # noqa: ANN401 - a route's function
    """The route of a function, under which its requests are counted."""
    routes = (*tiles.router.routes, *imagery.router.routes)
    return next(each for each in routes if isinstance(each, Route) and each.endpoint is endpoint)


def _report(status: int, code: str, text: str, locator: str = "") -> Response:
    kept = {"cache-control": "no-store"} if status >= 500 else {}
    return Response(exception_report(code, text, locator), status, kept, XML)
