"""What can be executed for an area: OGC API Processes 1.0, part 1."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from pydantic_core import from_json
from starlette.responses import JSONResponse, Response

from app.errors import InvalidRequest, TooLarge, UnknownName
from app.jobs.job import OUTPUTS, PROCESSES, Job, Process, Spec
from app.jobs.office import JobService
from app.routes.jobs import results_of
from app.routes.ogc import CONFORMANCE
from app.routes.requests import body_of, while_connected

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
_TEXT = {"type": "string"}
_AS_JOB = "ask with `Prefer: respond-async`: it becomes a job"


def _describe(process: Process, base: str, whole: bool) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "id": process,
        "title": _TITLES[process],
        "version": "1.0.0",
        "jobControlOptions": ["sync-execute", "async-execute", "dismiss"],
        "outputTransmission": ["value", "reference"],
        "links": [{"rel": "self", "href": f"{base}processes/{process}"}],
    }
    if whole:
        years = ("from", "to") if process == "change" else ("year",)
        required = {"area": {"type": "object", "contentMediaType": "application/geo+json"}}
        optional = {"source": _TEXT, "model": _TEXT, **dict.fromkeys(years, _TEXT)}
        summary["inputs"] = {
            name: {
                "title": name,
                "schema": schema,
                "minOccurs": int(name in ("area", "from", "to")),
            }
            for name, schema in (required | optional).items()
        }
        summary["outputs"] = {
            name: {"title": name, "schema": {"type": "object"}} for name in OUTPUTS[process]
        }
    return summary


@router.get("/conformance", response_model=None)
async def conformance() -> dict[str, Any]:
    """The parts of OGC standards that are kept."""
    return {"conformsTo": [*CONFORMANCE, *_CONFORMANCE]}


@router.get("/processes", response_model=None)
async def processes(request: Request) -> dict[str, Any]:
    """What can be executed."""
    base = str(request.base_url)
    listed = [_describe(process, base, False) for process in PROCESSES]
    return {"processes": listed, "links": [{"rel": "self", "href": f"{base}processes"}]}


@router.get("/processes/{processID}", response_model=None)
async def process(request: Request, processID: str) -> dict[str, Any]:  # noqa: N803
    """One process, its inputs and outputs."""
    return _describe(_known(processID), str(request.base_url), True)


@router.post("/processes/{processID}/estimate", response_model=None)
async def estimate(request: Request, processID: str) -> dict[str, Any]:  # noqa: N803
    """Blocks, seconds and bytes of an execution, without executing it. Takes the same body."""
    office, spec = await _asked(request, processID)
    return await asyncio.to_thread(office.estimate, spec)


@router.post("/processes/{processID}/execution", response_model=None)
async def execute(request: Request, processID: str) -> Response:  # noqa: N803
    """Executes a process: at once for a small area, as a job with `Prefer: respond-async`."""
    office, spec = await _asked(request, processID)
    base = str(request.base_url)
    wants_job = "respond-async" in request.headers.get("prefer", "").lower()
    if not wants_job and not await asyncio.to_thread(office.fits_request, spec):
        found = await asyncio.to_thread(office.estimate, spec)
        limit = office.settings.sync_area_km2
        raise TooLarge("the area in km²", round(found["km2"], 2), limit, found, _AS_JOB)
    job = await asyncio.to_thread(office.submit, spec)
    if wants_job:
        headers = {"location": f"{base}jobs/{job.id}", "preference-applied": "respond-async"}
        return JSONResponse(job.status_info(base), 201, headers)
    try:
        ended = await while_connected(request, _ended(office, job), office.settings.deadline_s)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(office.dismiss, job.id))
        raise
    return JSONResponse(results_of(ended, base))


async def _ended(office: JobService, job: Job) -> Job:
    while job.status in ("accepted", "running"):
        await asyncio.sleep(0.1)
        job = await asyncio.to_thread(office.store.get, job.id)
    return job


async def _asked(request: Request, name: str) -> tuple[JobService, Spec]:
    process = _known(name)
    office: JobService = request.app.state.jobs
    body = await body_of(request, office.settings.body_kb)
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest("body", error, "JSON") from error
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(inputs, dict) or "area" not in inputs:
        raise InvalidRequest("inputs", inputs, '{"inputs": {"area": GeoJSON, …}}')
    fields = ("from", "to") if process == "change" else ("year",)
    unknown = set(inputs) - {"area", "source", "model", *fields}
    if unknown:
        raise InvalidRequest("inputs", sorted(unknown), f"area, source, model, {', '.join(fields)}")
    years = [_text(inputs, field, "latest" if field == "year" else None) for field in fields]
    outputs = document.get("outputs", {})
    if not isinstance(outputs, (dict, list)) or not all(isinstance(o, str) for o in outputs):
        raise InvalidRequest("outputs", outputs, f"some of {', '.join(OUTPUTS[process])}")
    source, model = _text(inputs, "source", ""), _text(inputs, "model", "")
    area = inputs["area"]
    if isinstance(area, dict) and "value" in area:
        area = area["value"]
    spec = await asyncio.to_thread(
        office.spec,
        process,
        area,
        source or None,
        model or None,
        years,
        tuple(outputs),
    )
    return office, spec


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
