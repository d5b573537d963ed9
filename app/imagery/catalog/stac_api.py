"""The catalog of a STAC API: searched where ground is requested, remembered by tile.

A tile is an eighth of a degree, some 14 × 11 km at 40° N: four quarter quads and their neighbors.
It holds every date, so that any year, interval or `latest` is answered from one search.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from app.errors import SourceUnavailable, TooLarge, without_query
from app.grid.pixel_grid import LONLAT, Bounds, PixelGrid, bounds_between
from app.imagery.catalog.index import SkippedFile
from app.imagery.catalog.stac_items import StacApi, scenes_in
from app.imagery.catalog.temporal import TemporalFilter
from app.imagery.scene import ReadOptions, Scene
from app.resilience import CircuitBreaker, CircuitOpen, ServiceError

WORLD: Bounds = (-180.0, -90.0, 180.0, 90.0)
PER_DEGREE = 8
MOST_TILES = 1024
"""156,000 km² at 40° N: more than Alabama; some 30,000 NAIP scenes."""
GRACE_S = 300.0
"""A tile requested more recently is not dropped, whatever the number: somebody may rely on it."""
LONGEST_RUN = 16
MARGIN = 0.005
"""Degrees around a tile that are searched too: an image's rectangle reaches beyond the outline
its item gives, by the corners of its frame."""
REACH = 0.02
"""Degrees around a request that are loaded with it: the blocks under a map tile, and their halo,
reach beyond it by up to 700 m."""
DAY_S = 86_400.0
RENEWED_AT_ONCE = 8
REST_S = 4.0
"""After a failed search the API is left alone for so long, or until a probe finds it back, and
requests fail at once."""

Answer = TypeVar("Answer")
Key = tuple[int, int]
"""A tile: (column eastwards from 180° W, row northwards from 90° S)."""

log = logging.getLogger("landcover.imagery")


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search gave for a tile. `at`: when, seconds since 1970, as it outlives the process."""

    scenes: tuple[Scene, ...]
    skipped: tuple[SkippedFile, ...]
    at: float


class TileIndex:
    """The tiles in memory, the least recently requested dropped first; used by any thread."""

    def __init__(
        self,
        most: int = MOST_TILES,
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._grace_s = grace_s
        self._clock = clock
        self._lock = threading.Lock()
        self._results: OrderedDict[Key, SearchResult] = OrderedDict()
        self._requested: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._results)

    def get(self, key: Key) -> SearchResult | None:
        """Return what is known of a tile."""
        with self._lock:
            result = self._results.get(key)
            if result is not None:
                self._results.move_to_end(key)
                self._requested[key] = self._clock()
            return result

    def put(self, key: Key, result: SearchResult) -> SearchResult | None:
        """Remember a tile; return what was known of it before, or None."""
        with self._lock:
            before = self._results.get(key)
            self._results[key] = result
            self._requested.setdefault(key, self._clock())
            while len(self._results) > self._most:
                oldest = next(iter(self._results))
                if self._clock() - self._requested[oldest] < self._grace_s:
                    break
                del self._results[oldest], self._requested[oldest]
            return before

    def drop(self, key: Key) -> None:
        """Forget a tile."""
        with self._lock:
            self._results.pop(key, None)
            self._requested.pop(key, None)

    def older_than(self, at: float) -> list[tuple[Key, float]]:
        """Return the tiles searched before `at`, oldest first, and the seconds since the last
        request for each."""
        with self._lock:
            now = self._clock()
            old = [(result.at, key) for key, result in self._results.items() if result.at < at]
            return [(key, now - self._requested[key]) for _, key in sorted(old)]

    def all(self) -> list[SearchResult]:
        """Return everything known."""
        with self._lock:
            return list(self._results.values())


