"""What can be executed for an area: OGC API Processes 1.0, part 1."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.area.geojson import parse_json
from app.errors import InvalidRequest, TooLarge, UnknownName
from app.jobs.files import OUTPUT_TYPES
from app.jobs.job import OUTPUTS, PROCESSES, Job, Order, Process, Spec, spec_of
from app.jobs.service import JobService
from app.routes.access import client_of
from app.routes.geojson_schema import execution_body
from app.routes.listing import PAGE_QUERY, page_links, page_of
from app.routes.ogc import CONFORMANCE
from app.routes.requests import body_of, while_connected
from app.routes.results import FRESH, deliver, delivery_of

router = APIRouter(tags=["processes"])

_TITLES: dict[Process, str] = {
    "classify-area": "Land cover of an area, as a Cloud Optimized GeoTIFF and class areas",
    "change": "Change between two years, as from·10 + to and a matrix of hectares",
    "seed": "Fill the cache of an area, so that its tiles are ready",
}
_CONFORMANCE = [
    f"http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/{name}"
    for name in ("core", "ogc-process-description", "json", "oas30", "job-list", "dismiss")
]
_AS_JOB = "send `Prefer: respond-async`: it becomes a job"

_INPUTS = {
    "area": "GeoJSON: polygons in longitude and latitude",
    "source": "id of a source; the first one by default",
    "model": "name of a model; the only one by default",
    "year": "`latest`, or a year of four digits",
    "datetime": "instead of a year: days as OGC writes them, `2018-01-01/2020-12-31`",
    "fill": "`older`: fill what these dates leave open from older ones",
    "from": "the year before, or `latest`",
    "to": "the year after, or `latest`",
}

_OUTPUTS = {
    "cog": "Cloud Optimized GeoTIFF of the classes, or of from · 10 + to",
    "polygons": "GeoPackage of class polygons; made only if it is requested",
    "csv": "the areas per class, or the matrix of change, as a table",
    "item": "STAC item of the raster",
    "statistics": "ground area per class",
    "matrix": "hectares by class before (rows) and after (columns)",
    "report": "how many blocks the cache has now",
}
_GEOJSON = "application/geo+json"


def _inputs_of(process: Process) -> tuple[str, ...]:
    dates = ("from", "to") if process == "change" else ("year", "datetime", "fill")
    return ("area", "source", "model", *dates)


def _describe(process: Process, base: str, whole: bool) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "id": process,
        "title": _TITLES[process],
        "version": "1.0.0",
        "jobControlOptions": ["sync-execute", "async-execute", "dismiss"],
        "outputTransmission": ["value", "reference"],
        "links": [
            {"rel": rel, "href": f"{base}processes/{process}{end}", "type": "application/json",
             "title": title}
            for rel, end, title in (
                ("self", "", "This process"),
                ("http://www.opengis.net/def/rel/ogc/1.0/execute", "/execution", "Execute it"),
            )
        ],
    }  # fmt: skip
    if whole:
        area = {"type": "object", "format": "geojson-geometry", "contentMediaType": _GEOJSON}
        summary["inputs"] = {
            name: {
                "title": name,
                "description": _INPUTS[name],
                "schema": area if name == "area" else {"type": "string"},
                "minOccurs": int(name in ("area", "from", "to")),
            }
            for name in _inputs_of(process)
        }
        summary["outputs"] = {
            name: {
                "title": name,
                "description": _OUTPUTS[name],
                "schema": _output_schema(OUTPUT_TYPES[name]),
            }
            for name in OUTPUTS[process]
        }
    return summary


def _output_schema(kind: str) -> dict[str, str]:
    if kind.endswith("json"):
        return {"type": "object", "contentMediaType": kind}
    encoding = {} if kind.startswith("text/") else {"contentEncoding": "binary"}
    return {"type": "string", **encoding, "contentMediaType": kind}


@router.get("/conformance", response_model=None)
async def conformance() -> dict[str, Any]:
    """Return the parts of OGC standards that are implemented."""
    return {"conformsTo": [*CONFORMANCE, *_CONFORMANCE]}


@router.get("/processes", response_model=None, openapi_extra=PAGE_QUERY)
async def processes(request: Request) -> dict[str, Any]:
    """Return what can be executed."""
    base, (limit, offset) = str(request.base_url), page_of(request)
    listed = [_describe(process, base, False) for process in PROCESSES[offset : offset + limit]]
    return {"processes": listed, "links": page_links(request, len(PROCESSES))}


@router.get("/processes/{processID}", response_model=None)
async def process(request: Request, processID: str) -> dict[str, Any]:  # noqa: N803
    """Return one process, its inputs and outputs."""
    return _describe(_known(processID), str(request.base_url), True)


_BODY = execution_body(_INPUTS)


@router.post("/processes/{processID}/estimate", response_model=None, openapi_extra=_BODY)
async def estimate(request: Request, processID: str) -> dict[str, Any]:  # noqa: N803
    """Return the blocks, seconds and bytes of an execution, without executing it. Takes the same
    body."""
    service, spec, _ = await _request(request, processID)
    return await service.run(service.estimate, spec)


@router.post("/processes/{processID}/execution", response_model=None, openapi_extra=_BODY)
async def execute(request: Request, processID: str) -> Response:  # noqa: N803
    """Execute a process: at once for a small area, as a job with `Prefer: respond-async`."""
    service, spec, order = await _request(request, processID)
    base = str(request.base_url)
    wants_job = "respond-async" in request.headers.get("prefer", "").lower()
    if not wants_job and not await service.run(service.fits_request, spec):
        cost = await service.run(service.estimate, spec)
        limit = service.settings.sync_area_km2
        raise TooLarge("the area in km²", round(cost["km2"], 2), limit, cost, _AS_JOB)
    order = replace(order, waited=not wants_job)
    job = await service.run(service.submit, spec, client_of(request), order)
    if wants_job:
        headers = {"location": f"{base}jobs/{job.id}", "preference-applied": "respond-async"}
        return JSONResponse(job.status_info(base), 201, {**FRESH, **headers})
    try:
        ended = await while_connected(request, _ended(service, job), service.settings.deadline_s)
    except BaseException:
        await asyncio.shield(service.run(service.dismiss, job.id))
        raise
    return await service.run(deliver, ended, base, service.folder(ended.id).results)


async def _ended(service: JobService, job: Job) -> Job:
    while job.status in ("accepted", "running"):
        await asyncio.sleep(0.1)
        job = await service.run(service.store.get, job.id)
    return job


async def _request(request: Request, name: str) -> tuple[JobService, Spec, Order]:
    """Return the job service, what is requested and how it is delivered; InvalidRequest,
    UnknownName or TooLarge."""
    process = _known(name)
    service: JobService = request.app.state.jobs
    body = await body_of(request, service.settings.body_kb)
    try:
        document = parse_json(body)
    except ValueError as error:
        raise InvalidRequest("body", error, "JSON") from error
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(inputs, dict) or "area" not in inputs:
        raise InvalidRequest("inputs", inputs, '{"inputs": {"area": GeoJSON, …}}')
    names = _inputs_of(process)
    if unknown := set(inputs) - set(names):
        raise InvalidRequest("inputs", sorted(unknown), ", ".join(names))
    fields = ("from", "to") if process == "change" else ("year",)
    years = [_text(inputs, field, "latest" if field == "year" else None) for field in fields]
    outputs, order = delivery_of(process, document)
    source, model, datetime, fill = (
        _text(inputs, field, "") for field in ("source", "model", "datetime", "fill")
    )
    area = inputs["area"]
    if isinstance(area, dict) and "value" in area:
        area = area["value"]
    spec = await service.run(
        spec_of,
        service.services,
        process,
        area,
        source or None,
        model or None,
        years,
        outputs,
        datetime,
        fill,
    )
    return service, spec, order


def _text(inputs: dict[str, Any], field: str, default: str | None) -> str:
    value = inputs.get(field, default)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidRequest(field, value, "a text" if value is not None else "a value")
    return value


class NoSuchProcess(UnknownName):
    """OGC no-such-process."""

    ogc = "no-such-process"


def _known(name: str) -> Process:
    for process in PROCESSES:
        if process == name:
            return process
    raise NoSuchProcess("process", name, PROCESSES)
