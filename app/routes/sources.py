"""The imagery that is served: where, when and how fully."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.errors import InvalidRequest
from app.grid.pixel_grid import Bounds
from app.imagery.catalog.footprints import Cover, cover_by_year, cover_of, outline_of
from app.imagery.scene import Scene
from app.landcover.source import Source
from app.routes.requests import while_connected
from app.services import Services

router = APIRouter(tags=["sources"])

Year = Annotated[str, Query(description="`latest`, or a year of four digits")]
Datetime = Annotated[str, Query(description="days as OGC writes them, `2018-01-01/2020-12-31`")]
Fill = Annotated[str, Query(description="`older`: with what may fill these dates")]
Bbox = Annotated[str, Query(description="west,south,east,north in degrees; all of the source")]


@router.get("/sources", response_model=None)
async def sources(request: Request) -> dict[str, Any]:
    """The sources with their years, extent and zooms."""
    services: Services = request.app.state.services
    return {"sources": [describe(source) for source in services.sources]}


@router.get("/sources/{source_id}/footprints", response_model=None)
async def footprints(
    request: Request,
    source_id: str,
    bbox: Bbox = "",
    year: Year = "latest",
    datetime: Datetime = "",
    fill: Fill = "",
) -> dict[str, Any]:
    """Outlines of a source's scenes, GeoJSON."""
    source, scenes = await _asked(request, source_id, bbox, year, datetime, fill)
    features = await _work(request, source, lambda: [scene.feature() for scene in scenes])
    return {"type": "FeatureCollection", "features": features}


@router.get("/sources/{source_id}/boundary", response_model=None)
async def boundary(
    request: Request,
    source_id: str,
    bbox: Bbox = "",
    year: Year = "latest",
    datetime: Datetime = "",
    fill: Fill = "",
) -> dict[str, Any]:
    """The ground of all scenes as one GeoJSON Feature."""
    source, scenes = await _asked(request, source_id, bbox, year, datetime, fill)
    geometry = await _work(request, source, lambda: outline_of(scenes))
    return {"type": "Feature", "geometry": geometry, "properties": {"source": source.id}}


@router.get("/sources/{source_id}/years", response_model=None)
async def years(request: Request, source_id: str, bbox: Bbox = "") -> dict[str, Any]:
    """Which years cover an area, newest first, and how fully: `covered` is the fraction of it that
    lies within an image. `latest` is all of them together."""
    source, scenes = await _asked(request, source_id, bbox, "latest", "", "")
    ground = box_of(bbox) if bbox else source.bounds

    def look() -> tuple[dict[int, Cover], Cover]:
        return cover_by_year(scenes, ground), cover_of(scenes, ground)

    by_year, together = await _work(request, source, look)
    listed = [{"year": year or None, **_cover(cover)} for year, cover in by_year.items()]
    return {
        "source": source.id,
        "bbox": list(ground),
        "years": listed,
        "latest": _cover(together),
    }


def box_of(text: str) -> Bounds:
    """(west, south, east, north) out of `west,south,east,north`; InvalidRequest otherwise."""
    expected = "west,south,east,north in degrees, west < east and south < north,"
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidRequest("bbox", text, expected) from error
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise InvalidRequest("bbox", text, expected)
    return west, south, east, north


def describe(source: Source) -> dict[str, Any]:
    """A source as it is listed."""
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
        "skipped": len(source.catalog.problems),
        "unavailable": source.unavailable,
    }


async def _asked(
    request: Request, source_id: str, bbox: str, year: str, datetime: str, fill: str
) -> tuple[Source, list[Scene]]:
    """The source, and its scenes of that ground and those dates."""
    services: Services = request.app.state.services
    source = services.sources.get(source_id)
    when = source.when(year, datetime, fill)
    if not bbox:
        return source, [scene for scene in source.catalog.scenes if when.accepts(scene.acquired)]
    ground = box_of(bbox)
    if not source.catalog.knows(ground, when):
        await _work(request, source, lambda: source.catalog.prepare(ground, when))
    return source, source.catalog.within(ground, when)


async def _work(request: Request, source: Source, work: Any) -> Any:  # noqa: ANN401 - a result
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
