"""What can go wrong on purpose. Pure: nothing here knows HTTP (app.routes.problems does).

LandcoverError
├── InvalidRequest      a value of the client is malformed or out of range
│   └── InvalidArea     a polygon, or the GeoJSON it comes in, that cannot be used
├── UnknownName         a source, model, colormap … that is not configured
├── TooLarge            the answer would exceed a limit
├── Busy                the queue is full; worth trying again
├── QuotaExceeded       one client's share is used up; others are still served
├── AccessDenied        something that needs a key
├── StorageUnavailable  a directory of the service cannot be read or written
│   └── StorageFull     … because there is no room
├── DeadlineExceeded    the answer took longer than allowed
├── SourceUnavailable   imagery that should be there cannot be read
│   └── SourceTooSlow   … within the time a read may take
└── ConfigurationError  the operator's settings cannot work
"""

import errno
import math
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit, urlunsplit


class LandcoverError(Exception):
    """Base of everything this package raises on purpose."""


class InvalidRequest(LandcoverError):
    """A value of the client is malformed or out of range."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        shown = str(value)
        # The middle of what is long goes: a path is told by its end.
        shown = shown if len(shown) <= 80 else f"{shown[:20]}...{shown[-57:]}"
        super().__init__(f"{field}={shown!r}: {expected} expected")
        self.field = field
        self.value = shown
        self.expected = expected


class InvalidArea(InvalidRequest):
    """A polygon, or its GeoJSON, that cannot be used; `hint`: what may have happened."""

    def __init__(self, field: str, value: object, expected: str, hint: str = "") -> None:
        super().__init__(field, value, expected)
        self.hint = hint


class UnknownName(LandcoverError):
    """A source, model, colormap … that is not configured."""

    def __init__(self, field: str, value: object, known: Iterable[str]) -> None:
        self.field = field
        self.value = str(value)[:80]
        self.known = sorted(known)
        super().__init__(f"no {field} {self.value!r}; known: {', '.join(self.known) or 'none'}")


class TooLarge(LandcoverError):
    """The answer would exceed a limit. `estimate`: what it would take, where that is known."""

    def __init__(
        self,
        what: str,
        value: float,
        limit: float,
        estimate: Mapping[str, object] | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(f"{what} is {value:.10g}, the limit is {limit:.10g}")
        self.limit = limit
        self.estimate = estimate
        self.hint = hint


class Busy(LandcoverError):
    """The queue is full; worth trying again after `retry_after` seconds."""

    def __init__(
        self, waiting: int, limit: int, retry_after: int, what: str = "blocks are in work"
    ) -> None:
        super().__init__(f"{waiting} {what}, the limit is {limit}")
        self.retry_after = retry_after


class QuotaExceeded(LandcoverError):
    """One client's share is used up; others are still served."""

    def __init__(self, what: str, value: float, limit: float, retry_after: int) -> None:
        """`retry_after`: seconds until it is worth trying again."""
        super().__init__(f"{what}: {value:.10g}, the limit is {limit:.10g}")
        self.value = value
        self.limit = limit
        self.retry_after = retry_after


class AccessDenied(LandcoverError):
    """Something that needs a key; `known`: whether such a key exists at all."""

    def __init__(self, message: str, *, known: bool = True) -> None:
        super().__init__(message)
        self.known = known


class StorageUnavailable(LandcoverError):
    """A directory of the service cannot be read or written; worth trying again later."""

    retry_after = 60


class StorageFull(StorageUnavailable):
    """There is no room for what is to be written."""


def storage_error(what: object, error: OSError) -> StorageUnavailable:
    """Return what an error of the operating system about `what` means for clients."""
    kind = StorageFull if error.errno in _FULL else StorageUnavailable
    return kind(f"{what}: {error.strerror or error}")


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DeadlineExceeded(LandcoverError):
    """The answer took longer than allowed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s")


class SourceUnavailable(LandcoverError):
    """Imagery that should be there cannot be read. Never a class, never cached."""

    def __init__(
        self, scene_id: str, reason: str, *, retry_after: float = 5, whole_source: bool = False
    ) -> None:
        """`retry_after`: seconds; `whole_source`: other scenes of the source would fail alike."""
        super().__init__(f"scene {scene_id}: {reason}")
        self.scene_id = scene_id
        self.reason = reason
        self.retry_after = max(1, math.ceil(retry_after))
        self.whole_source = whole_source


class SourceTooSlow(SourceUnavailable):
    """Imagery that does not come within the time a read may take."""


class ConfigurationError(LandcoverError):
    """The operator's settings cannot work."""


def without_query(url: str) -> str:
    """Return the address without query, fragment and user: what may be shown and logged."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid address"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
