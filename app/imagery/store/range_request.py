"""One request of a range, and what its answer says: data, another file, not now, not like this."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import httpx2

from app.errors import SourceUnavailable
from app.imagery.store.range_cache import Range

_AGAIN = frozenset({429, 500, 502, 503, 504})
_UNAUTHORIZED = frozenset({401, 403, 409})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

# It logs every address it asks, signature and all.
logging.getLogger("httpx2").addFilter(lambda record: record.levelno >= logging.WARNING)


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """A file as its server describes it; `etag` is empty when it gives none."""

    length: int
    etag: str

    @property
    def identity(self) -> str:
        """What changes when the content does."""
        return f"{self.length}-{self.etag}"


class FileChanged(SourceUnavailable):
    """The file is not the one it was."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "the file changed while it was being served")


class TransientError(Exception):
    """An answer that may be another next time."""

    def __init__(self, reason: str, *, after: float = 0, slow: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.slow = slow


class Unauthorized(Exception):
    """401, 403 or 409: a signature or credentials are missing, or have run out."""


class RangeRequest:
    """Requests to one server or bucket, each signed anew and counted. Safe from several threads."""

    def __init__(
        self, access: Authenticator, traffic: TransferStats, request_s: float, connections: int
    ) -> None:
        """`request_s`: longest silence within a request; `connections`: kept for the next one."""
        self._access, self._traffic, self._request_s = access, traffic, request_s
        self._client = httpx2.Client(
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=2 * connections),
            headers={"user-agent": "landcover", "accept-encoding": "identity"},
            # A redirect leads where the operator did not point.
            follow_redirects=False,
        )

    def close(self) -> None:
        """Ends the connections."""
        self._client.close()

    def get(
        self, href: str, name: str, part: Range, etag: str, deadline: float, *, renew: bool
    ) -> tuple[bytes, ObjectStat]:
        """The bytes of one range of the file with that entity tag (empty: any).

        `renew`: with fresh credentials. Changed when it is another file; Again when another try
        may help; Unauthorized when other credentials may; SourceUnavailable when nothing will.
        """
        offset, size = part
        headers = {"range": f"bytes={offset}-{offset + size - 1}"}
        if etag.startswith('"'):
            headers["if-match"] = etag
        address = self._access.address(href, headers, renew=renew)
        left = deadline - time.monotonic()
        if left <= 0:
            raise TransientError("no answer within the time a read may take", slow=True)
        patience = min(self._request_s, left)
        timeout = httpx2.Timeout(patience, connect=min(3.0, patience))
        self._traffic.add(requests=1)
        body = bytearray()
        try:
            with self._client.stream(
                "GET", address.url, headers=dict(address.headers), timeout=timeout
            ) as answer:
                if answer.status_code == 412 and etag:
                    raise FileChanged(name)
                _check_status(answer, name)
                stat, expected = _described(answer, part, name)
                if etag and stat.etag != etag:
                    raise FileChanged(name)
                for piece in answer.iter_raw():
                    body += piece
                    self._traffic.add(nbytes=len(piece))
                    if time.monotonic() > deadline:
                        raise TransientError("no answer within the time a read may take", slow=True)
                    if len(body) > expected:
                        raise TransientError("the answer is longer than it says")
        except httpx2.TimeoutException:
            raise TransientError("the server does not answer in time", slow=True) from None
        except httpx2.HTTPError as error:
            # Its text may hold the address, and that a signature.
            raise TransientError(f"the connection failed ({type(error).__name__})") from None
        if len(body) < expected:
            raise TransientError("the answer ends early")
        return bytes(body), stat


def _check_status(answer: httpx2.Response, name: str) -> None:
    status = answer.status_code
    if status in _AGAIN:
        raise TransientError(f"the server answers {status}", after=_retry_after(answer))
    if status in _UNAUTHORIZED:
        raise Unauthorized(f"the server answers {status}: it needs other credentials")
    if status in (404, 410):
        raise SourceUnavailable(name, "the file has vanished")
    if status not in (200, 206):
        raise SourceUnavailable(name, f"the server answers {status}")


def _described(answer: httpx2.Response, part: Range, name: str) -> tuple[ObjectStat, int]:
    """What an answer says of the file, and how many bytes it must have."""
    etag = answer.headers.get("etag", "") or answer.headers.get("last-modified", "")
    if answer.status_code == 200:
        length = int(answer.headers.get("content-length", -1))
        if part[0] or not 0 <= length <= part[1]:
            raise SourceUnavailable(name, "the server does not answer byte ranges")
        return ObjectStat(length, etag), length
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if match is None:
        raise TransientError("the answer does not say which bytes it holds")
    first, last, length = map(int, match.groups())
    if first != part[0] or last != min(sum(part), length) - 1:
        raise TransientError("the answer holds other bytes than were asked for")
    return ObjectStat(length, etag), last - first + 1


def _retry_after(answer: httpx2.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdigit() else 0.0


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What one request is sent to. Never shown: it may hold a signature."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Authenticator(Protocol):
    """The way to the files of one source. Called from several threads at once."""

    def address(
        self, href: str, headers: Mapping[str, str], *, renew: bool = False
    ) -> SignedRequest:
        """Where to send a GET for `href` now, with `headers` (Range, If-Match …) among those sent.

        `renew`: the last such request was refused (401, 403 or 409): whatever was remembered for
        it is dropped first. Asked with `renew` at most once for a read. SourceUnavailable when no
        address can be had (a token service that is down, credentials that are missing).
        """
        ...


class Plain:
    """`https://` as it is."""

    def address(
        self, href: str, headers: Mapping[str, str], *, renew: bool = False
    ) -> SignedRequest:
        """The href itself; `renew` changes nothing."""
        del renew
        return SignedRequest(href, headers)


@dataclass(slots=True)
class TransferStats:
    """Counters that only grow. `requests` holds every request sent, `retries` those sent again;
    `bytes` of bodies received; `failures` reads that ended without data."""

    requests: int = 0
    bytes: int = 0
    retries: int = 0
    failures: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(
        self, *, requests: int = 0, nbytes: int = 0, retries: int = 0, failures: int = 0
    ) -> None:
        """Adds to the counters; safe from several threads."""
        with self._lock:
            self.requests += requests
            self.bytes += nbytes
            self.retries += retries
            self.failures += failures
