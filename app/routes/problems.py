"""Errors as RFC 9457 `application/problem+json`: one table, at the edge, for every route."""

from __future__ import annotations

import errno
import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from app.errors import (
    AccessDenied,
    Busy,
    DeadlineExceeded,
    InvalidArea,
    InvalidRequest,
    LandcoverError,
    QuotaExceeded,
    SourceTooSlow,
    SourceUnavailable,
    StorageFull,
    StorageUnavailable,
    TooLarge,
    UnknownName,
    storage_error,
)
from app.routes.requests import ClientGone

MEDIA_TYPE = "application/problem+json"
OGC_EXCEPTIONS = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/"

STATUS: dict[type[LandcoverError], tuple[int, str]] = {
    InvalidRequest: (400, "Invalid parameter"),
    InvalidArea: (422, "Invalid area"),
    UnknownName: (404, "Not found"),
    TooLarge: (413, "Too large"),
    SourceUnavailable: (502, "Imagery unavailable"),
    SourceTooSlow: (504, "Imagery too slow"),
    Busy: (503, "Busy"),
    QuotaExceeded: (429, "Too many requests"),
    AccessDenied: (403, "Forbidden"),
    StorageUnavailable: (503, "Storage unavailable"),
    StorageFull: (507, "Insufficient storage"),
    DeadlineExceeded: (504, "Too slow"),
}

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

log = logging.getLogger("landcover.routes")


def problem(
    status: int,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    **members: object,
) -> Response:
    """Return a problem document; clients never cache a 5xx."""
    content = {"title": title, "status": status, "detail": detail, **members}
    kept = {"cache-control": "no-store", **(headers or {})} if status >= 500 else headers
    return JSONResponse(content, status, kept, media_type=MEDIA_TYPE)


def _status_of(error: Exception) -> tuple[int, str]:
    """Return the status and title of the nearest base class in the table."""
    known = (STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return next(known, (500, "Internal error"))


def install(app: FastAPI) -> None:
    """Register the table with an application."""
    app.add_exception_handler(LandcoverError, _landcover_error)
    app.add_exception_handler(ClientGone, _client_gone)
    app.add_exception_handler(ClientDisconnect, _client_gone)  # in the middle of its body
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OSError, _os_error)
    app.add_exception_handler(Exception, _unexpected)


async def _landcover_error(_: Request, error: Exception) -> Response:
    status, title = _status_of(error)
    if isinstance(error, AccessDenied) and error.known:
        status, title = 401, "Unauthorized"
    if status == 500:
        log.error("unmapped error", exc_info=error)
        return problem(500, title, "The server failed; its log says why.")
    if isinstance(error, SourceUnavailable):
        log.warning("imagery unavailable: %s", error)
    if isinstance(error, StorageUnavailable):
        log.warning("storage unavailable: %s", error)
    return problem(status, title, str(error), _headers(error), **_members(error))


def _headers(error: Exception) -> dict[str, str] | None:
    if isinstance(error, Busy | SourceUnavailable | QuotaExceeded | StorageUnavailable):
        return {"retry-after": str(error.retry_after)}
    if isinstance(error, AccessDenied) and error.known:
        return {"www-authenticate": 'Bearer realm="landcover"'}
    return None


def _members(error: Exception) -> dict[str, object]:
    """Return what a client's program needs of an error beside the text."""
    if isinstance(error, InvalidRequest):
        members: dict[str, object] = {
            "field": error.field,
            "value": error.value,
            "expected": error.expected,
        }
        hint = error.hint if isinstance(error, InvalidArea) else ""
        return members | ({"hint": hint} if hint else {})
    if isinstance(error, UnknownName):
        kind = getattr(error, "ogc", None)
        members = {"field": error.field, "known": error.known}
        return members | ({"type": f"{OGC_EXCEPTIONS}{kind}"} if kind else {})
    if isinstance(error, TooLarge):
        known = {"limit": error.limit, "estimate": error.estimate, "hint": error.hint}
        return {name: value for name, value in known.items() if value}
    if isinstance(error, QuotaExceeded):
        return {"value": error.value, "limit": error.limit}
    return {"scene": error.scene_id} if isinstance(error, SourceUnavailable) else {}


async def _client_gone(_: Request, __: Exception) -> Response:
    """Return an answer for the log only; nobody reads it."""
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


async def _os_error(request: Request, error: Exception) -> Response:
    """Scratch files of an export, too, may find no room."""
    if isinstance(error, OSError) and error.errno in _STORAGE:
        return await _landcover_error(request, storage_error("a file cannot be written", error))
    raise error


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return problem(500, "Internal error", "The server failed; its log says why.")
