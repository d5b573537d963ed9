"""Jobs and their results: OGC API Processes 1.0, parts job list and dismiss."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, JSONResponse, Response

from app.errors import UnknownName
from app.jobs.job import IllegalTransition, Job
from app.jobs.runner import JobService
from app.render.qgis import SIDECARS
from app.routes.problems import OGC_EXCEPTIONS, problem

router = APIRouter(tags=["jobs"])

NOT_READY = {"accepted": 404, "running": 404, "failed": 500, "dismissed": 404}


class JobHasNoResults(Exception):
    """A job that has not ended successfully has no results."""

    def __init__(self, job: Job) -> None:
        self.job = job


def _service(request: Request) -> JobService:
    service: JobService = request.app.state.jobs
    return service


async def _job(request: Request, job_id: str) -> Job | Response:
    try:
        return await asyncio.to_thread(_service(request).store.get, job_id)
    except UnknownName as error:
        return problem(
            404, "No such job", str(error), type=f"{OGC_EXCEPTIONS}no-such-job", field="job"
        )


@router.get("/jobs", response_model=None)
async def jobs(request: Request) -> dict[str, Any]:
    """Return the newest 100 jobs."""
    base = str(request.base_url)
    result = await asyncio.to_thread(_service(request).store.newest)
    links = [{"rel": "self", "href": f"{base}jobs"}]
    return {"jobs": [job.status_info(base) for job in result], "links": links}


@router.get("/jobs/{jobID}", response_model=None)
async def job(request: Request, jobID: str) -> Response:  # noqa: N803
    """Return how far a job is."""
    result = await _job(request, jobID)
    if isinstance(result, Response):
        return result
    return JSONResponse(result.status_info(str(request.base_url)), headers=_FRESH)


@router.delete("/jobs/{jobID}", response_model=None)
async def dismiss(request: Request, jobID: str) -> Response:  # noqa: N803
    """Stop a job at once; of one that has ended, remove the results."""
    result = await _job(request, jobID)
    if isinstance(result, Response):
        return result
    try:
        result = await asyncio.to_thread(_service(request).dismiss, jobID)
    except IllegalTransition as error:
        return problem(410, "Gone", str(error))
    return JSONResponse(result.status_info(str(request.base_url)))


@router.get("/jobs/{jobID}/results", response_model=None)
async def results(request: Request, jobID: str) -> Response:  # noqa: N803
    """Return the results of a job: JSON values, and addresses of files."""
    result = await _job(request, jobID)
    if isinstance(result, Response):
        return result
    return JSONResponse(results_of(result, str(request.base_url)))


@router.get("/jobs/{jobID}/results/{name}", response_model=None)
async def result_file(request: Request, jobID: str, name: str) -> Response:  # noqa: N803
    """Return one file of a job's results; range requests work, so GIS can open it remotely."""
    result = await _job(request, jobID)
    if isinstance(result, Response):
        return result
    files = {each["file"]: each["type"] for each in result.results.values() if "file" in each}
    # GDAL looks for the names of classes beside a raster.
    rasters = [file for file in files if file.endswith(".tif")]
    files |= {f"{file}.aux.xml": "application/xml" for file in rasters}
    files |= {f"{Path(file).stem}{end}": SIDECARS[end] for file in rasters for end in SIDECARS}
    path = _service(request).folder(result.id).results / name
    if name not in files or not path.is_file():
        return problem(404, "Not found", f"job {result.id} has no file {name[:80]!r}")
    return FileResponse(path, media_type=files[name], filename=name)


def results_of(job: Job, base: str) -> dict[str, Any]:
    """Return the results document; JobHasNoResults when there are none."""
    if job.status != "successful":
        raise JobHasNoResults(job)
    return {
        name: each["value"]
        if "value" in each
        else {"href": f"{base}jobs/{job.id}/results/{each['file']}", "type": each["type"]}
        for name, each in job.results.items()
    }


async def no_results(_: Request, error: Exception) -> Response:
    """Return the answer to JobHasNoResults."""
    assert isinstance(error, JobHasNoResults)  # noqa: S101 - registered for this type
    job = error.job
    detail = f"job {job.id} is {job.status}" + (f": {job.message}" if job.message else "")
    return problem(
        NOT_READY[job.status], "No results", detail, type=f"{OGC_EXCEPTIONS}result-not-ready"
    )


_FRESH = {"cache-control": "no-store"}
