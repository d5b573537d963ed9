"""Hectares, files and change of a polygon, within the limits of one request."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from shapely.geometry import mapping
from starlette.responses import JSONResponse, Response

from app.area.change import change_csv, change_statistics, count_change
from app.area.delivery import FORMATS, ExportRequest, deliver
from app.area.estimate import estimate
from app.area.frame import OutputGrid
from app.area.geojson import Areas
from app.area.polygon import AreaOfInterest
from app.area.statistics import assessment_of, statistics, statistics_csv, total_of
from app.area.tally import count
from app.errors import TooLarge, UnknownName
from app.routes.area_requests import (
    BODY,
    GEOJSON,
    JOBS,
    AreaQuery,
    ChangeQuery,
    FileQuery,
    Selector,
    StatisticsQuery,
    answers,
    asked,
    one_year,
    only,
    planned_areas,
    plans_within_limit,
    two_years,
    wants_csv,
)
from app.routes.downloads import keep_download, kept_download
from app.routes.requests import while_connected
from app.routes.schemas import degrees, openapi_parameters, query_of
from app.services import Services
from model.windows import BLOCK

router = APIRouter(tags=["areas"])

_RASTER_PIXELS_PER_BLOCK = 4 * BLOCK * BLOCK

Format = Annotated[str, Path(json_schema_extra={"enum": list(FORMATS)})]


@router.post(
    "/statistics",
    responses=answers(GEOJSON, "text/csv"),
    response_class=Response,
    openapi_extra={**openapi_parameters(StatisticsQuery), **BODY},
)
async def area_statistics(request: Request) -> Response:
    """Ground area per class of every polygon, mapped and adjusted for the model's known errors.

    The Feature or FeatureCollection comes back with `properties.statistics`, a collection with
    `totals` too; `Accept: text/csv` or `f=csv` gives rows.
    """
    services, query, areas = await asked(request, StatisticsQuery)

    async def work() -> Response:
        (selection,) = one_year(services, query)
        assessment = assessment_of(selection.session.card, query.assessment)
        planned = await plans_within_limit(services, areas, [selection])
        tallies = [await count(services.landcover, selection, each.plan) for each in planned]
        documents = [
            statistics(selection, each.area.square_meters, tally, assessment)
            for each, tally in zip(planned, tallies, strict=True)
        ]
        if wants_csv(request, query):
            rows = [
                (_name(each.area, n), d)
                for n, (each, d) in enumerate(zip(planned, documents, strict=True))
            ]
            return _csv(statistics_csv(rows))
        if not areas.collection:
            return _geojson(_feature(areas.areas[0], documents[0]), areas)
        total = total_of([(each.area, t) for each, t in zip(planned, tallies, strict=True)])
        collection = {
            "type": "FeatureCollection",
            "features": [_feature(a, d) for a, d in zip(areas.areas, documents, strict=True)],
            "totals": statistics(selection, *total, assessment),
        }
        return _geojson(collection, areas)

    return await while_connected(request, work(), services.settings.deadline_s)


@router.post(
    "/estimate",
    responses=answers("application/json"),
    response_class=Response,
    openapi_extra={**openapi_parameters(AreaQuery), **BODY},
)
async def area_estimate(request: Request) -> Response:
    """What the polygons would take: blocks, how many are cached, seconds, bytes of the raster; and
    the limit of one request."""
    services, query, areas = await asked(request, AreaQuery)

    async def work() -> Response:
        (selection,) = one_year(services, query)
        planned = await planned_areas(services, areas, selection)
        found = await estimate(services.landcover, [selection], [each.plan for each in planned])
        limit = {"limit_blocks": services.settings.area_blocks}
        return JSONResponse(found.document() | limit)

    return await while_connected(request, work(), services.settings.deadline_s)


@router.post(
    "/feature.{format}",
    responses=answers(*FORMATS.values()),
    response_class=Response,
    openapi_extra={**openapi_parameters(FileQuery), **BODY},
)
async def feature(request: Request, format: Format) -> Response:
    """The land cover of one polygon as a file: `tif` (COG), `zip` (COG with class names, STAC item
    and CSV), `gpkg`, `geojson` or `fgb` (class polygons). Outside the polygon is nodata."""
    return await _file(request, format, FileQuery, one_year)


@router.post(
    "/change.{format}",
    responses=answers(*FORMATS.values()),
    response_class=Response,
    openapi_extra={**openapi_parameters(ChangeQuery), **BODY},
)
async def change_file(request: Request, format: Format) -> Response:
    """What became of what in one polygon as a file; a pixel is from · 10 + to."""
    return await _file(request, format, ChangeQuery, two_years)


@router.post(
    "/change",
    responses=answers("application/json", "text/csv"),
    response_class=Response,
    openapi_extra={**openapi_parameters(ChangeQuery), **BODY},
)
async def change(request: Request) -> Response:
    """Hectares by class before and after in one polygon, between the years `from` and `to`."""
    services, query, areas = await asked(request, ChangeQuery)
    area = only(areas)

    async def work() -> Response:
        before, after = selections = two_years(services, query)
        (planned,) = await plans_within_limit(services, areas, selections)
        tally = await count_change(services.landcover, before, after, planned.plan)
        document = change_statistics(before, after, area.square_meters, tally)
        if wants_csv(request, query):
            return _csv(change_csv(document))
        return JSONResponse(document | _notes(areas))

    return await while_connected(request, work(), services.settings.deadline_s)


@router.get(
    "/bbox/{minx},{miny},{maxx},{maxy}.{format}",
    responses=answers(*FORMATS.values()),
    response_class=Response,
    openapi_extra=openapi_parameters(FileQuery),
)
async def bbox(
    request: Request,
    minx: str,
    miny: str,
    maxx: str,
    maxy: str,
    format: Format,
) -> Response:
    """The land cover of a rectangle of degrees as a file; all pixels of the enclosing rectangle in
    the file's CRS have their class."""
    bounds = (
        degrees("minx", minx, 180),
        degrees("miny", miny, 90),
        degrees("maxx", maxx, 180),
        degrees("maxy", maxy, 90),
    )
    services: Services = request.app.state.services
    query = query_of(FileQuery, request.scope["query_string"])
    area = AreaOfInterest.of_bounds(bounds)
    _check_format(format)
    if kept := kept_download(request):
        return kept
    work = _deliver(services, query, Areas((area,), False), format, one_year, clipped=False)
    answer = await while_connected(request, work, services.settings.deadline_s)
    return keep_download(request, answer)


