"""What clients send: bodies within a limit, queries of areas, and for how long they are waited for.

Query parameters of tiles are in `app.routes.schemas`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, Field

from app.area.geojson import Areas, read_areas
from app.errors import DeadlineExceeded, InvalidRequest, TooLarge
from app.landcover.blocks import Selection
from app.routes.geojson_schema import AREA, AREA_EXAMPLE
from app.routes.schemas import SelectionQuery, TileQuery, openapi_parameters, query_of
from app.services import Services

Result = TypeVar("Result")
GEOJSON = "application/geo+json"


class ClientGone(Exception):
    """The client has disconnected: nobody waits for the answer."""


class AreaQuery(SelectionQuery):
    """Query parameters that everything about an area has."""

    model: str | None = Field(None, description="name of a model; the only one by default")

    def selections(self, services: Services) -> list[Selection]:
        """Return what the query is about; UnknownName or InvalidRequest."""
        return [services.select(self.source, self.year, self.model, self.datetime, self.fill)]


class StatisticsQuery(AreaQuery):
    """Query parameters of areas per class."""

    assessment: str | None = Field(
        None, description="which table of the model's card adjusts the areas; its first by default"
    )
    f: str | None = Field(None, pattern="^(json|csv)$", description="`json` or `csv`")

    def wants_csv(self, request: Request) -> bool:
        """Whether `f` says so, or else Accept names CSV before JSON."""
        if self.f is not None:
            return self.f == "csv"
        accepted = request.headers.get("accept", "").lower()
        json = accepted.find("json")
        return "text/csv" in accepted and (json < 0 or accepted.find("text/csv") < json)


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

    def selections(self, services: Services) -> list[Selection]:
        """Return the year before and the year after; UnknownName or InvalidRequest."""
        if self.before == self.after:
            raise InvalidRequest("to", self.after, f"another year than from={self.before}")
        return [
            services.select(self.source, year, self.model) for year in (self.before, self.after)
        ]


BODY = {
    "requestBody": {
        "required": True,
        "description": "GeoJSON (RFC 7946), longitude before latitude; altitudes are dropped.",
        "content": {
            media: {"schema": AREA, "example": AREA_EXAMPLE}
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
        429: "This client's share is used up; with `value` and `limit`. Try again after "
        "`Retry-After` seconds.",
        507: "No room for a file on the server.",
        422: "The polygon cannot be used; `hint` says what may have happened.",
        502: "Imagery could not be read.",
        503: "Busy: try again after `Retry-After` seconds.",
        504: "Not done within the deadline; what was computed is kept.",
    }.items()
}


def documented(query: type[BaseModel], *media: str, body: bool = True) -> dict[str, Any]:
    """Return the options of a route that parses its query itself and answers with `media`."""
    answer = {"description": "The answer.", "content": {name: {} for name in media}}
    return {
        "responses": {200: answer, **_PROBLEMS},
        "openapi_extra": {**openapi_parameters(query), **(BODY if body else {})},
    }


async def area_request(request: Request, kind: type[Any]) -> tuple[Services, Any, Areas]:
    """Return the services, the query as `kind`, and the areas of a request; InvalidRequest,
    InvalidArea or TooLarge."""
    services: Services = request.app.state.services
    query = query_of(kind, request.scope["query_string"])
    body = await body_of(request, services.settings.body_kb)
    areas = await services.reads.run(read_areas, body, services.settings.area_vertices)
    return services, query, areas


def selections_of(services: Services, query: TileQuery) -> list[Selection]:
    """Return what a tile shows: one selection, or for change two; UnknownName or InvalidRequest."""
    if query.layer == "change":
        return [services.select(query.source, year, query.model) for year in query.years]
    return [services.select(query.source, query.year, query.model, query.datetime, query.fill)]


async def body_of(request: Request, limit_kb: int) -> bytes:
    """Return the request's body; TooLarge as soon as it is larger than `limit_kb` × 1024 bytes."""
    limit = limit_kb * 1024
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and len(announced) < 20 and int(announced) > limit:
        raise TooLarge("the request body in bytes", int(announced), limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge("the request body in bytes", len(body), limit)
    return bytes(body)


async def while_connected(request: Request, work: Awaitable[Result], deadline_s: float) -> Result:
    """Return the result of `work`; ClientGone when the client disconnects first, DeadlineExceeded
    when the time is over. In both cases the work is cancelled."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, gone), timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientGone
        raise DeadlineExceeded(deadline_s)
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