class StacApiCatalog:
    """The scenes a STAC API lists, as far as they were requested (a Catalog)."""

    def __init__(
        self,
        source_id: str,
        api: StacApi,
        reading: ReadOptions,
        *,
        asset: str = "",
        bounds: Bounds | None = None,
        expires_s: float = DAY_S,
        tiles: TileIndex | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Request the API's collection; one that is unavailable is requested again by `refresh`."""
        self.generation = 0
        self._id = source_id
        self._api = api
        self._reading = reading
        self._asset = asset
        self._given_bounds = bounds
        self._expires_s = expires_s
        self._tiles = tiles if tiles is not None else TileIndex()
        self._wall_clock = wall_clock
        self._searching = threading.Lock()
        self._missed: str | None = None
        self._failed_run: list[Key] = []
        self._circuit = CircuitBreaker(1, REST_S, clock)
        self._collection: dict[str, Any] | None = None
        try:
            self._collection = api.collection()
        except ServiceError as error:
            self._missed = str(error)
            log.warning("source %s: %s", source_id, error)

    @property
    def unavailable(self) -> str | None:
        """What the API said last instead of an answer."""
        return self._circuit.reason if self._circuit.is_open else self._missed

    def is_loaded(self, bounds: Bounds, when: TemporalFilter) -> bool:
        """Return whether every tile under `bounds` has been searched, for every date."""
        del when
        covered = self._covered(bounds, REACH)
        if count_of(covered) > MOST_TILES:
            return False
        return all(self._tiles.get(key) is not None for key in tiles_of(covered))

    def load(self, bounds: Bounds, when: TemporalFilter) -> None:
        """Search the tiles that are not known; SourceUnavailable when the API does not answer,
        TooLarge when the area is more than can be remembered.

        One search at a time: others who wait for the same ground find it loaded.
        """
        if self.is_loaded(bounds, when):
            return
        covered = self._covered(bounds, REACH)
        if count_of(covered) > MOST_TILES:
            area = f"the area to search at source {self._id}, in tiles of 1/8 degree,"
            raise TooLarge(area, count_of(covered), MOST_TILES)
        with self._searching:
            for run in runs_of([key for key in tiles_of(covered) if self._tiles.get(key) is None]):
                self._search(run)

    def search(self, crs: str, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        degrees = bounds_between(crs, LONLAT, bounds)
        return [
            scene
            for scene in self._loaded(degrees)
            if scene.crs == crs and when.accepts(scene.acquired) and _touch(scene.bounds, bounds)
        ]

    def within(self, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        matches = [
            scene
            for crs in {scene.crs for scene in self._loaded(bounds)}
            for scene in self.search(crs, bounds_between(LONLAT, crs, bounds), when)
        ]
        return sorted(matches, key=lambda scene: scene.id)

    def grids(self) -> tuple[PixelGrid, ...]:
        """Return the work grids of the scenes in memory."""
        crs_list = {scene.crs for result in self._tiles.all() for scene in result.scenes}
        return tuple(PixelGrid(crs, self._reading.ground_resolution) for crs in sorted(crs_list))

    @property
    def scenes(self) -> Sequence[Scene]:
        """Every scene in memory."""
        return _distinct(scene for result in self._tiles.all() for scene in result.scenes)

    @property
    def skipped(self) -> Sequence[SkippedFile]:
        """What the searches gave that is not served."""
        skipped = {each.path: each for result in self._tiles.all() for each in result.skipped}
        return tuple(skipped[path] for path in sorted(skipped))

    @property
    def years(self) -> tuple[int, ...]:
        """The years of the collection's extent, and of the scenes in memory."""
        known = {scene.year for result in self._tiles.all() for scene in result.scenes}
        return tuple(sorted((known - {0}) | years_in(self._collection or {}, self._wall_clock())))

    @property
    def lonlat_bounds(self) -> Bounds:
        """What the operator says, else the collection, else the world."""
        return self._given_bounds or bounds_in(self._collection or {}) or WORLD

    def refresh(self) -> None:
        """Request the collection, so that an API that went away is noticed without a search; search
        again what has expired and was requested since; drop the rest of it.

        SourceUnavailable when the API does not answer: everything stays as it was known.
        """
        self._collection = self._guarded(self._api.collection)
        expired = self._tiles.older_than(self._wall_clock() - self._expires_s)
        wanted = [key for key, idle in expired if idle < self._expires_s]
        for key in {key for key, _ in expired} - set(wanted):
            self._tiles.drop(key)
        with self._searching:
            for run in runs_of(wanted[:RENEWED_AT_ONCE]):
                self._search(run)

    def probe(self) -> None:
        """Request once more, and briefly, what the API did not answer: a search, else the
        collection."""
        api, run = self._api.brief, self._failed_run

        def again() -> None:
            if self._collection is None or not run:
                self._collection = api.collection()
            if run:
                self._remember(run, _items(api, run))

        if self._circuit.probe(again):
            self._missed, self._failed_run = None, []

    def _loaded(self, degrees: Bounds) -> tuple[Scene, ...]:
        results = (self._tiles.get(key) for key in tiles_of(self._covered(degrees)))
        return _distinct(scene for result in results if result for scene in result.scenes)

    def _covered(self, bounds: Bounds, reach: float = 0.0) -> Bounds | None:
        """Return the part of `bounds`, `reach` degrees around it included, that the source covers
        at all; elsewhere there is nothing to request."""
        west, south, east, north = self.lonlat_bounds
        left, bottom, right, top = _expanded(bounds, reach) if reach else bounds
        if left > right or west > east:
            return left, bottom, right, top
        covered = (max(left, west), max(bottom, south), min(right, east), min(top, north))
        return covered if covered[0] <= covered[2] and covered[1] <= covered[3] else None

    def _search(self, run: list[Key]) -> None:
        """Search tiles side by side and remember what each of them holds; SourceUnavailable."""
        self._failed_run = run
        self._remember(run, self._guarded(lambda: _items(self._api, run)))
        self._failed_run = []

    def _guarded(self, call: Callable[[], Answer]) -> Answer:
        """Return what the API answers; SourceUnavailable when it does not or is left alone."""
        try:
            with self._circuit.guard():
                answer = call()
        except CircuitOpen as error:
            reason = f"cannot be searched: {error.reason}"
            raise SourceUnavailable(self._id, reason, retry_after=error.wait_s) from error
        except ServiceError as error:
            self._missed = str(error)
            log.warning("source %s: %s", self._id, error)
            after, reason = error.retry_after or 5, f"cannot be searched: {error}"
            raise SourceUnavailable(self._id, reason, retry_after=after) from error
        self._missed = None
        return answer

    def _remember(self, run: list[Key], items: list[object]) -> None:
        named = ((self._api.url, item) for item in items)
        results = list(scenes_in(named, self._reading, self._id, self._asset, self._api.refusal))
        skipped = {each.path: each for each in results if isinstance(each, SkippedFile)}
        listed = tuple(skipped[path] for path in sorted(skipped))
        scenes = _distinct(each for each in results if isinstance(each, Scene))
        boxes = {scene.id: scene.footprint().bounds for scene in scenes}
        for key in run:
            here = bounds_of([key])
            inside = tuple(scene for scene in scenes if _touch(boxes[scene.id], here))
            before = self._tiles.put(key, SearchResult(inside, listed, self._wall_clock()))
            if before is not None and before.scenes != inside:
                self.generation += 1


def _items(api: StacApi, run: list[Key]) -> list[object]:
    """Return what an API lists on some tiles; ServiceError."""
    try:
        return list(api.items(_expanded(bounds_of(run), MARGIN)))
    except (ValueError, RecursionError) as error:
        reason = f"gave a page that makes no sense: {type(error).__name__}"
        raise ServiceError(f"{without_query(api.url)} {reason}") from error


def tiles_of(bounds: Bounds | None) -> list[Key]:
    """Return the tiles that share ground with (west, south, east, north), degrees; west > east
    crosses the antimeridian; None: nothing."""
    if bounds is None:
        return []
    return [
        (column, row) for columns, rows in _ranges(bounds) for row in rows for column in columns
    ]


def count_of(bounds: Bounds | None) -> int:
    """Return how many they are."""
    return sum(len(columns) * len(rows) for columns, rows in _ranges(bounds)) if bounds else 0


def bounds_of(keys: list[Key]) -> Bounds:
    """Return (west, south, east, north) around tiles, degrees."""
    columns, rows = zip(*keys, strict=True)
    return (
        min(columns) / PER_DEGREE - 180,
        min(rows) / PER_DEGREE - 90,
        (max(columns) + 1) / PER_DEGREE - 180,
        (max(rows) + 1) / PER_DEGREE - 90,
    )


def runs_of(keys: list[Key]) -> list[list[Key]]:
    """Return tiles side by side in a row as one list: one search for each."""
    runs: list[list[Key]] = []
    for key in sorted(keys, key=lambda each: (each[1], each[0])):
        last = runs[-1] if runs else None
        if last and last[-1] == (key[0] - 1, key[1]) and len(last) < LONGEST_RUN:
            last.append(key)
        else:
            runs.append([key])
    return runs


def bounds_in(collection: dict[str, Any]) -> Bounds | None:
    """Return the first box of a collection's spatial extent, which holds all others."""
    try:
        box = collection["extent"]["spatial"]["bbox"][0]
        west, south, east, north = box if len(box) == 4 else (box[0], box[1], box[3], box[4])
        bounds = float(west), float(south), float(east), float(north)
    except (LookupError, TypeError, ValueError, OverflowError):
        return None
    return bounds if all(map(math.isfinite, bounds)) else None


def years_in(collection: dict[str, Any], now: float) -> set[int]:
    """Return the years of a collection's temporal extent; an open end is this year."""
    try:
        start, end = collection["extent"]["temporal"]["interval"][0]
        last = int(end[:4]) if end else datetime.fromtimestamp(now, UTC).year
        return set(range(int(start[:4]), last + 1))
    except (LookupError, TypeError, ValueError):
        return set()


def _ranges(bounds: Bounds) -> list[tuple[range, range]]:
    west, south, east, north = bounds
    if west > east:
        return _ranges((west, south, 180.0, north)) + _ranges((-180.0, south, east, north))
    columns = range(_place(west + 180, 360), _place(east + 180, 360) + 1)
    rows = range(_place(south + 90, 180), _place(north + 90, 180) + 1)
    return [(columns, rows)]


def _place(degrees: float, span: int) -> int:
    return min(max(math.floor(degrees * PER_DEGREE), 0), span * PER_DEGREE - 1)


def _expanded(bounds: Bounds, reach: float) -> Bounds:
    """Return `bounds` with `reach` degrees around it, without what lies beyond 180° or a pole."""
    west, south, east, north = bounds
    return (
        max(west - reach, -180.0),
        max(south - reach, -90.0),
        min(east + reach, 180.0),
        min(north + reach, 90.0),
    )


def _touch(one: Bounds, other: Bounds) -> bool:
    """Return whether two boxes (left, bottom, right, top) have a point in common."""
    return one[0] <= other[2] and one[2] >= other[0] and one[1] <= other[3] and one[3] >= other[1]


def _distinct(scenes: Iterable[Scene]) -> tuple[Scene, ...]:
    by_id = {scene.id: scene for scene in scenes}
    return tuple(by_id[name] for name in sorted(by_id))