async def _file(
    request: Request, suffix: str, kind: type[FileQuery], selector: Selector
) -> Response:
    _check_format(suffix)
    services, query, areas = await asked(request, kind)
    only(areas)
    work = _deliver(services, query, areas, suffix, selector, clipped=True)
    return await while_connected(request, work, services.settings.deadline_s)


async def _deliver(
    services: Services,
    query: FileQuery,
    areas: Areas,
    suffix: str,
    selector: Selector,
    *,
    clipped: bool,
) -> Response:
    selections = selector(services, query)
    (planned,) = await plans_within_limit(services, areas, selections)
    grids = selections[0].source.grids()
    frame = OutputGrid.of(planned.area, grids, query.crs, query.resolution, clipped=clipped)
    most = services.settings.area_blocks * _RASTER_PIXELS_PER_BLOCK
    if frame.pixels > most:
        raise TooLarge("the number of pixels of the file", frame.pixels, most, hint=JOBS)
    assessment = assessment_of(selections[0].session.card, query.assessment)
    wish = ExportRequest(planned.plan, frame, tuple(selections), assessment)
    content = await deliver(services.landcover, wish, suffix)
    headers = {
        "content-disposition": f'attachment; filename="{wish.stem}.{suffix}"',
        "content-crs": f"<http://www.opengis.net/def/crs/EPSG/0/{frame.lattice.crs[5:]}>",
        "cache-control": "no-cache",
    }
    return Response(content, 200, headers, FORMATS[suffix])


def _check_format(suffix: str) -> None:
    if suffix not in FORMATS:
        raise UnknownName("format", suffix, FORMATS)


def _feature(area: AreaOfInterest, document: dict[str, Any]) -> dict[str, Any]:
    feature: dict[str, Any] = {"type": "Feature"}
    if area.id is not None:
        feature["id"] = area.id
    feature["geometry"] = mapping(area.geometry)
    feature["properties"] = {**(area.properties or {}), "statistics": document}
    return feature


def _name(area: AreaOfInterest, number: int) -> object:
    return number if area.id is None else area.id


def _notes(areas: Areas) -> dict[str, Any]:
    return {"notes": list(areas.notes)} if areas.notes else {}


def _geojson(document: dict[str, Any], areas: Areas) -> Response:
    return JSONResponse(document | _notes(areas), media_type=GEOJSON)


def _csv(text: str) -> Response:
    return Response(text, media_type="text/csv; charset=utf-8; header=present")
