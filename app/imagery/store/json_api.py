"""Questions to JSON services on the web, asked with bounded patience.

A thread that serves a tile waits for the answer: attempts, the time of each and of all together
are limited, and a `Retry-After` that would exceed them is handed to the caller instead of slept.
"""

from __future__ import annotations

import email.utils
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx2

from app.errors import without_query
from app.resilience import ServiceError

RETRIED = frozenset({429, 500, 502, 503, 504})
"""Answers that mean: ask again later."""
LARGEST = 64_000_000
"""Bytes of one answer at most; a page of 1,000 STAC items has about 5 MB."""

log = logging.getLogger("landcover.imagery")

# They log whole addresses, and those of files may hold a signature.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long one question may take: attempts in all, seconds of one and of all together."""

    attempts: int = 3
    attempt_s: float = 8.0
    total_s: float = 12.0
    first_pause_s: float = 0.3


class ApiError(ServiceError):
    """No usable answer from a JSON service; the text names its address without the query."""

    def __init__(
        self,
        url: str,
        reason: str,
        *,
        status: int | None = None,
        retry_after: float = 0.0,
        timed_out: bool = False,
    ) -> None:
        reason = f"{without_query(url)} {reason}"
        super().__init__(reason, status=status, retry_after=retry_after, timed_out=timed_out)


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON object and the service's own time in seconds since 1970 (None: not given)."""

    content: dict[str, Any]
    date: float | None


class JsonApi:
    """A client of JSON services; one per source, used by any thread."""

    def __init__(
        self,
        patience: RetryPolicy = RetryPolicy(),
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        timeout = httpx2.Timeout(patience.attempt_s, connect=min(3.0, patience.attempt_s))
        # Redirects are not followed: an address in the configuration is the address that is asked.
        # Questions are rare: no connection is kept between them, none is left open at the end.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._client = httpx2.Client(timeout=timeout, limits=limits, follow_redirects=False)

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """The answer to GET; Unanswered."""
        return self._ask("GET", url, None, headers or {})

    def post(
        self, url: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The answer to POST of a JSON body; Unanswered."""
        return self._ask("POST", url, body, headers or {})

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _ask(
        self, method: str, url: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Answer:
        began = self._clock()
        pause = self._patience.first_pause_s
        attempt = 0
        while True:
            attempt += 1
            left = self._patience.total_s - (self._clock() - began)
            try:
                return self._once(method, url, body, headers, left)
            except ApiError as error:
                wait = max(pause, error.retry_after or 0.0)
                left = self._patience.total_s - (self._clock() - began)
                again = error.status is None or error.status in RETRIED
                if not again or attempt >= self._patience.attempts or wait >= left:
                    raise
                log.info("%s; attempt %d follows in %.1f s", error, attempt + 1, wait)
                self._sleep(wait)
                pause *= 3

    def _once(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        left: float,
    ) -> Answer:
        """One attempt; the body is read piecewise so that `left` seconds bound it as a whole."""
        ends = self._clock() + left
        content = bytearray()
        try:
            with self._client.stream(method, url, json=body, headers=dict(headers)) as response:
                status = response.status_code
                if status >= 300:
                    raise ApiError(
                        url,
                        f"answered {status} {_phrase(status)}".rstrip(),
                        status=status,
                        retry_after=_seconds(response.headers.get("retry-after")) or 0.0,
                    )
                for piece in response.iter_bytes():
                    content += piece
                    if len(content) > LARGEST:
                        raise ApiError(
                            url, f"sent more than {LARGEST // 1_000_000} MB", status=status
                        )
                    if self._clock() > ends:
                        raise ApiError(url, "is too slow", timed_out=True)
                date = _time_of(response.headers.get("date"))
        except httpx2.TimeoutException as error:
            raise ApiError(url, "does not answer in time", timed_out=True) from error
        except httpx2.HTTPError as error:
            raise ApiError(url, f"cannot be reached: {type(error).__name__}") from error
        except httpx2.InvalidURL as error:
            raise ApiError(url, "is not an address", status=400) from error
        try:
            parsed = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ApiError(url, "answered something that is not JSON", status=status) from error
        if not isinstance(parsed, dict):
            raise ApiError(url, "answered JSON that is not an object", status=status)
        return Answer(parsed, date)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _seconds(text: str | None) -> float | None:
    """`Retry-After` as seconds from now: a number, or a date (RFC 9110 §10.2.3)."""
    if text is None:
        return None
    try:
        return max(0.0, float(text)) if text.strip().isdigit() else _until(text)
    except ValueError:
        return None


def _until(text: str) -> float | None:
    at = _time_of(text)
    return None if at is None else max(0.0, at - time.time())


def _time_of(text: str | None) -> float | None:
    """An HTTP date as seconds since 1970."""
    if text is None:
        return None
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
