"""The class of one point."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.landcover.blocks import Selection
from app.routes.requests import while_connected
from app.routes.schemas import degrees
from app.sampling.points import PointResult, class_at
from app.services import Services

router = APIRouter(tags=["point"])


@router.get("/point/{lon},{lat}", response_model=None)
async def point(
    request: Request,
    lon: str,
    lat: str,
    source: Annotated[str | None, Query(description="id of a source")] = None,
    year: Annotated[str, Query(description="`latest`, or a year of four digits")] = "latest",
    datetime: Annotated[str, Query(description="days as OGC writes them, not a year")] = "",
    fill: Annotated[str, Query(description="`older`: fill these dates from older ones")] = "",
    model: Annotated[str | None, Query(description="name of a model")] = None,
    probabilities: Annotated[bool, Query(description="add the probability of every class")] = False,
) -> dict[str, Any]:
    """Return class, confidence (percent), scene and date of a point; class null without imagery.

    `probabilities=true` adds the probability of every class (0..1); it costs one inference.
    """
    longitude, latitude = degrees("lon", lon, 180), degrees("lat", lat, 90)
    services: Services = request.app.state.services
    selection = services.select(source, year, model, datetime, fill)
    work = _document(services, selection, longitude, latitude, probabilities)
    return await while_connected(request, work, services.settings.deadline_s)


async def _document(
    services: Services,
    selection: Selection,
    longitude: float,
    latitude: float,
    probabilities: bool,
) -> dict[str, Any]:
    result = await class_at(services.landcover, selection, longitude, latitude)
    document = _origin(result, longitude, latitude)
    document["source"] = selection.source.id
    document["stale"] = selection.source.unavailable is not None
    document["model"] = selection.session.card.name
    legend = selection.session.card.legend
    if result is None:
        return document
    entry = legend[result.value]
    document["class"] = {"value": entry.value, "name": entry.name, "title": entry.title}
    if probabilities:
        block = await services.landcover.probabilities(selection, result.block)
        if block is not None:
            pixel = block[:, result.row, result.col]
            document["probabilities"] = {c.name: float(pixel[c.value]) for c in legend.classes}
    return document


def _origin(result: PointResult | None, longitude: float, latitude: float) -> dict[str, Any]:
    scene = result.scene if result else None
    scenes = result.scenes if result else ()
    return {
        "coordinates": [longitude, latitude],
        "class": None,
        "confidence": result.confidence if result else None,
        "year": int(scene.date[:4]) if scene and scene.date else None,
        "scene": {"id": scene.id, "date": scene.date or None} if scene else None,
        "scenes": [each.id for each in scenes],
        "dates": sorted({each.date for each in scenes if each.date}),
    }
