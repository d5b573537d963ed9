"""The NAIP imagery itself, as tiles."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.errors import SourceUnavailable
from app.grid.tile import Tile
from app.imagery.catalog.temporal import TemporalFilter
from app.landcover.source import Source
from app.routes.requests import while_connected
from app.routes.schemas import PictureQuery, query_of, tile_and_suffix, tile_parameters
from app.sampling.pictures import MEDIA_TYPES, encode, picture
from app.services import Services

router = APIRouter(tags=["imagery"])


@router.get(
    "/imagery/tiles/{tileMatrixSetId}/{z}/{x}/{y}",
    response_class=Response,
    openapi_extra=tile_parameters(PictureQuery),
)
async def imagery_tile(request: Request) -> Response:
    """Return one imagery tile; `y` may end in `@2x` and `.webp`, `.png` or `.jpg`."""
    services: Services = request.app.state.services
    path = request.path_params
    query = query_of(PictureQuery, request.scope["query_string"])
    tile, suffix = tile_and_suffix(
        path["tileMatrixSetId"],
        path["z"],
        path["x"],
        path["y"],
        tuple(MEDIA_TYPES),
        int(query.tilesize),
    )
    source = services.sources.get(query.source)
    when = source.when(query.year, query.datetime, query.fill)
    work = _render(services, source, when, tile, query, suffix)
    content = await while_connected(request, work, services.settings.deadline_s)
    headers = {"cache-control": f"public, max-age={services.settings.tile_max_age}"}
    return Response(content, 200, headers, MEDIA_TYPES[suffix])


async def _render(
    services: Services,
    source: Source,
    when: TemporalFilter,
    tile: Tile,
    query: PictureQuery,
    suffix: str,
) -> bytes:
    def render() -> bytes:
        return encode(picture(services.reader, source, when, tile, query.style), suffix)

    try:
        return await source.reads.run(render)
    except SourceUnavailable as error:
        if not error.whole_source:
            await source.reads.run(source.refresh)
        raise
