"""Which dates of acquisition a request accepts.

`latest` is every date there is, newest first at each place. A year or an interval contains only
what was acquired in it; what that leaves open is filled from older imagery on request (`older`).
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date

from app.errors import InvalidRequest

_MOMENT = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T[0-9:.]+(?:Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class TemporalFilter:
    """The days `start`..`end`, both included, ISO 8601 (`2018-01-01`); empty: open.

    `older`: imagery from before `start` may fill what the interval leaves open.
    """

    start: str = ""
    end: str = ""
    older: bool = False

    @classmethod
    def of_year(cls, year: int, older: bool = False) -> TemporalFilter:
        """Return the days of one year."""
        return cls(f"{year:04d}-01-01", f"{year:04d}-12-31", older)

    @property
    def is_latest(self) -> bool:
        """Whether it is every date."""
        return not self.start and not self.end

    @property
    def text(self) -> str:
        """As a client names it: `latest`, a year, or an interval (`..` is open)."""
        if self.is_latest:
            return "latest"
        year = self.start[:4]
        if (self.start, self.end) == (f"{year}-01-01", f"{year}-12-31"):
            return year
        return f"{self.start or '..'}/{self.end or '..'}"

    def contains(self, acquired: str) -> bool:
        """Return whether a date shares a day with the interval.

        `acquired`: `2017-09-03`, `2017` (somewhen in that year) or empty (unknown: contained only
        when both ends are open).
        """
        if self.is_latest:
            return True
        if not acquired:
            return False
        first, last = days_of(acquired)
        return (not self.end or first <= self.end) and (not self.start or last >= self.start)

    def accepts(self, acquired: str) -> bool:
        """Return whether imagery of that date may be shown: contained, or older as a fill."""
        if self.contains(acquired):
            return True
        return self.older and bool(acquired) and bool(self.start) and acquired < self.start


LATEST = TemporalFilter()


def parse_interval(text: str) -> TemporalFilter:
    """Return the filter of an OGC datetime: `2019`, `2019-07`, `2019-07-04`, RFC 3339, or two of
    them with a slash between, `..` or nothing for an open end; InvalidRequest for anything else."""
    parts = text.strip().split("/")
    if len(parts) > 2 or not any(part not in ("", "..") for part in parts):
        raise _not_a_date(text)
    start = "" if parts[0] in ("", "..") else _days(parts[0], text)[0]
    end = "" if parts[-1] in ("", "..") else _days(parts[-1], text)[1]
    if start and end and start > end:
        raise InvalidRequest("datetime", text, "a start before its end")
    return TemporalFilter(start, end)


def days_of(acquired: str) -> tuple[str, str]:
    """Return the first and the last day that a date of any precision (`2017`, `2017-09`) may
    mean."""
    if len(acquired) >= len("2017-09-03"):
        return acquired[:10], acquired[:10]
    year, month = acquired[:4], acquired[5:7]
    if month:
        return f"{year}-{month}-01", f"{year}-{month}-{monthrange(int(year), int(month))[1]}"
    return f"{year}-01-01", f"{year}-12-31"


def _days(moment: str, text: str) -> tuple[str, str]:
    match = _MOMENT.fullmatch(moment)
    if match is None:
        raise _not_a_date(text)
    try:
        date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    except ValueError as error:
        raise _not_a_date(text) from error
    return days_of("-".join(part for part in match.groups() if part))


def _not_a_date(text: str) -> InvalidRequest:
    return InvalidRequest("datetime", text, "a date, or two with a slash between (`..`: open),")
