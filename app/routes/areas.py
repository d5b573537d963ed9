"""Hectares, files and change of a polygon, within the limits of one request."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse, Response

from app import area
from app.area.documents import change_csv
from app.area.geojson import Areas
from app.area.handlers import FORMATS, File, check_format, statistics_table
from app.area.polygon import AreaOfInterest
from app.routes.downloads import keep_download, kept_download
from app.routes.requests import (
    GEOJSON,
    AreaQuery,
    ChangeQuery,
    FileQuery,
    StatisticsQuery,
    area_request,
    documented,
    while_connected,
)
from app.routes.schemas import degrees, query_of
from app.services import Services

router = APIRouter(tags=["areas"], default_response_class=Response)

Format = Annotated[str, Path(json_schema_extra={"enum": list(FORMATS)})]


@router.post("/statistics", **documented(StatisticsQuery, GEOJSON, "text/csv"))
async def area_statistics(request: Request) -> Response:
    """Return the ground area per class of every polygon, mapped and adjusted for the model's known
    errors.

    The Feature or FeatureCollection comes back with `properties.statistics`, a collection with
    `totals` too; `Accept: text/csv` or `f=csv` gives rows.
    """
    services, query, areas = await area_request(request, StatisticsQuery)
    (selection,) = query.selections(services)
    work = area.statistics(
        services.landcover,
        selection,
        areas,
        assessment=query.assessment,
        max_blocks=services.settings.area_blocks,
    )
    document = await while_connected(request, work, services.settings.deadline_s)
    if query.wants_csv(request):
        return _csv(statistics_table(document))
    return JSONResponse(document, media_type=GEOJSON)


@router.post("/estimate", **documented(AreaQuery, "application/json"))
async def area_estimate(request: Request) -> Response:
    """Return what the polygons would take: blocks, how many are cached, seconds, bytes of the
    raster; and the limit of one request."""
    services, query, areas = await area_request(request, AreaQuery)
    work = area.estimate(services.landcover, query.selections(services), areas)
    cost = await while_connected(request, work, services.settings.deadline_s)
    return JSONResponse(cost.document() | {"limit_blocks": services.settings.area_blocks})


@router.post("/feature.{format}", **documented(FileQuery, *FORMATS.values()))
async def feature(request: Request, format: Format) -> Response:
    """Return the land cover of one polygon as a file: `tif` (COG), `zip` (COG with names, STAC
    item and CSV), `gpkg`, `geojson` or `fgb` (class polygons). Outside the polygon is nodata."""
    return await _posted_file(request, format, FileQuery)


@router.post("/change.{format}", **documented(ChangeQuery, *FORMATS.values()))
async def change_file(request: Request, format: Format) -> Response:
    """Return the change in one polygon as a file; a pixel is from · 10 + to."""
    return await _posted_file(request, format, ChangeQuery)


@router.post("/change", **documented(ChangeQuery, "application/json", "text/csv"))
async def change(request: Request) -> Response:
    """Return hectares by class before and after in one polygon, between the years `from` and
    `to`."""
    services, query, areas = await area_request(request, ChangeQuery)
    before, after = query.selections(services)
    limit = services.settings.area_blocks
    work = area.change(services.landcover, before, after, areas, max_blocks=limit)
    document = await while_connected(request, work, services.settings.deadline_s)
    return _csv(change_csv(document)) if query.wants_csv(request) else JSONResponse(document)


@router.get(
    "/bbox/{minx},{miny},{maxx},{maxy}.{format}",
    **documented(FileQuery, *FORMATS.values(), body=False),
)
async def bbox(
    request: Request, minx: str, miny: str, maxx: str, maxy: str, format: Format
) -> Response:
    """Return the land cover of a rectangle of degrees as a file; all pixels of the enclosing
    rectangle in the file's CRS have their class."""
    bounds = (
        degrees("minx", minx, 180),
        degrees("miny", miny, 90),
        degrees("maxx", maxx, 180),
        degrees("maxy", maxy, 90),
    )
    services: Services = request.app.state.services
    query = query_of(FileQuery, request.scope["query_string"])
    if kept := kept_download(request):
        return kept
    areas = Areas((AreaOfInterest.of_bounds(bounds),), False)
    work = _exported(services, query, areas, format, False)
    return keep_download(request, await _answer(request, services, work))


async def _posted_file(request: Request, format: str, kind: type[FileQuery]) -> Response:
    check_format(format)
    services, query, areas = await area_request(request, kind)
    return await _answer(request, services, _exported(services, query, areas, format, True))


def _exported(
    services: Services, query: FileQuery, areas: Areas, format: str, clipped: bool
) -> Awaitable[File]:
    return area.export(
        services.landcover,
        query.selections(services),
        areas,
        format,
        crs=query.crs,
        resolution=query.resolution,
        clipped=clipped,
        assessment=query.assessment,
        max_blocks=services.settings.area_blocks,
    )


async def _answer(request: Request, services: Services, work: Awaitable[File]) -> Response:
    file = await while_connected(request, work, services.settings.deadline_s)
    headers = {
        "content-disposition": f'attachment; filename="{file.name}"',
        "cache-control": "no-cache",
    }
    if file.crs.startswith("EPSG:"):  # a CRS of the imagery's own has no name
        code = file.crs.removeprefix("EPSG:")
        headers["content-crs"] = f"<http://www.opengis.net/def/crs/EPSG/0/{code}>"
    return Response(file.content, 200, headers, file.media_type)


def _csv(text: str) -> Response:
    return Response(text, media_type="text/csv; charset=utf-8; header=present")
