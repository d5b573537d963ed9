"""The far side of a source: its files by byte ranges, within a deadline, counted.

GDAL is given bytes, never an address: signing, deadlines, retries, entity tags and counts are
ours (see app.imagery.ranges).
"""

from __future__ import annotations

from dataclasses import dataclass

from app.imagery.access import Access, Plain


@dataclass(frozen=True, slots=True)
class Limits:
    """`read_s`: longest a read of one scene may take, retries included. `request_s`: longest
    silence within one request. `connections`: requests under way at once."""

    read_s: float = 15.0
    request_s: float = 5.0
    retries: int = 2
    connections: int = 16
    failures: int = 5
    rest_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Stat:
    """A file as its server describes it."""

    length: int
    etag: str

    @property
    def identity(self) -> str:
        """What changes when the content does."""
        return f"{self.length}-{self.etag}"


class Remote:
    """One source's server or bucket."""

    def __init__(
        self, source_id: str, access: Access | None = None, limits: Limits | None = None
    ) -> None:
        self.source_id = source_id
        self.access: Access = access or Plain()
        self.limits = limits or Limits()
