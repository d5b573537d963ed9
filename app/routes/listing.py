"""Query parameters of lists: how many, from where on, and which (OGC API Processes 1.0, 7.12)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import Request

from app.errors import InvalidRequest
from app.jobs.job import ALLOWED, PROCESSES, JobFilter

MOST = 1000
"""Entries of one page; who asks for more gets as many."""

USUAL = 100

_LARGEST = 1 << 31
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2}))?", re.I)


def _parameter(name: str, description: str, **schema: object) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _list(name: str, description: str, values: tuple[str, ...]) -> dict[str, Any]:
    items = {"type": "string", "enum": list(values)}
    shape = _parameter(name, description, type="array", items=items)
    return {**shape, "style": "form", "explode": False}


_PAGE = [
    _parameter("limit", f"entries of a page; at most {MOST}", type="integer", minimum=1,
               default=USUAL),
    _parameter("offset", "entries to skip", type="integer", minimum=0, default=0),
]  # fmt: skip
PAGE_QUERY = {"parameters": _PAGE}
JOBS_QUERY = {
    "parameters": [
        _list("type", "kind of jobs", ("process",)),
        _list("processID", "jobs of these processes", PROCESSES),
        _list("status", "jobs of these statuses", tuple(ALLOWED)),
        _parameter("datetime", "when they were created: an RFC 3339 instant, a day, or an interval "
                   "such as `2026-01-01/..`", type="string"),
        _parameter("minDuration", "seconds that they ran, at least", type="integer", minimum=0),
        _parameter("maxDuration", "seconds that they ran, at most", type="integer", minimum=0),
        *_PAGE,
    ]
}  # fmt: skip


def page_of(request: Request) -> tuple[int, int]:
    """Return (limit, offset); InvalidRequest."""
    limit = _number(request, "limit", 1)
    offset = _number(request, "offset", 0)
    return min(USUAL if limit is None else limit, MOST), offset or 0


def page_links(request: Request, total: int) -> list[dict[str, str]]:
    """Return the links of a page of `total` entries: itself, and the next and previous one."""
    limit, offset = page_of(request)
    address = f"{request.base_url}{request.url.path.removeprefix(_root(request)).lstrip('/')}"

    def link(rel: str, start: int | None) -> dict[str, str]:
        pairs = list(request.query_params.multi_items())
        if start is not None:
            pairs = [(name, value) for name, value in pairs if name not in ("limit", "offset")]
            pairs += [("limit", str(limit)), ("offset", str(start))]
        query = f"?{urlencode(pairs)}" if pairs else ""
        return {"rel": rel, "href": f"{address}{query}", "type": "application/json"}

    links = [link("self", None)]
    if offset + limit < total:
        links.append(link("next", offset + limit))
    if offset:
        links.append(link("prev", max(0, offset - limit)))
    return links


def jobs_query(request: Request, client: str | None) -> JobFilter:
    """Return which jobs a request lists, of all clients or of one; InvalidRequest."""
    _choices(request, "type", ("process",))
    begin, end = _interval(request.query_params.get("datetime", ""))
    return JobFilter(
        client,
        _choices(request, "processID", PROCESSES),
        _choices(request, "status", tuple(ALLOWED)),
        begin,
        end,
        _number(request, "minDuration", 0),
        _number(request, "maxDuration", 0),
    )


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))


def _number(request: Request, name: str, least: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,18}", text) or int(text) < least:
        raise InvalidRequest(name, text, f"a whole number from {least} on")
    return min(int(text), _LARGEST)


def _choices(request: Request, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    texts = [part for text in request.query_params.getlist(name) for part in text.split(",")]
    for text in texts:
        if text not in known:
            raise InvalidRequest(name, text, f"some of {', '.join(known)}")
    return tuple(dict.fromkeys(texts))


def _interval(text: str) -> tuple[float | None, float | None]:
    """Return the ends of an RFC 3339 interval or instant, seconds since 1970; None: open."""
    if not text:
        return None, None
    first, slash, last = text.partition("/")
    begin, end = _instant(first, text), _instant(last if slash else first, text, end=True)
    if begin is None and end is None:
        raise InvalidRequest("datetime", text, "an instant, or an interval with an end")
    if begin is not None and end is not None and begin > end:
        raise InvalidRequest("datetime", text, "an interval that begins before it ends")
    return begin, end


def _instant(text: str, whole: str, *, end: bool = False) -> float | None:
    if text in ("", ".."):
        return None
    expected = "an RFC 3339 instant, a day, or an interval such as 2026-01-01/.."
    if not _INSTANT.fullmatch(text):
        raise InvalidRequest("datetime", whole, expected)
    try:
        moment = datetime.fromisoformat(text.upper())
        if moment.tzinfo is None:
            day_end = timedelta(days=1) - timedelta(microseconds=1)
            moment = moment.replace(tzinfo=UTC) + (day_end if end else timedelta())
        return moment.timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("datetime", whole, expected) from error
