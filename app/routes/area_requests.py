"""What clients may ask of an area, how it is checked, and what one request may cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from app.area.estimate import estimate
from app.area.geojson import Areas, read_areas
from app.area.plan import Plan
from app.area.polygon import AreaOfInterest
from app.errors import InvalidRequest, TooLarge
from app.landcover.blocks import Selection
from app.routes.requests import body_of
from app.routes.schemas import query_of
from app.services import Services

GEOJSON = "application/geo+json"
JOBS = "POST /processes/classify-area/execution takes areas of any size as a job"


class AreaQuery(BaseModel):
    """Query parameters of everything that is made of an area."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    source: str | None = Field(None, description="id of a source; the first one by default")
    year: str = Field("latest", description="`latest`, or a year of four digits")
    datetime: str = Field(
        "", description="instead of a year: days as OGC writes them, `2018-01-01/2020-12-31`"
    )
    fill: str = Field("", description="`older`: fill what these dates leave open from older ones")
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
    """Query parameters of change; `year`, `datetime`, `fill` and `assessment` are not used."""

    before: str = Field(alias="from", description="a year, or `latest`")
    after: str = Field("latest", alias="to", description="a year, or `latest`")


BODY = {
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


def answers(*media: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"description": "The answer.", "content": {name: {} for name in media}},
        **_PROBLEMS,
    }


@dataclass(frozen=True, slots=True)
class Planned:
    """An area of a request and its plan."""

    area: AreaOfInterest
    plan: Plan


Selector = Callable[[Services, Any], Sequence[Selection]]


def one_year(services: Services, query: AreaQuery) -> Sequence[Selection]:
    return [services.select(query.source, query.year, query.model, query.datetime, query.fill)]


def two_years(services: Services, query: ChangeQuery) -> Sequence[Selection]:
    if query.before == query.after:
        raise InvalidRequest("to", query.after, f"another year than from={query.before}")
    before = services.select(query.source, query.before, query.model)
    return [before, services.select(query.source, query.after, query.model)]


async def asked(request: Request, kind: type[Any]) -> tuple[Services, Any, Areas]:
    """The services, the query and the areas of a request."""
    services: Services = request.app.state.services
    query = query_of(kind, request.scope["query_string"])
    body = await body_of(request, services.settings.body_kb)
    limit = services.settings.area_vertices
    areas = await services.reads.run(read_areas, body, limit)
    return services, query, areas


async def planned_areas(services: Services, areas: Areas, selection: Selection) -> list[Planned]:
    source = selection.source
    for area in areas.areas:
        await services.landcover.load(selection, area.geometry.bounds)
    grids, bounds = source.grids(), source.bounds

    def plan() -> list[Planned]:
        return [Planned(area, Plan.of(area, grids, bounds)) for area in areas.areas]

    return await services.reads.run(plan)


async def plans_within_limit(
    services: Services, areas: Areas, selections: Sequence[Selection]
) -> list[Planned]:
    """The plans of areas that fit one request; TooLarge with the estimate."""
    planned = await planned_areas(services, areas, selections[0])
    plans = [each.plan for each in planned]
    limit = services.settings.area_blocks
    blocks = len(selections) * await services.reads.run(lambda: sum(p.count() for p in plans))
    if blocks > limit:
        found = await estimate(services.landcover, selections, plans)
        raise TooLarge("the number of blocks", blocks, limit, found.document(), JOBS)
    return planned


def only(areas: Areas) -> AreaOfInterest:
    if len(areas.areas) != 1:
        raise InvalidRequest("features", len(areas.areas), "one Feature")
    return areas.areas[0]


def wants_csv(request: Request, query: StatisticsQuery) -> bool:
    """`f` decides, else whether Accept names CSV before JSON."""
    if query.f is not None:
        return query.f == "csv"
    accepted = request.headers.get("accept", "").lower()
    json = accepted.find("json")
    return "text/csv" in accepted and (json < 0 or accepted.find("text/csv") < json)
