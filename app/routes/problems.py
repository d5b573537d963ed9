"""Errors as RFC 9457 `application/problem+json`: one table, at the edge, for every route."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from app.errors import (
    Busy,
    DeadlineExceeded,
    InvalidRequest,
    LandcoverError,
    SourceUnavailable,
    TooLarge,
    UnknownName,
)
from app.routes.work import ClientGone

MEDIA_TYPE = "application/problem+json"
OGC_EXCEPTIONS = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/"

STATUS: dict[type[LandcoverError], tuple[int, str]] = {
    InvalidRequest: (400, "Invalid parameter"),
    UnknownName: (404, "Not found"),
    TooLarge: (413, "Too large"),
    SourceUnavailable: (502, "Imagery unavailable"),
    Busy: (503, "Busy"),
    DeadlineExceeded: (504, "Too slow"),
}

log = logging.getLogger("landcover.routes")


def problem(
    status: int,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    **members: object,
) -> Response:
    """A problem document; 5xx are never kept by clients."""
    content = {"title": title, "status": status, "detail": detail, **members}
    kept = {"cache-control": "no-store", **(headers or {})} if status >= 500 else headers
    return JSONResponse(content, status, kept, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Registers the table with an application."""
    app.add_exception_handler(LandcoverError, _landcover_error)
    app.add_exception_handler(ClientGone, _client_gone)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


async def _landcover_error(_: Request, error: Exception) -> Response:
    status, title = next(
        (row for kind, row in STATUS.items() if isinstance(error, kind)), (500, "Internal error")
    )
    if status == 500:
        log.error("unmapped error", exc_info=error)
        return problem(500, title, "The server failed; its log says why.")
    if isinstance(error, InvalidRequest):
        return problem(
            status,
            title,
            str(error),
            field=error.field,
            value=error.value,
            expected=error.expected,
        )
    if isinstance(error, UnknownName):
        kind = getattr(error, "ogc", None)
        members: dict[str, Any] = {"type": f"{OGC_EXCEPTIONS}{kind}"} if kind else {}
        return problem(status, title, str(error), field=error.field, known=error.known, **members)
    if isinstance(error, Busy):
        return problem(status, title, str(error), {"retry-after": str(error.retry_after)})
    if isinstance(error, SourceUnavailable):
        log.warning("imagery unavailable: %s", error)
        return problem(status, title, str(error), {"retry-after": "5"}, scene=error.scene_id)
    return problem(status, title, str(error))


async def _client_gone(_: Request, __: Exception) -> Response:
    """For the log only; nobody reads it."""
    return Response(status_code=499)


async def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    detail = f"{field}={str(first.get('input'))[:80]!r}: {first['msg']}"
    return problem(400, "Invalid parameter", detail, field=field)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
    title = HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {request.url.path[:200]}: {title.lower()}"
    headers = dict(error.headers or {})
    return problem(error.status_code, title, detail, headers)


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return problem(500, "Internal error", "The server failed; its log says why.")
