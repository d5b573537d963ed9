"""What there is to ask for: sources, legend, model, TileJSON, health."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from app.errors import UnknownName
from app.routes.schemas import TileQuery, openapi_parameters, query_of
from app.services import Services
from app.source import Source
from app.tile import TMS_NAMES
from model.legend import COLORMAPS, Rgb

router = APIRouter(tags=["meta"])

OGC_REL = "http://www.opengis.net/def/rel/ogc/1.0/"


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


@router.get("/", response_model=None)
async def landing(request: Request) -> dict[str, Any]:
    """Links to everything."""
    base = str(request.base_url)
    pages = {
        "map": ("map", "text/html", "The map"),
        "service-desc": ("api", "application/json", "OpenAPI definition"),
        "service-doc": ("api.html", "text/html", "Documentation of the API"),
        "tilejson": ("WebMercatorQuad/tilejson.json", "application/json", "TileJSON"),
        "legend": ("legend", "application/json", "Classes and colours"),
        "sources": ("sources", "application/json", "Imagery served"),
        "model": ("model", "application/json", "The model's card"),
        f"{OGC_REL}conformance": ("conformance", "application/json", "OGC conformance classes"),
        f"{OGC_REL}processes": ("processes", "application/json", "What is done for an area"),
        f"{OGC_REL}job-list": ("jobs", "application/json", "Jobs"),
    }
    links = [
        {"rel": rel, "href": f"{base}{path}", "type": media, "title": title}
        for rel, (path, media, title) in pages.items()
    ]
    return {"title": "Land cover tiles", "links": links}


@router.get("/sources", response_model=None)
async def sources(request: Request) -> dict[str, Any]:
    """The sources with their years, extent and zooms."""
    return {"sources": [_describe(source) for source in _services(request).sources]}


@router.get("/sources/{source_id}/footprints", response_model=None)
async def footprints(
    request: Request,
    source_id: str,
    year: Annotated[str | None, Query(description="only scenes of this year")] = None,
) -> dict[str, Any]:
    """Outlines of a source's scenes, GeoJSON."""
    source = _services(request).sources.get(source_id)
    wanted = source.year(year) if year else None
    scenes = [s for s in source.catalog.index.scenes if wanted is None or s.year == wanted]
    return {"type": "FeatureCollection", "features": [scene.feature() for scene in scenes]}


@router.get("/legend", response_model=None)
async def legend(
    request: Request,
    model: Annotated[str | None, Query(description="name of a model")] = None,
) -> dict[str, Any]:
    """The classes (STAC `classification:classes`) and the colormaps."""
    chosen = _services(request).model(model).card.legend
    colormaps = {
        name: {str(value): _hex(rgb) for value, rgb in chosen.colours(name).items()}
        for name in COLORMAPS
    }
    return {"classes": chosen.stac(), "colormaps": colormaps}


@router.get("/model", response_model=None)
async def model_card(
    request: Request,
    name: Annotated[str | None, Query(description="name of a model")] = None,
) -> dict[str, Any]:
    """The model's card: what it expects, what it was trained on, how accurate it is."""
    return _services(request).model(name).passport.model_dump(mode="json")


@router.get(
    "/{tileMatrixSetId}/tilejson.json",
    response_model=None,
    openapi_extra=openapi_parameters(TileQuery),
)
async def tilejson(request: Request, tileMatrixSetId: str) -> dict[str, Any]:  # noqa: N803
    """TileJSON 3.0.0; the query is carried over into the tile address."""
    if tileMatrixSetId not in TMS_NAMES:
        raise UnknownName("tileMatrixSetId", tileMatrixSetId, TMS_NAMES)
    services = _services(request)
    query = query_of(TileQuery, request.scope["query_string"])
    selection = services.select(query.source, query.year, query.model)
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
        "classification:classes": selection.session.card.legend.stac(),
    }


@router.get("/healthz", response_model=None)
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=None)
async def readyz(request: Request) -> Response:
    """Ready for requests, and what is degraded."""
    services = _services(request)
    disk = services.landcover.cache.disk
    gone = [source.id for source in services.sources if not source.catalog.root.exists()]
    content = {
        "status": "unavailable" if gone else "ready",
        "models": {name: session.sha256 for name, session in services.models.items()},
        "sources_unavailable": gone,
        "cache_degraded": disk.degraded if disk else None,
        "blocks_in_work": services.gate.inside,
    }
    return JSONResponse(content, 503 if gone else 200)


def _hex(rgb: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def _describe(source: Source) -> dict[str, Any]:
    minzoom, maxzoom = source.zooms
    index = source.catalog.index
    return {
        "id": source.id,
        "title": source.title,
        "attribution": source.attribution,
        "years": list(source.years),
        "bounds": list(source.bounds),
        "minzoom": minzoom,
        "maxzoom": maxzoom,
        "scenes": len(index.scenes),
        "skipped": len(index.problems),
    }
