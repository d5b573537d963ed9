"""The results of a job as its request wanted them: a document, or the bytes themselves.

OGC API Processes 1.0, 7.11.4 and 7.13. Where a request says nothing, JSON comes by value and files
by reference, in a document.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from starlette.responses import FileResponse, JSONResponse, Response

from app.errors import InvalidRequest, TooLarge
from app.jobs.files import OUTPUT_TYPES
from app.jobs.job import OUTPUTS, Job, Order, Process

MOST_INLINE = 64_000_000
"""Bytes of files that are sent within a document or among others."""

FRESH = {"cache-control": "no-store"}
"""Nobody keeps what a job's address, which is all that is needed to read it, leads to."""

_REL = "http://www.opengis.net/def/rel/ogc/1.0/results"
_TEXT = ("text/csv",)

Transmission = Literal["value", "reference"]


class JobHasNoResults(Exception):
    """A job that has not ended successfully has no results."""

    def __init__(self, job: Job) -> None:
        self.job = job


def delivery_of(process: Process, document: Mapping[str, Any]) -> tuple[tuple[str, ...], Order]:
    """Return the outputs that an execution requests (none: all but those on request) and how they
    are delivered; InvalidRequest for what the process cannot."""
    raw = document.get("response", "document")
    if raw not in ("raw", "document"):
        raise InvalidRequest("response", raw, "raw or document")
    outputs = document.get("outputs", {})
    names = OUTPUTS[process]
    if not isinstance(outputs, dict | list) or not all(isinstance(name, str) for name in outputs):
        raise InvalidRequest("outputs", outputs, f"some of {', '.join(names)}")
    for name in outputs:
        if name not in names:
            raise InvalidRequest("outputs", name, f"some of {', '.join(names)}")
    transmission = {}
    for name, wanted in outputs.items() if isinstance(outputs, dict) else ():
        if not isinstance(wanted, dict):
            raise InvalidRequest(f"outputs.{name}", wanted, "an object")
        mode = wanted.get("transmissionMode")
        if mode not in (None, "value", "reference"):
            raise InvalidRequest(f"outputs.{name}.transmissionMode", mode, "value or reference")
        if mode:
            transmission[name] = mode
        _check_format(name, wanted.get("format"))
    return tuple(outputs), Order(raw=raw == "raw", transmission=transmission)


def _check_format(name: str, wanted: object) -> None:
    media = wanted.get("mediaType") if isinstance(wanted, dict) else wanted
    if media is None:
        return
    known = OUTPUT_TYPES[name]
    if not isinstance(media, str) or media.partition(";")[0].strip() != known.partition(";")[0]:
        raise InvalidRequest(f"outputs.{name}.format", media, f"the media type {known}")


def deliver(job: Job, base: str, folder: Path) -> Response:
    """Return the answer with a job's results, whose files lie in `folder`; JobHasNoResults when
    there are none, TooLarge when they are too much for one document. `base`: URL of the service."""
    files = [folder / each["file"] for each in job.results.values() if "file" in each]
    if job.status != "successful" or not all(file.is_file() for file in files):
        raise JobHasNoResults(job)
    if not job.order.raw:
        return JSONResponse(_document(job, base, folder), headers=FRESH)
    names = list(job.results)
    by_value = [name for name in names if _mode(job, name) == "value"]
    if not by_value:
        links = [
            f'<{_href(job, base, name)}>; rel="{_REL}"; title="{name}"; type="{OUTPUT_TYPES[name]}"'
            for name in names
        ]
        return Response(status_code=204, headers={**FRESH, "link": ", ".join(links)})
    if len(names) == 1:
        return _whole(job, names[0], folder)
    return _multipart(job, base, folder)


def file_of(name: str, result: Mapping[str, Any]) -> str:
    """Return the name of the file that a result is, or can be had as."""
    return str(result.get("file", f"{name}.json"))


def content_of(result: Mapping[str, Any], folder: Path) -> bytes:
    """Return the bytes of a result."""
    if "value" in result:
        return json.dumps(result["value"], ensure_ascii=False, allow_nan=False).encode()
    return (folder / str(result["file"])).read_bytes()


def _mode(job: Job, name: str) -> Transmission:
    usual = "value" if job.order.raw or "value" in job.results[name] else "reference"
    mode = job.order.transmission.get(name, usual)
    return "value" if mode == "value" else "reference"


def _href(job: Job, base: str, name: str) -> str:
    return f"{base}jobs/{job.id}/results/{file_of(name, job.results[name])}"


def _document(job: Job, base: str, folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = {}
    _check_size(job, folder)
    for name, result in job.results.items():
        kind = OUTPUT_TYPES[name]
        if _mode(job, name) == "reference":
            document[name] = {"href": _href(job, base, name), "type": kind}
        elif "value" in result:
            document[name] = result["value"]
        else:
            document[name] = {"mediaType": kind, **_inline(kind, content_of(result, folder))}
    return document


def _inline(kind: str, content: bytes) -> dict[str, Any]:
    if kind.endswith("json"):
        return {"value": json.loads(content)}
    if kind in _TEXT:
        return {"value": content.decode()}
    return {"value": base64.b64encode(content).decode(), "encoding": "base64"}


def _check_size(job: Job, folder: Path) -> None:
    files = [
        folder / result["file"]
        for name, result in job.results.items()
        if "file" in result and _mode(job, name) == "value"
    ]
    size = sum(file.stat().st_size for file in files)
    if size > MOST_INLINE:
        hint = 'request large outputs by reference: {"transmissionMode": "reference"}'
        raise TooLarge("the size of the outputs by value in bytes", size, MOST_INLINE, hint=hint)


def _whole(job: Job, name: str, folder: Path) -> Response:
    result, kind = job.results[name], OUTPUT_TYPES[name]
    if "file" in result:
        return FileResponse(folder / result["file"], 200, FRESH, kind, filename=result["file"])
    return Response(content_of(result, folder), 200, FRESH, kind)


def _multipart(job: Job, base: str, folder: Path) -> Response:
    """Every output a part (RFC 2387), named by its Content-ID; one by reference is empty."""
    _check_size(job, folder)
    boundary, parts = secrets.token_hex(16), b""
    for name, result in job.results.items():
        head = [f"Content-ID: <{name}>", f"Content-Type: {OUTPUT_TYPES[name]}"]
        content = b""
        if _mode(job, name) == "reference":
            head.append(f"Content-Location: {_href(job, base, name)}")
        else:
            content = content_of(result, folder)
        parts += f"--{boundary}\r\n".encode() + "\r\n".join(head).encode() + b"\r\n\r\n"
        parts += content + b"\r\n"
    parts += f"--{boundary}--\r\n".encode()
    first = next(iter(job.results))
    kind = f'multipart/related; boundary={boundary}; start="<{first}>"'
    kind += f'; type="{OUTPUT_TYPES[first].partition(";")[0]}"'
    return Response(parts, 200, {**FRESH, "content-type": kind})
