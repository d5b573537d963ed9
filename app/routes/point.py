"""What is here: the class of one point."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.landcover.blocks import Selection
from app.routes.requests import while_connected
from app.routes.schemas import degrees
from app.sampling.tiles import Found, at_point
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
    probabilities: Annotated[bool, Query(description="with those of every class")] = False,
) -> dict[str, Any]:
    """Class, confidence (per cent), scene and date under a point; class null where no imagery is.

    `probabilities=true` adds the probability of every class (0..1); it costs one inference.
    """
    longitude, latitude = degrees("lon", lon, 180), degrees("lat", lat, 90)
    services: Services = request.app.state.services
    selection = services.select(source, year, model, datetime, fill)
    work = _look(services, selection, longitude, latitude, probabilities)
    return await while_connected(request, work, services.settings.deadline_s)


async def _look(
    services: Services,
    selection: Selection,
    longitude: float,
    latitude: float,
    probabilities: bool,
) -> dict[str, Any]:
    found = await at_point(services.landcover, selection, longitude, latitude)
    answer = _answer(found, longitude, latitude)
    answer["source"] = selection.source.id
    answer["stale"] = selection.source.unavailable is not None
    answer["model"] = selection.session.card.name
    legend = selection.session.card.legend
    if found is None:
        return answer
    chosen = legend[found.value]
    answer["class"] = {"value": chosen.value, "name": chosen.name, "title": chosen.title}
    if probabilities:
        block = await services.landcover.probabilities(selection, found.block)
        if block is not None:
            pixel = block[:, found.row, found.col]
            answer["probabilities"] = {c.name: float(pixel[c.value]) for c in legend.classes}
    return answer


def _answer(found: Found | None, longitude: float, latitude: float) -> dict[str, Any]:
    scene = found.scene if found else None
    return {
        "coordinates": [longitude, latitude],
        "class": None,
        "confidence": found.confidence if found else None,
        "year": int(scene.date[:4]) if scene and scene.date else None,
        "scene": {"id": scene.id, "date": scene.date or None} if scene else None,
        "scenes": [scene.id for scene in found.scenes] if found else [],
        "dates": sorted({scene.date for scene in found.scenes if scene.date}) if found else [],
    }
