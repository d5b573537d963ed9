"""Ground already searched: cells of an eighth of a degree and the scenes found on each.

A cell holds every date, so that any year, interval or `latest` is answered from one search. Some
14 × 11 km at 40° N: four quarter quads and their neighbors for every year.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from app.grid.pixel_grid import Bounds
from app.imagery.catalog.index import SkippedFile
from app.imagery.scene import Scene

PER_DEGREE = 8
MOST_CELLS = 1024
"""156,000 km² at 40° N: more than Alabama; some 30,000 NAIP scenes."""
GRACE_S = 300.0
"""A cell asked for more recently is not dropped, whatever the number: somebody may rely on it."""

Cell = tuple[int, int]
"""(column eastwards from 180° W, row northwards from 90° S)."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search of a cell gave. `at`: when, seconds since 1970, as it outlives the process."""

    scenes: tuple[Scene, ...]
    problems: tuple[SkippedFile, ...]
    at: float


class Cells:
    """The cells in memory, the least recently asked for dropped first; used by any thread."""

    def __init__(
        self,
        most: int = MOST_CELLS,
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._grace_s = grace_s
        self._clock = clock
        self._lock = threading.Lock()
        self._found: OrderedDict[Cell, Found] = OrderedDict()
        self._asked: dict[Cell, float] = {}

    def __len__(self) -> int:
        return len(self._found)

    def get(self, cell: Cell) -> Found | None:
        """What is known of a cell."""
        with self._lock:
            found = self._found.get(cell)
            if found is not None:
                self._found.move_to_end(cell)
                self._asked[cell] = self._clock()
            return found

    def put(self, cell: Cell, found: Found) -> Found | None:
        """Remembers a cell; what was known of it before, or None."""
        with self._lock:
            before = self._found.get(cell)
            self._found[cell] = found
            self._asked.setdefault(cell, self._clock())
            while len(self._found) > self._most:
                oldest = next(iter(self._found))
                if self._clock() - self._asked[oldest] < self._grace_s:
                    break
                del self._found[oldest], self._asked[oldest]
            return before

    def drop(self, cell: Cell) -> None:
        """Forgets a cell."""
        with self._lock:
            self._found.pop(cell, None)
            self._asked.pop(cell, None)

    def older_than(self, at: float) -> list[tuple[Cell, float]]:
        """Cells searched before `at`, oldest first, with the seconds since they were asked for."""
        with self._lock:
            now = self._clock()
            found = [(f.at, cell) for cell, f in self._found.items() if f.at < at]
            return [(cell, now - self._asked[cell]) for _, cell in sorted(found)]

    def all(self) -> list[Found]:
        """Everything known."""
        with self._lock:
            return list(self._found.values())


def cells_of(bounds: Bounds | None) -> list[Cell]:
    """The cells that share ground with (west, south, east, north), degrees; west > east crosses
    the antimeridian; None: nothing."""
    if bounds is None:
        return []
    return [
        (column, row) for columns, rows in _ranges(bounds) for row in rows for column in columns
    ]


def count_of(bounds: Bounds | None) -> int:
    """How many they are."""
    return sum(len(columns) * len(rows) for columns, rows in _ranges(bounds)) if bounds else 0


def _ranges(bounds: Bounds) -> list[tuple[range, range]]:
    west, south, east, north = bounds
    if west > east:
        return _ranges((west, south, 180.0, north)) + _ranges((-180.0, south, east, north))
    columns = range(_index(west + 180, 360), _index(east + 180, 360) + 1)
    rows = range(_index(south + 90, 180), _index(north + 90, 180) + 1)
    return [(columns, rows)]


def bounds_of(cells: list[Cell]) -> Bounds:
    """(west, south, east, north) around cells, degrees."""
    columns, rows = zip(*cells, strict=True)
    return (
        min(columns) / PER_DEGREE - 180,
        min(rows) / PER_DEGREE - 90,
        (max(columns) + 1) / PER_DEGREE - 180,
        (max(rows) + 1) / PER_DEGREE - 90,
    )


def runs_of(cells: list[Cell], longest: int = 16) -> list[list[Cell]]:
    """Cells side by side in a row as one list: one search for each."""
    runs: list[list[Cell]] = []
    for cell in sorted(cells, key=lambda each: (each[1], each[0])):
        last = runs[-1] if runs else None
        if last and last[-1] == (cell[0] - 1, cell[1]) and len(last) < longest:
            last.append(cell)
        else:
            runs.append([cell])
    return runs


def _index(value: float, span: int) -> int:
    return min(max(math.floor(value * PER_DEGREE), 0), span * PER_DEGREE - 1)


def touch(one: Bounds, other: Bounds) -> bool:
    """Whether two boxes (left, bottom, right, top) have a point in common."""
    return one[0] <= other[2] and one[2] >= other[0] and one[1] <= other[3] and one[3] >= other[1]


def on_the_globe(bounds: Bounds) -> Bounds:
    """The box without what lies beyond 180 degrees or a pole."""
    west, south, east, north = bounds
    return max(west, -180.0), max(south, -90.0), min(east, 180.0), min(north, 90.0)
