"""Hectares, files and change of a polygon, within the limits of one request."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from shapely.geometry import mapping
from starlette.responses import JSONResponse, Response

from app.area.change import change_csv, change_statistics, count_change
from app.area.delivery import FORMATS, Wish, deliver
from app.area.estimate import estimate
from app.area.frame import Frame
from app.area.plan import Plan
from app.area.statistics import assessment_of, statistics, statistics_csv, total_of
from app.area.tally import count
from app.errors import InvalidRequest, TooLarge, UnknownName
from app.landcover import Selection
from app.polygon import AreaOfInterest, Areas, read_areas
from app.routes.body import body_of
from app.routes.schemas import openapi_parameters, query_of
from app.routes.work import while_connected
from app.services import Services
from model.windows import BLOCK

router = APIRouter(tags=["areas"])

GEOJSON = "application/geo+json"
_RASTER_PIXELS_PER_BLOCK = 4 * BLOCK * BLOCK
_JOBS = "POST /processes/classify-area/execution takes areas of any size as a job"


class AreaQuery(BaseModel):
    """Query parameters of everything that is made of an area."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    source: str | None = Field(None, description="id of a source; the first one by default")
    year: str = Field("latest", description="`latest`, or a year of four digits")
    model: str | None = Field(None, description="name of a model; the only one by default")


class StatisticsQuery(AreaQuery):
    """Query parameters of areas per class."""

    assessment: str | None = Field(
        None, description="which table of the model's card adjusts the areas; its first by default"
    )
    f: str | None = Field(None, pattern="^(json|csv)$", description="`json` or `csv`")


class FileQuery(StatisticsQuery):
    """Query parameters of a download."""

    crs: str | None = Field(None, description="`EPSG:<code>`; the UTM zone of the area by default")
    resolution: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="pixel size in units of the CRS; 1 m by default",
    )


class ChangeQuery(FileQuery):
    """Query parameters of change; `year` and `assessment` are not used."""

    before: str = Field(alias="from", description="a year, or `latest`")
    after: str = Field("latest", alias="to", description="a year, or `latest`")


_BODY = {
    "requestBody": {
        "required": True,
        "description": "GeoJSON (RFC 7946), longitude before latitude; altitudes are dropped.",
        "content": {
            media: {"schema": {"type": "object", "properties": {"type": {"type": "string"}}}}
            for media in (GEOJSON, "application/json")
        },
    }
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/problem+json": {}}}
    for status, text in {
        400: "A parameter is wrong; `field`, `value` and `expected` say which and why.",
        404: "No such source, year, model or format.",
        413: "More than one request may ask for; with `limit` and `estimate`.",
        422: "The polygon cannot be used; `hint` says what may have happened.",
        502: "Imagery could not be read.",
        503: "Busy: try again after `Retry-After` seconds.",
        504: "Not done within the deadline; what was computed is kept.",
    }.items()
}


def _answers(*media: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"description": "The answer.", "content": {name: {} for name in media}},
        **_PROBLEMS,
    }


@dataclass(frozen=True, slots=True)
class Planned:
    """An area of a request and its plan."""

    area: AreaOfInterest
    plan: Plan


@router.post(
    "/statistics",
    responses=_answers(GEOJSON, "text/csv"),
    response_class=Response,
    openapi_extra={**openapi_parameters(StatisticsQuery), **_BODY},
)
async def area_statistics(request: Request) -> Response:
    """Ground area per class of every polygon, mapped and adjusted for the model's known errors.

    The Feature or FeatureCollection comes back with `properties.statistics`, a collection with
    `totals` too; `Accept: text/csv` or `f=csv` gives rows.
    """
    services, query, areas = await _asked(request, StatisticsQuery)

    async def work() -> Response:
        selection = services.select(query.source, query.year, query.model)
        assessment = assessment_of(selection.session.card, query.assessment)
        planned = await _plans(services, areas, [selection])
        tallies = [await count(services.landcover, selection, each.plan) for each in planned]
        documents = [
            statistics(selection, each.area.square_metres, tally, assessment)
            for each, tally in zip(planned, tallies, strict=True)
        ]
        if _wants_csv(request, query):
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
    responses=_answers("application/json"),
    response_class=Response,
    openapi_extra={**openapi_parameters(AreaQuery), **_BODY},
)
async def area_estimate(request: Request) -> Response:
    """What the polygons would take: blocks, how many are cached, seconds, bytes of the raster; and
    the limit of one request."""
    services, query, areas = await _asked(request, AreaQuery)

    async def work() -> Response:
        selection = services.select(query.source, query.year, query.model)
        planned = await _planned(services, areas, selection)
        found = await estimate(services.landcover, [selection], [each.plan for each in planned])
        limit = {"limit_blocks": services.settings.area_blocks}
        return JSONResponse(found.document() | limit)

    return await while_connected(request, work(), services.settings.deadline_s)


@router.post(
    "/feature.{format}",
    responses=_answers(*FORMATS.values()),
    response_class=Response,
    openapi_extra={**openapi_parameters(FileQuery), **_BODY},
)
async def feature(request: Request, format: str) -> Response:
    """The land cover of one polygon as a file: `tif` (COG), `zip` (COG with class names, STAC item
    and CSV), `gpkg`, `geojson` or `fgb` (class polygons). Outside the polygon is nodata."""
    return await _file(request, format, FileQuery, _one_year)


@router.post(
    "/change.{format}",
    responses=_answers(*FORMATS.values()),
    response_class=Response,
    openapi_extra={**openapi_parameters(ChangeQuery), **_BODY},
)
async def change_file(request: Request, format: str) -> Response:
    """What became of what in one polygon as a file; a pixel is from · 10 + to."""
    return await _file(request, format, ChangeQuery, _two_years)


