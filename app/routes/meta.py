"""What the service offers: links, legend, model, TileJSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from app.errors import UnknownName
from app.grid.tile import TMS_NAMES
from app.render.attribute_table import stac_of
from app.render.transition import transition_table
from app.routes.ogc import LANDING
from app.routes.openapi import MEDIA_TYPE as OPENAPI
from app.routes.requests import selections_of
from app.routes.schemas import TileQuery, openapi_parameters, query_of
from app.services import Services
from model.legend import COLORMAPS, Rgb

router = APIRouter(tags=["meta"])

OGC_REL = "http://www.opengis.net/def/rel/ogc/1.0/"


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


@router.get("/", response_model=None)
async def landing(request: Request) -> dict[str, Any]:
    """Return links to everything."""
    base = str(request.base_url)
    pages = {
        **LANDING,
        "map": ("map", "text/html", "The map"),
        "service-desc": ("api", OPENAPI, "OpenAPI 3.0 definition"),
        "service-doc": ("api.html", "text/html", "Documentation of the API"),
        "tilejson": ("WebMercatorQuad/tilejson.json", "application/json", "TileJSON"),
        "legend": ("legend", "application/json", "Classes and colors"),
        "sources": ("sources", "application/json", "Imagery served"),
        "model": ("model", "application/json", "The model's card"),
        f"{OGC_REL}conformance": ("conformance", "application/json", "OGC conformance classes"),
        f"{OGC_REL}processes": ("processes", "application/json", "Processes for an area"),
        f"{OGC_REL}job-list": ("jobs", "application/json", "Jobs"),
    }
    links = [
        {"rel": rel, "href": f"{base}{path}", "type": media, "title": title}
        for rel, (path, media, title) in pages.items()
    ]
    return {"title": "Land cover tiles", "links": links}


@router.get("/legend", response_model=None)
async def legend(
    request: Request,
    model: Annotated[str | None, Query(description="name of a model")] = None,
    layer: Annotated[Literal["class", "change"], Query(description="layer of the tiles")] = "class",
) -> dict[str, Any]:
    """Return the classes (STAC `classification:classes`) and the colormaps.

    With `layer=change` every transition, from · 10 + to.
    """
    shown = _services(request).model(model).card.legend
    if layer == "change":
        return {"classes": stac_of(transition_table(shown))}
    colormaps = {
        name: {str(value): _hex(rgb) for value, rgb in shown.colors(name).items()}
        for name in COLORMAPS
    }
    return {"classes": shown.stac(), "colormaps": colormaps}


@router.get("/model", response_model=None)
async def model_card(
    request: Request,
    name: Annotated[str | None, Query(description="name of a model")] = None,
) -> dict[str, Any]:
    """Return the model's card: what it expects, what it was trained on, how accurate it is."""
    return _services(request).model(name).metadata.model_dump(mode="json")


@router.get(
    "/{tileMatrixSetId}/tilejson.json",
    response_model=None,
    openapi_extra=openapi_parameters(TileQuery),
)
async def tilejson(request: Request, tileMatrixSetId: str) -> dict[str, Any]:  # noqa: N803
    """Return TileJSON 3.0.0; the query is carried over into the tile address."""
    if tileMatrixSetId not in TMS_NAMES:
        raise UnknownName("tileMatrixSetId", tileMatrixSetId, TMS_NAMES)
    services = _services(request)
    query = query_of(TileQuery, request.scope["query_string"])
    selection = selections_of(services, query)[-1]
    shown = selection.session.card.legend
    classes = stac_of(transition_table(shown)) if query.layer == "change" else shown.stac()
    source = selection.source
    west, south, east, north = source.bounds
    minzoom, maxzoom = source.zooms
    suffix = f"?{request.url.query}" if request.url.query else ""
    address = f"{request.base_url}tiles/{TMS_NAMES[0]}/{{z}}/{{x}}/{{y}}.png{suffix}"
    return {
        "tilejson": "3.0.0",
        "name": f"Land cover: {source.title}",
        "version": "1.0.0",
        "scheme": "xyz",
        "tiles": [address],
        "minzoom": minzoom,
        "maxzoom": maxzoom,
        "bounds": [west, south, east, north],
        "center": [(west + east) / 2, (south + north) / 2, maxzoom - 2],
        "attribution": source.attribution,
        "classification:classes": classes,
    }


def _hex(rgb: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
