"""Jobs and their results: OGC API Processes 1.0, parts job list and dismiss.

The address of a job cannot be guessed, and is all that is needed to read and to delete it. The list
of all jobs is the operator's; a client with a key has the list of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, JSONResponse, Response

from app.errors import UnknownName
from app.jobs.files import OUTPUT_TYPES
from app.jobs.job import IllegalTransition, Job
from app.jobs.service import JobService
from app.render.qgis import SIDECARS
from app.routes.access import owner_of
from app.routes.listing import JOBS_QUERY, jobs_query, page_links, page_of
from app.routes.problems import OGC_EXCEPTIONS, problem
from app.routes.results import FRESH, JobHasNoResults, content_of, deliver, file_of

router = APIRouter(tags=["jobs"])

NOT_READY = {"accepted": 404, "running": 404, "failed": 500, "dismissed": 404}


def _service(request: Request) -> JobService:
    service: JobService = request.app.state.jobs
    return service


async def _job(request: Request, job_id: str) -> Job | Response:
    try:
        return await _service(request).run(_service(request).store.get, job_id)
    except UnknownName as error:
        return problem(
            404, "No such job", str(error), type=f"{OGC_EXCEPTIONS}no-such-job", field="job"
        )


@router.get("/jobs", response_model=None, openapi_extra=JOBS_QUERY)
async def jobs(request: Request) -> Response:
    """Return the newest jobs; needs the operator's key, or a key whose jobs they are."""
    base, owner = str(request.base_url), owner_of(request)
    (limit, offset), which = page_of(request), jobs_query(request, owner)
    result, total = await _service(request).run(
        _service(request).store.newest, limit, offset, which
    )
    listed = [
        job.status_info(base) | ({"client": job.order.client} if owner is None else {})
        for job in result
    ]
    document = {"jobs": listed, "numberMatched": total, "links": page_links(request, total)}
    return JSONResponse(document, headers=FRESH)


@router.get("/jobs/{jobID}", response_model=None)
async def job(request: Request, jobID: str) -> Response:  # noqa: N803
    """Return how far a job is."""
    result = await _job(request, jobID)
    if isinstance(result, Response):
        return result
    return JSONResponse(result.status_info(str(request.base_url)), headers=FRESH)


@router.delete("/jobs/{jobID}", response_model=None)
async def dismiss(request: Request, jobID: str) -> Response:  # noqa: N803
    """Stop a job at once; of one that has ended, remove the results."""
    result = await _job(request, jobID)
    if isinstance(result, Response):
        return result
    try:
        result = await _service(request).run(_service(request).dismiss, jobID)
    except IllegalTransition as error:
        return problem(410, "Gone", str(error))
    return JSONResponse(result.status_info(str(request.base_url)), headers=FRESH)


@router.get("/jobs/{jobID}/results", response_model=None)
async def results(request: Request, jobID: str) -> Response:  # noqa: N803
    """Return the results of a job as its request wanted them: by default JSON values, and addresses
    of files."""
    result = await _job(request, jobID)
    if isinstance(result, Response):
        return result
    folder = _service(request).folder(result.id).results
    return await _service(request).run(deliver, result, str(request.base_url), folder)


@router.get("/jobs/{jobID}/results/{name}", response_model=None)
async def result_file(request: Request, jobID: str, name: str) -> Response:  # noqa: N803
    """Return one file of a job's results; range requests work, so GIS can open it remotely."""
    result = await _job(request, jobID)
    if isinstance(result, Response):
        return result
    folder = _service(request).folder(result.id).results
    if result.status == "successful":
        for output, each in result.results.items():
            if "value" in each and name == file_of(output, each):
                return Response(content_of(each, folder), 200, FRESH, OUTPUT_TYPES[output])
    files = {each["file"]: each["type"] for each in result.results.values() if "file" in each}
    # GDAL looks for the names of classes beside a raster.
    rasters = [file for file in files if file.endswith(".tif")]
    files |= {f"{file}.aux.xml": "application/xml" for file in rasters}
    files |= {f"{Path(file).stem}{end}": SIDECARS[end] for file in rasters for end in SIDECARS}
    path = folder / name
    if name not in files or not path.is_file():
        return problem(404, "Not found", f"job {result.id} has no file {name[:80]!r}")
    return FileResponse(path, 200, _PRIVATE, files[name], filename=name)


async def no_results(_: Request, error: Exception) -> Response:
    """Return the answer to JobHasNoResults."""
    assert isinstance(error, JobHasNoResults)  # noqa: S101 - registered for this type
    job = error.job
    detail = f"job {job.id} is {job.status}" + (f": {job.message}" if job.message else "")
    return problem(
        NOT_READY.get(job.status, 404),
        "No results",
        detail,
        type=f"{OGC_EXCEPTIONS}result-not-ready",
    )


_PRIVATE: dict[str, Any] = {"cache-control": "private, no-cache"}