@router.post(
    "/change",
    responses=_answers("application/json", "text/csv"),
    response_class=Response,
    openapi_extra={**openapi_parameters(ChangeQuery), **_BODY},
)
async def change(request: Request) -> Response:
    """Hectares by class before and after in one polygon, between the years `from` and `to`."""
    services, query, areas = await _asked(request, ChangeQuery)
    area = _only(areas)

    async def work() -> Response:
        before, after = selections = _two_years(services, query)
        (planned,) = await _plans(services, areas, selections)
        tally = await count_change(services.landcover, before, after, planned.plan)
        document = change_statistics(before, after, area.square_metres, tally)
        if _wants_csv(request, query):
            return _csv(change_csv(document))
        return JSONResponse(document | _notes(areas))

    return await while_connected(request, work(), services.settings.deadline_s)


@router.get(
    "/bbox/{minx},{miny},{maxx},{maxy}.{format}",
    responses=_answers(*FORMATS.values()),
    response_class=Response,
    openapi_extra=openapi_parameters(FileQuery),
)
async def bbox(
    request: Request,
    minx: str,
    miny: str,
    maxx: str,
    maxy: str,
    format: str,
) -> Response:
    """The land cover of a rectangle of degrees as a file; all pixels of the enclosing rectangle in
    the file's CRS have their class."""
    bounds = (
        _degrees("minx", minx, 180),
        _degrees("miny", miny, 90),
        _degrees("maxx", maxx, 180),
        _degrees("maxy", maxy, 90),
    )
    services: Services = request.app.state.services
    query = query_of(FileQuery, request.scope["query_string"])
    area = AreaOfInterest.of_bounds(bounds)
    _check_format(format)
    work = _deliver(services, query, Areas((area,), False), format, _one_year, clipped=False)
    return await while_connected(request, work, services.settings.deadline_s)


Selector = Callable[[Services, Any], Sequence[Selection]]


def _one_year(services: Services, query: AreaQuery) -> Sequence[Selection]:
    return [services.select(query.source, query.year, query.model)]


def _two_years(services: Services, query: ChangeQuery) -> Sequence[Selection]:
    if query.before == query.after:
        raise InvalidRequest("to", query.after, f"another year than from={query.before}")
    before = services.select(query.source, query.before, query.model)
    return [before, services.select(query.source, query.after, query.model)]


async def _file(
    request: Request, suffix: str, kind: type[FileQuery], selector: Selector
) -> Response:
    _check_format(suffix)
    services, query, areas = await _asked(request, kind)
    _only(areas)
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
    (planned,) = await _plans(services, areas, selections)
    grids = selections[0].source.grids()
    frame = Frame.of(planned.area, grids, query.crs, query.resolution, clipped=clipped)
    most = services.settings.area_blocks * _RASTER_PIXELS_PER_BLOCK
    if frame.pixels > most:
        raise TooLarge("the number of pixels of the file", frame.pixels, most, hint=_JOBS)
    assessment = assessment_of(selections[0].session.card, query.assessment)
    wish = Wish(planned.plan, frame, tuple(selections), assessment)
    content = await deliver(services.landcover, wish, suffix)
    headers = {
        "content-disposition": f'attachment; filename="{wish.stem}.{suffix}"',
        "content-crs": f"<http://www.opengis.net/def/crs/EPSG/0/{frame.lattice.crs[5:]}>",
        "cache-control": "no-cache",
    }
    return Response(content, 200, headers, FORMATS[suffix])


async def _asked(request: Request, kind: type[Any]) -> tuple[Services, Any, Areas]:
    """The services, the query and the areas of a request."""
    services: Services = request.app.state.services
    query = query_of(kind, request.scope["query_string"])
    body = await body_of(request, services.settings.body_kb)
    limit = services.settings.area_vertices
    areas = await services.reads.run(read_areas, body, limit)
    return services, query, areas


async def _planned(services: Services, areas: Areas, selection: Selection) -> list[Planned]:
    source = selection.source
    for area in areas.areas:
        await services.landcover.prepare(selection, area.geometry.bounds)
    grids, bounds = source.grids(), source.bounds

    def plan() -> list[Planned]:
        return [Planned(area, Plan.of(area, grids, bounds)) for area in areas.areas]

    return await services.reads.run(plan)


async def _plans(
    services: Services, areas: Areas, selections: Sequence[Selection]
) -> list[Planned]:
    """The plans of areas that fit one request; TooLarge with the estimate."""
    planned = await _planned(services, areas, selections[0])
    plans = [each.plan for each in planned]
    limit = services.settings.area_blocks
    blocks = len(selections) * await services.reads.run(lambda: sum(p.count() for p in plans))
    if blocks > limit:
        found = await estimate(services.landcover, selections, plans)
        raise TooLarge("the number of blocks", blocks, limit, found.document(), _JOBS)
    return planned


def _only(areas: Areas) -> AreaOfInterest:
    if len(areas.areas) != 1:
        raise InvalidRequest("features", len(areas.areas), "one Feature")
    return areas.areas[0]


def _check_format(suffix: str) -> None:
    if suffix not in FORMATS:
        raise UnknownName("format", suffix, FORMATS)


def _degrees(field: str, text: str, limit: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -limit <= value <= limit:
        raise InvalidRequest(field, text, f"degrees within ±{limit:g}")
    return value


def _wants_csv(request: Request, query: StatisticsQuery) -> bool:
    """`f` decides, else whether Accept names CSV before JSON."""
    if query.f is not None:
        return query.f == "csv"
    accepted = request.headers.get("accept", "").lower()
    json = accepted.find("json")
    return "text/csv" in accepted and (json < 0 or accepted.find("text/csv") < json)


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
