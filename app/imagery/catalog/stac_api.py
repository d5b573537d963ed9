"""The catalog of a STAC API: searched where somebody asks, remembered by cell."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from app.errors import SourceUnavailable, TooLarge
from app.grid.pixel_grid import LONLAT, Bounds, PixelGrid, bounds_between
from app.imagery.catalog.index import SkippedFile
from app.imagery.catalog.stac_items import scene_of_item
from app.imagery.catalog.stac_search import StacApi
from app.imagery.catalog.temporal import TemporalFilter
from app.imagery.catalog.tile_index import (
    MOST_CELLS,
    Cell,
    Cells,
    Found,
    bounds_of,
    cells_of,
    count_of,
    on_the_globe,
    runs_of,
    touch,
)
from app.imagery.scene import ReadOptions, Scene, UnsupportedImage
from app.imagery.store.json_api import ApiError
from app.imagery.store.object_store import ObjectStore

WORLD: Bounds = (-180.0, -90.0, 180.0, 90.0)
MARGIN = 0.005
"""Degrees around a cell that are searched too: an image's rectangle reaches beyond the outline
its item gives, by the corners of its frame."""
REACH = 0.02
"""Degrees around what is asked for that are known with it: the blocks under a tile, and their halo,
reach beyond it by up to 700 m."""
DAY_S = 86_400.0
RENEWED_AT_ONCE = 8
REST_S = 10.0
"""After a failed search the API is left alone for so long; asking is answered at once."""

log = logging.getLogger("landcover.imagery")


class StacApiCatalog:
    """The scenes a STAC API lists, as far as they were asked for (a Catalog)."""

    def __init__(
        self,
        source_id: str,
        api: StacApi,
        reading: ReadOptions,
        remote: ObjectStore,
        *,
        asset: str = "",
        bounds: Bounds | None = None,
        expires_s: float = DAY_S,
        cells: Cells | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Asks the API for its collection; one that is away is asked again by `refresh`."""
        self.generation = 0
        self._id = source_id
        self._api = api
        self._reading = reading
        self._remote = remote
        self._asset = asset
        self._given_bounds = bounds
        self._expires_s = expires_s
        self._cells = cells if cells is not None else Cells()
        self._clock = clock
        self._wall_clock = wall_clock
        self._searching = threading.Lock()
        self._unavailable: str | None = None
        self._rests_until = 0.0
        self._collection: dict[str, Any] | None = None
        self._look_at_collection()

    @property
    def unavailable(self) -> str | None:
        """What the API said last instead of an answer."""
        return self._unavailable

    def knows(self, bounds: Bounds, when: TemporalFilter) -> bool:
        """Whether every cell under `bounds` has been searched; one search is for every date."""
        del when
        covered = self._covered(bounds, REACH)
        if count_of(covered) > MOST_CELLS:
            return False
        return all(self._cells.get(cell) is not None for cell in cells_of(covered))

    def prepare(self, bounds: Bounds, when: TemporalFilter) -> None:
        """Searches the cells that are not known; SourceUnavailable when the API does not answer,
        TooLarge when the area is more than can be remembered.

        One search at a time: others who wait for the same ground find it known.
        """
        if self.knows(bounds, when):
            return
        covered = self._covered(bounds, REACH)
        if count_of(covered) > MOST_CELLS:
            cells = f"the area to search at source {self._id}, in cells of 1/8 degree,"
            raise TooLarge(cells, count_of(covered), MOST_CELLS)
        with self._searching:
            missing = [cell for cell in cells_of(covered) if self._cells.get(cell) is None]
            for run in runs_of(missing):
                if self._clock() < self._rests_until:
                    raise SourceUnavailable(self._id, f"cannot be searched: {self._unavailable}")
                try:
                    self._search(run)
                except ApiError as error:
                    raise SourceUnavailable(self._id, f"cannot be searched: {error}") from error

    def search(self, crs: str, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        """See Catalog."""
        degrees = bounds_between(crs, LONLAT, bounds)
        return [
            scene
            for scene in self._known(degrees)
            if scene.crs == crs and when.accepts(scene.acquired) and touch(scene.bounds, bounds)
        ]

    def within(self, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        """See Catalog."""
        crs_list = {scene.crs for scene in self._known(bounds)}
        found = [
            scene
            for crs in crs_list
            for scene in self.search(crs, bounds_between(LONLAT, crs, bounds), when)
        ]
        return sorted(found, key=lambda scene: scene.id)

    def grids(self) -> tuple[PixelGrid, ...]:
        """The work grids of the scenes in memory."""
        crs_list = {scene.crs for found in self._cells.all() for scene in found.scenes}
        return tuple(PixelGrid(crs, self._reading.ground_resolution) for crs in sorted(crs_list))

    @property
    def scenes(self) -> Sequence[Scene]:
        """Every scene in memory."""
        return _distinct(scene for found in self._cells.all() for scene in found.scenes)

    @property
    def problems(self) -> Sequence[SkippedFile]:
        """What the searches gave that is not served."""
        problems = {p.path: p for found in self._cells.all() for p in found.problems}
        return tuple(problems[path] for path in sorted(problems))

    @property
    def years(self) -> tuple[int, ...]:
        """The years of the collection's extent, and of the scenes in memory."""
        known = {scene.year for found in self._cells.all() for scene in found.scenes if scene.year}
        return tuple(sorted(known | years_in(self._collection or {}, self._wall_clock())))

    @property
    def lonlat_bounds(self) -> Bounds:
        """What the operator says, else the collection, else the world."""
        return self._given_bounds or bounds_in(self._collection or {}) or WORLD

    def refresh(self) -> None:
        """Searches again what has expired and was asked for since; drops the rest of it.

        SourceUnavailable when the API is away: everything stays as it was known.
        """
        if self._collection is None:
            self._look_at_collection()
        expired = self._cells.older_than(self._wall_clock() - self._expires_s)
        wanted = [cell for cell, idle in expired if idle < self._expires_s]
        for cell in {cell for cell, _ in expired} - set(wanted):
            self._cells.drop(cell)
        with self._searching:
            for run in runs_of(wanted[:RENEWED_AT_ONCE]):
                try:
                    self._search(run)
                except ApiError as error:
                    raise SourceUnavailable(self._id, f"cannot be searched: {error}") from error

    def _known(self, degrees: Bounds) -> tuple[Scene, ...]:
        found = (self._cells.get(cell) for cell in cells_of(self._covered(degrees)))
        return _distinct(scene for each in found if each for scene in each.scenes)

    def _covered(self, bounds: Bounds, reach: float = 0.0) -> Bounds | None:
        """The part of `bounds`, `reach` degrees around it included, that the source covers at all;
        elsewhere nothing has to be asked."""
        west, south, east, north = self.lonlat_bounds
        left, bottom, right, top = bounds
        if reach:
            left, bottom, right, top = on_the_globe(
                (left - reach, bottom - reach, right + reach, top + reach)
            )
            bounds = (left, bottom, right, top)
        if left > right or west > east:
            return bounds
        covered = (max(left, west), max(bottom, south), min(right, east), min(top, north))
        return covered if covered[0] <= covered[2] and covered[1] <= covered[3] else None

    def _search(self, run: list[Cell]) -> None:
        """Searches cells side by side and remembers what each of them holds; Unanswered."""
        west, south, east, north = bounds_of(run)
        area = (west - MARGIN, south - MARGIN, east + MARGIN, north + MARGIN)
        scenes: dict[str, Scene] = {}
        problems: dict[str, SkippedFile] = {}
        try:
            for item in self._api.items(on_the_globe(area)):
                name = str(item.get("id") if isinstance(item, dict) else item)[:100]
                try:
                    scene = scene_of_item(
                        item, self._reading, self._remote, asset=self._asset, base=self._api.url
                    )
                except UnsupportedImage as refusal:
                    problems[name] = SkippedFile(name, str(refusal))
                else:
                    scenes[scene.id] = scene
        except ApiError as error:
            self._unavailable = str(error)
            self._rests_until = self._clock() + max(REST_S, min(error.retry_after or 0.0, 60.0))
            log.warning("source %s: %s", self._id, error)
            raise
        self._unavailable = None
        listed = tuple(problems[name] for name in sorted(problems))
        boxes = {scene.id: scene.footprint().bounds for scene in scenes.values()}
        for cell in run:
            here = bounds_of([cell])
            found = tuple(scenes[name] for name in sorted(scenes) if touch(boxes[name], here))
            before = self._cells.put(cell, Found(found, listed, self._wall_clock()))
            if before is not None and before.scenes != found:
                self.generation += 1

    def _look_at_collection(self) -> None:
        try:
            self._collection = self._api.collection()
        except ApiError as error:
            self._unavailable = str(error)
            log.warning("source %s: %s", self._id, error)
        else:
            self._unavailable = None


def _distinct(scenes: Iterable[Scene]) -> tuple[Scene, ...]:
    by_id = {scene.id: scene for scene in scenes}
    return tuple(by_id[name] for name in sorted(by_id))


def bounds_in(collection: dict[str, Any]) -> Bounds | None:
    """The first box of a collection's spatial extent, which holds all others."""
    try:
        box = collection["extent"]["spatial"]["bbox"][0]
        west, south, east, north = box if len(box) == 4 else (box[0], box[1], box[3], box[4])
        return float(west), float(south), float(east), float(north)
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def years_in(collection: dict[str, Any], now: float) -> set[int]:
    """The years of a collection's temporal extent; an open end is this year."""
    try:
        start, end = collection["extent"]["temporal"]["interval"][0]
        last = int(end[:4]) if end else datetime.fromtimestamp(now, UTC).year
        return set(range(int(start[:4]), last + 1))
    except (KeyError, IndexError, TypeError, ValueError):
        return set()
