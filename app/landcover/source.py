"""A source: a configured set of scenes that clients name by id, never by path."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from app.errors import ConfigurationError, InvalidRequest, SourceUnavailable, UnknownName
from app.grid.pixel_grid import Bounds, PixelGrid
from app.grid.tile import View, native_zoom
from app.imagery.catalog import Catalog
from app.imagery.catalog.temporal import LATEST, TemporalFilter, parse_interval
from app.imagery.store.object_store import ObjectStore
from app.monitoring import metrics
from app.scheduling import Pool

OVERVIEW_ZOOMS = 5
"""Zooms below native at which tiles show the mode pyramid of exact blocks."""

ESTIMATE_ZOOMS = 7
"""Zooms below native at which tiles show at least an estimate."""

log = logging.getLogger("landcover.source")


@dataclass(slots=True)
class LastRefresh:
    """When a source was last looked at, seconds since 1970, and what went wrong (None: nothing)."""

    at: float = field(default_factory=time.time)
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Return whether it went well."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Source:
    """A catalog with a name."""

    id: str
    title: str
    attribution: str
    catalog: Catalog
    reads: Pool
    """Threads that read it: its own when it is on a network, so that one that hangs holds up no
    other; those shared by all for local files."""
    store: ObjectStore | None = None
    last_refresh: LastRefresh = field(default_factory=LastRefresh, compare=False)

    def __post_init__(self) -> None:
        """Count the start as the first look."""
        self._looked(self.unavailable)

    @property
    def bounds(self) -> Bounds:
        """Return (west, south, east, north), degrees."""
        return self.catalog.lonlat_bounds

    @property
    def zooms(self) -> tuple[int, int]:
        """Return the (lowest, native) zoom of 256 px tiles that show classes."""
        _, south, _, north = self.bounds
        resolution = min((grid.resolution for grid in self.catalog.grids()), default=1.0)
        native = native_zoom(resolution, (south + north) / 2)
        return max(0, native - ESTIMATE_ZOOMS), native

    def shows(self, tile: View) -> bool:
        """Return whether a tile is in its zooms and shares ground with it."""
        return tile.z >= self.zooms[0] and self.touches(tile)

    def is_exact_at(self, zoom: int) -> bool:
        """Return whether tiles of that zoom are made of exact blocks when these are there.

        Below, a tile would hold more blocks than it has pixels.
        """
        return zoom >= self.zooms[1] - OVERVIEW_ZOOMS

    def touches(self, tile: View) -> bool:
        """Return whether a tile shares ground with it."""
        west, south, east, north = self.bounds
        left, bottom, right, top = tile.lonlat_bounds
        return left < east and west < right and bottom < north and south < top

    @property
    def unavailable(self) -> str | None:
        """Return why its list or its files cannot be had at the moment; None when they can, as far
        as known. What is cached is served all the same, marked stale."""
        reason = self.catalog.unavailable
        return reason if reason or self.store is None else self.store.unavailable

    @property
    def years(self) -> tuple[int, ...]:
        """Return the years of acquisition, ascending."""
        return self.catalog.years

    def refresh(self) -> None:
        """Find new, changed and vanished files, and whether the source is there; never raise.

        When nothing is left, a disk is unavailable: the known scenes stay, so that reading them is
        an error and not an empty place.
        """

        def look() -> None:
            self.catalog.refresh()
            if self.store is not None:
                self.store.look()

        self._looked(self._survived(look, "refresh"))

    def probe(self) -> None:
        """Find out whether it is back, when it is unavailable; takes seconds and never raises."""
        if self.unavailable is not None:
            if self.store is not None and self.store.unavailable is not None:
                self._survived(self.store.probe, "probe")
            if self.catalog.unavailable is not None:
                self._survived(self.catalog.probe, "probe")
            if self.unavailable is None:
                log.warning("source %s is back", self.id)
                self._looked(None)

    def _survived(self, look: Callable[[], object], what: str) -> str | None:
        """Return what went wrong with `look`; whatever it is, this source alone is concerned."""
        try:
            look()
        except (ConfigurationError, SourceUnavailable) as error:
            log.warning("source %s: %s", self.id, error)
            return str(getattr(error, "reason", error))
        except Exception as error:
            log.exception("source %s: unexpected error in its %s", self.id, what)
            return f"unexpected {type(error).__name__}"
        return None

    def _looked(self, error: str | None) -> None:
        self.last_refresh.at, self.last_refresh.error = time.time(), error
        metrics.SOURCE_REFRESHED.labels(self.id).set(self.last_refresh.at)
        metrics.SOURCE_REFRESH_OK.labels(self.id).set(error is None)
        metrics.SOURCE_UNAVAILABLE.labels(self.id).set(self.unavailable is not None)

    def close(self) -> None:
        """Close its connections."""
        if self.store is not None:
            self.store.close()

    def grids(self) -> tuple[PixelGrid, ...]:
        """Return the work grids of its scenes."""
        return self.catalog.grids()

    def when(self, year: str = "latest", datetime: str = "", fill: str = "") -> TemporalFilter:
        """Return what a client's dates stand for.

        InvalidRequest, or UnknownName for a year that the source is known not to have and nothing
        may fill.
        """
        if fill not in ("", "none", "older"):
            raise InvalidRequest("fill", fill, "`older` or `none`")
        older = fill == "older"
        if datetime:
            if year != "latest":
                raise InvalidRequest("datetime", datetime, "either a year or a datetime, not both,")
            return replace(parse_interval(datetime), older=older)
        if year == "latest":
            return LATEST
        if not re.fullmatch(r"[0-9]{4}", year):
            raise InvalidRequest("year", year, "`latest` or a year of four digits")
        complete = self.catalog.is_loaded((-180, -90, 180, 90), LATEST)
        if complete and not older and int(year) not in self.years:
            raise UnknownName("year", year, map(str, self.years))
        return TemporalFilter.of_year(int(year), older)


class Sources:
    """The configured sources by id; the first one is the default."""

    def __init__(self, sources: list[Source]) -> None:
        self._by_id = {source.id: source for source in sources}

    def __iter__(self) -> Iterator[Source]:
        return iter(self._by_id.values())

    def get(self, source_id: str | None) -> Source:
        """Return the source of that id, the first one for None; UnknownName otherwise."""
        if source_id is None:
            return next(iter(self._by_id.values()))
        if source_id not in self._by_id:
            raise UnknownName("source", source_id, self._by_id)
        return self._by_id[source_id]
