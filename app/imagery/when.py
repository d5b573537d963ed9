"""When: the dates of acquisition that are asked for.

`latest` is every date there is, newest first at each place. A year or an interval holds only what
was acquired in it; what that leaves open is filled from older imagery on request (`older`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class When:
    """The days `start`..`end`, both included, ISO 8601 (`2018-01-01`); empty: open.

    `older`: imagery from before `start` may fill what the interval leaves open.
    """

    start: str = ""
    end: str = ""
    older: bool = False

    @classmethod
    def of_year(cls, year: int, older: bool = False) -> When:
        """The days of one year."""
        return cls(f"{year:04d}-01-01", f"{year:04d}-12-31", older)

    @property
    def is_latest(self) -> bool:
        """Whether it is every date there is."""
        return not self.start and not self.end

    def holds(self, acquired: str) -> bool:
        """Whether a date shares a day with the interval.

        `acquired`: `2017-09-03`, `2017` (somewhen in that year) or empty (unknown: held only when
        both ends are open).
        """
        if self.is_latest:
            return True
        if not acquired:
            return False
        first, last = days_of(acquired)
        return (not self.end or first <= self.end) and (not self.start or last >= self.start)

    def admits(self, acquired: str) -> bool:
        """Whether imagery of that date may be shown: held, or older where older fills."""
        if self.holds(acquired):
            return True
        return self.older and bool(acquired) and bool(self.start) and acquired < self.start


LATEST = When()


def days_of(acquired: str) -> tuple[str, str]:
    """The first and the last day an ISO 8601 date of any precision may mean."""
    first = acquired + "-01-01"[len(acquired) - 4 :] if len(acquired) < 10 else acquired
    last = acquired + "-12-31"[len(acquired) - 4 :] if len(acquired) < 10 else acquired
    return first, last
