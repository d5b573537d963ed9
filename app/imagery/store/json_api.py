"""Requests to JSON services on the web, of bounded length.

A thread that serves a tile waits for the answer: attempts, the time of each and of all together
are limited, and a `Retry-After` that would exceed them is handed to the caller instead of slept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import httpx2

from app.errors import without_query
from app.imagery.store import LARGEST
from app.imagery.store.reach import Reach, ReachTransport
from app.resilience import OutOfReach, RetryPolicy, ServiceError, http_date, retry_after

Headers = Mapping[str, str]
Body = Mapping[str, Any]

POLICY = RetryPolicy(attempts=3, attempt_s=4, total_s=12)
PROBE = RetryPolicy(attempts=1, attempt_s=2.5, total_s=2.5)
"""Of a service that failed: asked again soon."""


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
        policy: RetryPolicy = POLICY,
        reach: Reach | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        client: httpx2.Client | None = None,
    ) -> None:
        """`reach`: what may be requested; nothing when it is not given. `client`: of another
        JsonApi with the same reach, whose connections are shared."""
        self._policy = policy
        self._reach = reach or Reach()
        self._sleep = sleep
        self._clock = clock
        # Redirects are not followed: an address in the configuration is the address requested.
        # Requests are rare: no connection is kept between them, none is left open at the end.
        self._client = client or httpx2.Client(
            transport=ReachTransport(self._reach), follow_redirects=False
        )

    @property
    def brief(self) -> JsonApi:
        """Return a client that asks once and does not wait long: for probes."""
        options = {"sleep": self._sleep, "clock": self._clock, "client": self._client}
        return JsonApi(PROBE, self._reach, **options)  # type: ignore[arg-type]

    def refusal(self, url: str) -> str | None:
        """Return why an address is not requested and what allows it, None when it is."""
        return self._reach.refusal(url)

    def get(self, url: str, headers: Headers | None = None) -> Answer:
        """Return the answer to GET; ApiError."""
        return self._request("GET", url, None, headers or {})

    def post(self, url: str, body: Body, headers: Headers | None = None) -> Answer:
        """Return the answer to POST of a JSON body; ApiError."""
        return self._request("POST", url, body, headers or {})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _request(self, method: str, url: str, body: Body | None, headers: Headers) -> Answer:
        if (refusal := self.refusal(url)) is not None:
            raise OutOfReach(f"{without_query(url)}: {refusal}")
        attempt = partial(self._once, method, url, body, headers)
        return self._policy.run(attempt, sleep=self._sleep, clock=self._clock)

    def _once(
        self, method: str, url: str, body: Body | None, headers: Headers, ends: float
    ) -> Answer:
        """Send one request; the body is read piecewise so that `ends` bounds it as a whole."""
        content = bytearray()
        silence_s = self._policy.attempt_s
        timeout = httpx2.Timeout(silence_s, connect=min(3.0, silence_s))
        try:
            with self._client.stream(
                method, url, json=body, headers=dict(headers), timeout=timeout
            ) as response:
                status = response.status_code
                if status >= 300:
                    reason = f"answered {status} {_phrase(status)}".rstrip()
                    wait = retry_after(response.headers)
                    raise ApiError(url, reason, status=status, retry_after=wait)
                for piece in response.iter_bytes():
                    content += piece
                    if len(content) > LARGEST:
                        reason = f"sent more than {LARGEST // 1_000_000} MB"
                        raise ApiError(url, reason, status=status)
                    if self._clock() > ends:
                        raise ApiError(url, "is too slow", timed_out=True)
                date = http_date(response.headers.get("date", ""))
        except httpx2.TimeoutException:
            raise ApiError(url, "does not answer in time", timed_out=True) from None
        except httpx2.HTTPError as error:
            raise ApiError(url, f"cannot be reached: {type(error).__name__}") from None
        except httpx2.InvalidURL:
            raise ApiError(url, "is not an address", status=400) from None
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
