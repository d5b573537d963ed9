"""What web maps load: TileJSON of the imagery, and a MapLibre style of imagery and land cover."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.errors import UnknownName
from app.grid.tile import TMS_NAMES
from app.landcover.source import Source
from app.routes.map_layers import MapLayer
from app.routes.schemas import PictureQuery, openapi_parameters, query_of
from app.services import Services
from model.legend import COLORMAPS

router = APIRouter(tags=["meta"])

Json = dict[str, Any]


@router.get(
    "/imagery/{tileMatrixSetId}/tilejson.json",
    response_model=None,
    openapi_extra=openapi_parameters(PictureQuery),
)
async def imagery_tilejson(request: Request, tileMatrixSetId: str) -> Json:  # noqa: N803
    """TileJSON 3.0.0 of the imagery; the query is carried over into the tile address."""
    if tileMatrixSetId not in TMS_NAMES:
        raise UnknownName("tileMatrixSetId", tileMatrixSetId, TMS_NAMES)
    services: Services = request.app.state.services
    query = query_of(PictureQuery, request.scope["query_string"])
    source = services.sources.get(query.source)
    source.when(query.year, query.datetime, query.fill)
    suffix = f"?{request.url.query}" if request.url.query else ""
    return {
        "tilejson": "3.0.0",
        "name": f"Imagery: {source.title}",
        "version": "1.0.0",
        "scheme": "xyz",
        "tiles": [f"{request.base_url}imagery/tiles/{TMS_NAMES[0]}/{{z}}/{{x}}/{{y}}.webp{suffix}"],
        **_place(source),
        "center": _center(source),
        "attribution": source.attribution,
    }


@router.get("/style.json", response_model=None)
async def style_json(
    request: Request,
    source: Annotated[str | None, Query(description="id of a source")] = None,
    year: Annotated[str, Query(description="`latest`, or a year of four digits")] = "latest",
    colormap_name: Annotated[str, Query(description="a colormap of /legend")] = "landcover",
) -> Json:
    """A MapLibre style: the imagery, and over it the land cover, never smoothed."""
    services: Services = request.app.state.services
    if colormap_name not in COLORMAPS:
        raise UnknownName("colormap_name", colormap_name, COLORMAPS)
    selected = services.sources.get(source)
    selected.when(year)
    base = str(request.base_url)
    place = _place(selected)
    longitude, latitude, zoom = _center(selected)

    def raster(layer: MapLayer, suffix: str, style: str) -> Json:
        tiles = [layer.template(base, suffix, style=style, year=year)]
        kind = {"type": "raster", "tiles": tiles, "tileSize": 256, **place}
        return kind | {"attribution": selected.attribution}

    return {
        "version": 8,
        "name": f"Land cover: {selected.title}",
        "center": [longitude, latitude],
        # MapLibre counts the zooms of 512 px tiles.
        "zoom": zoom - 1,
        "sources": {
            "imagery": raster(MapLayer(selected, "imagery"), "png", "rgb"),
            "landcover": raster(MapLayer(selected, "class"), "png", colormap_name),
        },
        "layers": [
            {
                "id": "background",
                "type": "background",
                "paint": {"background-color": "#ffffff"},
            },
            {"id": "imagery", "type": "raster", "source": "imagery"},
            {
                "id": "landcover",
                "type": "raster",
                "source": "landcover",
                "paint": {"raster-resampling": "nearest", "raster-fade-duration": 0},
            },
        ],
    }


def _place(source: Source) -> Json:
    """Zooms and bounds, as both documents name them."""
    minzoom, maxzoom = source.zooms
    return {"minzoom": minzoom, "maxzoom": maxzoom, "bounds": list(source.bounds)}


def _center(source: Source) -> list[float]:
    """[longitude, latitude, zoom], as the TileJSON of the land cover has it."""
    west, south, east, north = source.bounds
    return [(west + east) / 2, (south + north) / 2, source.zooms[1] - 2]
