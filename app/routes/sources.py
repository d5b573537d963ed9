"""The imagery that is served: where, when and how fully."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request

from app.errors import InvalidRequest
from app.grid.pixel_grid import Bounds
from app.imagery.catalog.footprints import Cover, cover_by_year, cover_of, outline_of
from app.imagery.scene import Scene
from app.landcover.source import Source
from app.routes.requests import while_connected
from app.services import Services

router = APIRouter(tags=["sources"])

Result = TypeVar("Result")

Bbox = Annotated[str, Query(description="west,south,east,north in degrees; all of the source")]


@dataclass(frozen=True, slots=True)
class ScenesQuery:
    """Query parameters that select scenes of a source."""

    bbox: Bbox = ""
    year: Annotated[str, Query(description="`latest`, or a year of four digits")] = "latest"
    datetime: Annotated[
        str, Query(description="days as OGC writes them, `2018-01-01/2020-12-31`")
    ] = ""
    fill: Annotated[str, Query(description="`older`: fill gaps of these dates from older")] = ""


@router.get("/sources", response_model=None)
async def sources(request: Request) -> dict[str, Any]:
    """List the sources with their years, extent and zooms."""
    services: Services = request.app.state.services
    listed: dict[str, Any] = {"sources": [describe(source) for source in services.sources]}
    if url := services.settings.basemap:
        listed["basemap"] = {"url": url, "attribution": services.settings.basemap_attribution}
    return listed


@router.get("/sources/{source_id}/footprints", response_model=None)
async def footprints(
    request: Request, source_id: str, query: Annotated[ScenesQuery, Depends()]
) -> dict[str, Any]:
    """Return the outlines of a source's scenes, GeoJSON."""
    source, scenes = await _scenes(request, source_id, query)
    features = await _run(request, source, lambda: [scene.feature() for scene in scenes])
    return {"type": "FeatureCollection", "features": features}


@router.get("/sources/{source_id}/boundary", response_model=None)
async def boundary(
    request: Request, source_id: str, query: Annotated[ScenesQuery, Depends()]
) -> dict[str, Any]:
    """Return the ground of all scenes as one GeoJSON Feature."""
    source, scenes = await _scenes(request, source_id, query)
    geometry = await _run(request, source, lambda: outline_of(scenes))
    return {"type": "Feature", "geometry": geometry, "properties": {"source": source.id}}


@router.get("/sources/{source_id}/years", response_model=None)
async def years(request: Request, source_id: str, bbox: Bbox = "") -> dict[str, Any]:
    """List the years that cover an area, newest first, and how fully.

    `covered` is the fraction of the area that lies within an image. `latest` is all years together.
    """
    source, scenes = await _scenes(request, source_id, ScenesQuery(bbox))
    ground = box_of(bbox) if bbox else source.bounds

    def measure() -> tuple[dict[int, Cover], Cover]:
        return cover_by_year(scenes, ground), cover_of(scenes, ground)

    by_year, together = await _run(request, source, measure)
    entries = [{"year": year or None, **_cover(cover)} for year, cover in by_year.items()]
    return {
        "source": source.id,
        "bbox": list(ground),
        "years": entries,
        "latest": _cover(together),
    }


def box_of(text: str) -> Bounds:
    """Parse `west,south,east,north`, degrees; InvalidRequest otherwise."""
    expected = "west,south,east,north in degrees, west < east and south < north,"
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidRequest("bbox", text, expected) from error
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise InvalidRequest("bbox", text, expected)
    return west, south, east, north


def describe(source: Source) -> dict[str, Any]:
    """Return a source as `/sources` lists it."""
    minzoom, maxzoom = source.zooms
    return {
        "id": source.id,
        "title": source.title,
        "attribution": source.attribution,
        "years": list(source.years),
        "bounds": list(source.bounds),
        "minzoom": minzoom,
        "maxzoom": maxzoom,
        "scenes": len(source.catalog.scenes),
        "skipped": len(source.catalog.skipped),
        "unavailable": source.unavailable,
        "last_refresh": last_refresh(source),
    }


def last_refresh(source: Source) -> dict[str, Any]:
    """Return when a source was last looked at (RFC 3339), whether that went well, and why not."""
    last = source.last_refresh
    at = datetime.fromtimestamp(last.at, UTC).isoformat(timespec="seconds")
    return {"at": at.replace("+00:00", "Z"), "ok": last.ok, "error": last.error}


async def _scenes(
    request: Request, source_id: str, query: ScenesQuery
) -> tuple[Source, list[Scene]]:
    """Return a source, and its scenes of the requested ground and dates."""
    services: Services = request.app.state.services
    source = services.sources.get(source_id)
    when = source.when(query.year, query.datetime, query.fill)
    if not query.bbox:
        return source, [scene for scene in source.catalog.scenes if when.accepts(scene.acquired)]
    ground = box_of(query.bbox)
    if not source.catalog.is_loaded(ground, when):
        await _run(request, source, lambda: source.catalog.load(ground, when))
    return source, source.catalog.within(ground, when)


async def _run(request: Request, source: Source, work: Callable[[], Result]) -> Result:
    """Run `work` in the threads of the source."""
    deadline_s: float = request.app.state.services.settings.deadline_s
    return await while_connected(request, source.reads.run(work), deadline_s)


def _cover(cover: Cover) -> dict[str, Any]:
    return {
        "covered": round(cover.fraction, 4),
        "scenes": cover.scenes,
        "first": cover.first or None,
        "last": cover.last or None,
        "resolutions": list(cover.resolutions),
    }
