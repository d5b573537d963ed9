"""One request of a range, and what its answer says: data, another file, not now, not like this."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass

import httpx2

from app.errors import SourceUnavailable
from app.imagery.access import Access
from app.imagery.segments import Range
from app.imagery.traffic import Traffic

_AGAIN = frozenset({429, 500, 502, 503, 504})
_UNAUTHORIZED = frozenset({401, 403, 409})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

# It logs every address it asks, signature and all.
logging.getLogger("httpx2").addFilter(lambda record: record.levelno >= logging.WARNING)


@dataclass(frozen=True, slots=True)
class Stat:
    """A file as its server describes it; `etag` is empty when it gives none."""

    length: int
    etag: str

    @property
    def identity(self) -> str:
        """What changes when the content does."""
        return f"{self.length}-{self.etag}"


class Changed(SourceUnavailable):
    """The file is not the one it was."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "the file changed while it was being served")


class Again(Exception):
    """An answer that may be another next time."""

    def __init__(self, reason: str, *, after: float = 0, slow: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.slow = slow


class Unauthorized(Exception):
    """401, 403 or 409: a signature or credentials are missing, or have run out."""


class Exchange:
    """Requests to one server or bucket, each signed anew and counted. Safe from several threads."""

    def __init__(
        self, access: Access, traffic: Traffic, request_s: float, connections: int
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
    ) -> tuple[bytes, Stat]:
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
            raise Again("no answer within the time a read may take", slow=True)
        patience = min(self._request_s, left)
        timeout = httpx2.Timeout(patience, connect=min(3.0, patience))
        self._traffic.add(requests=1)
        body = bytearray()
        try:
            with self._client.stream(
                "GET", address.url, headers=dict(address.headers), timeout=timeout
            ) as answer:
                if answer.status_code == 412 and etag:
                    raise Changed(name)
                _check_status(answer, name)
                stat, expected = _described(answer, part, name)
                if etag and stat.etag != etag:
                    raise Changed(name)
                for piece in answer.iter_raw():
                    body += piece
                    self._traffic.add(nbytes=len(piece))
                    if time.monotonic() > deadline:
                        raise Again("no answer within the time a read may take", slow=True)
                    if len(body) > expected:
                        raise Again("the answer is longer than it says")
        except httpx2.TimeoutException:
            raise Again("the server does not answer in time", slow=True) from None
        except httpx2.HTTPError as error:
            # Its text may hold the address, and that a signature.
            raise Again(f"the connection failed ({type(error).__name__})") from None
        if len(body) < expected:
            raise Again("the answer ends early")
        return bytes(body), stat


def _check_status(answer: httpx2.Response, name: str) -> None:
    status = answer.status_code
    if status in _AGAIN:
        raise Again(f"the server answers {status}", after=_retry_after(answer))
    if status in _UNAUTHORIZED:
        raise Unauthorized(f"the server answers {status}: it needs other credentials")
    if status in (404, 410):
        raise SourceUnavailable(name, "the file has vanished")
    if status not in (200, 206):
        raise SourceUnavailable(name, f"the server answers {status}")


def _described(answer: httpx2.Response, part: Range, name: str) -> tuple[Stat, int]:
    """What an answer says of the file, and how many bytes it must have."""
    etag = answer.headers.get("etag", "") or answer.headers.get("last-modified", "")
    if answer.status_code == 200:
        length = int(answer.headers.get("content-length", -1))
        if part[0] or not 0 <= length <= part[1]:
            raise SourceUnavailable(name, "the server does not answer byte ranges")
        return Stat(length, etag), length
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if match is None:
        raise Again("the answer does not say which bytes it holds")
    first, last, length = map(int, match.groups())
    if first != part[0] or last != min(sum(part), length) - 1:
        raise Again("the answer holds other bytes than were asked for")
    return Stat(length, etag), last - first + 1


def _retry_after(answer: httpx2.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdigit() else 0.0
