"""The NAIP imagery itself, as tiles."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from app.errors import SourceUnavailable
from app.grid.tile import Tile
from app.imagery.catalog.temporal import TemporalFilter
from app.landcover.source import Source
from app.routes.requests import while_connected
from app.routes.schemas import openapi_parameters, query_of, tile_and_suffix
from app.sampling.pictures import MEDIA_TYPES, Rgba, encode, picture
from app.services import Services

router = APIRouter(tags=["imagery"])


class ImageryQuery(BaseModel):
    """Query parameters of an imagery tile."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str | None = Field(None, description="id of a source; the first one by default")
    year: str = Field("latest", description="`latest`, or a year of four digits")
    datetime: str = Field(
        "", description="instead of a year: days as OGC writes them, `2018-01-01/2020-12-31`"
    )
    fill: str = Field("", description="`older`: fill gaps of these dates from older images")
    style: Literal["rgb", "cir", "ndvi"] = Field(
        "rgb", description="true color, color infrared or vegetation index"
    )
    tilesize: Literal["256", "512"] = Field("256", description="edge of the image in pixels")


@router.get(
    "/imagery/tiles/{tileMatrixSetId}/{z}/{x}/{y}",
    response_class=Response,
    openapi_extra=openapi_parameters(ImageryQuery),
)
async def imagery_tile(request: Request) -> Response:
    """Return one imagery tile; `y` may end in `@2x` and `.webp`, `.png` or `.jpg`."""
    services: Services = request.app.state.services
    path = request.path_params
    query = query_of(ImageryQuery, request.scope["query_string"])
    tile, suffix = tile_and_suffix(
        path["tileMatrixSetId"],
        path["z"],
        path["x"],
        path["y"],
        tuple(MEDIA_TYPES),
        int(query.tilesize),
    )
    source = services.sources.get(query.source)
    work = _paint(
        services, source, source.when(query.year, query.datetime, query.fill), tile, query, suffix
    )
    content = await while_connected(request, work, services.settings.deadline_s)
    headers = {"cache-control": f"public, max-age={services.settings.tile_max_age}"}
    return Response(content, 200, headers, MEDIA_TYPES[suffix])


async def _paint(
    services: Services,
    source: Source,
    when: TemporalFilter,
    tile: Tile,
    query: ImageryQuery,
    suffix: str,
) -> bytes:
    def paint() -> bytes:
        image: Rgba = picture(services.reader, source, when, tile, query.style)
        return encode(image, suffix)

    try:
        return await source.reads.run(paint)
    except SourceUnavailable as error:
        if not error.whole_source:
            await source.reads.run(source.refresh)
        raise
