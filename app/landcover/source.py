"""A source: a configured set of scenes that clients name by id, never by path."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import ConfigurationError, InvalidRequest, SourceUnavailable, UnknownName
from app.grid.pixel_grid import Bounds, PixelGrid
from app.grid.tile import Tile, native_zoom
from app.imagery import config as sources_file
from app.imagery.catalog import Catalog
from app.imagery.catalog.lazy import LazyCatalog
from app.imagery.catalog.temporal import LATEST, TemporalFilter, parse_interval
from app.imagery.config import AnyConfig, DirectoryConfig, RemoteConfig
from app.imagery.store.object_store import ObjectStore
from app.scheduling import Pool
from app.settings import Settings

OVERVIEW_ZOOMS = 5
"""Zooms below native at which tiles show the mode pyramid."""


log = logging.getLogger("landcover.source")


@dataclass(frozen=True, slots=True)
class Source:
    """A catalog with a name."""

    id: str
    title: str
    attribution: str
    catalog: Catalog
    reads: Pool | None = None
    """Threads of its own; None for local files."""
    store: ObjectStore | None = None

    @property
    def bounds(self) -> Bounds:
        """(west, south, east, north), degrees."""
        return self.catalog.lonlat_bounds

    @property
    def zooms(self) -> tuple[int, int]:
        """(lowest, native) zoom of 256 px tiles."""
        _, south, _, north = self.bounds
        resolution = min((grid.resolution for grid in self.catalog.grids()), default=1.0)
        native = native_zoom(resolution, (south + north) / 2)
        return max(0, native - OVERVIEW_ZOOMS), native

    def shows(self, tile: Tile) -> bool:
        """Whether a tile is in its zooms and shares ground with it. Below the lowest zoom a tile
        would hold more blocks than it has pixels."""
        if tile.z < self.zooms[0]:
            return False
        west, south, east, north = self.bounds
        left, bottom, right, top = tile.lonlat_bounds
        return left < east and west < right and bottom < north and south < top

    @property
    def unavailable(self) -> str | None:
        """Why it cannot be reached at the moment, None when it can, as far as known."""
        return self.catalog.unavailable

    @property
    def years(self) -> tuple[int, ...]:
        """Years of acquisition, ascending."""
        return self.catalog.years

    def refresh(self) -> None:
        """Finds new, changed and vanished files. When nothing is left, a disk is away: the scenes
        stay as they were known, so that asking for them is an error and not an empty place."""
        try:
            self.catalog.refresh()
        except (ConfigurationError, SourceUnavailable) as error:
            log.warning("source %s: %s", self.id, error)

    def close(self) -> None:
        """Ends its threads and connections."""
        if self.reads is not None:
            self.reads.close()
        if self.store is not None:
            self.store.close()

    def grids(self) -> tuple[PixelGrid, ...]:
        """The work grids of its scenes."""
        return self.catalog.grids()

    def when(self, year: str = "latest", datetime: str = "", fill: str = "") -> TemporalFilter:
        """What a client's dates stand for; InvalidRequest, or UnknownName for a year that the
        source is known not to have and nothing may fill."""
        if fill not in ("", "none", "older"):
            raise InvalidRequest("fill", fill, "`older` or `none`")
        older = fill == "older"
        if datetime:
            if year != "latest":
                raise InvalidRequest("datetime", datetime, "either a year or a datetime, not both,")
            return replace(parse_interval(datetime), older=older)
        if year == "latest":
            return LATEST
        if not re.fullmatch(r"\d{4}", year):
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
        """The source of that id, the first one for None; UnknownName otherwise."""
        if source_id is None:
            return next(iter(self._by_id.values()))
        if source_id not in self._by_id:
            raise UnknownName("source", source_id, self._by_id)
        return self._by_id[source_id]


def sources_of(settings: Settings, ground_resolution: float) -> list[Source]:
    """The sources the settings name: the directory first, then those of sources.toml.

    ConfigurationError when there is none, one cannot work or two have one id. A source on a network
    that is away is no reason not to start: it is asked for again until it is there.
    """
    configs: list[AnyConfig] = []
    if settings.imagery is not None:
        configs.append(
            DirectoryConfig(
                type="directory",
                id=source_id_of(settings.imagery),
                title=settings.title or settings.imagery.resolve().name,
                path=str(settings.imagery),
            )
        )
    if settings.sources is not None:
        configs += sources_file.load(settings.sources)
    if not configs:
        raise ConfigurationError(
            "no imagery: give a directory of NAIP GeoTIFFs with --imagery or LANDCOVER_IMAGERY, "
            "or a sources.toml with --sources or LANDCOVER_SOURCES"
        )
    ids = [config.id for config in configs]
    if len(set(ids)) < len(ids):
        raise ConfigurationError(f"source {ids[0]}: --imagery and sources.toml both name it")
    return [_source_of(config, settings, ground_resolution) for config in configs]


def _source_of(config: AnyConfig, settings: Settings, ground_resolution: float) -> Source:
    title, attribution = config.title or config.id, config.attribution or settings.attribution
    if not isinstance(config, RemoteConfig):
        catalog = sources_file.catalog_of(config, ground_resolution, settings.cache_dir)
        return Source(config.id, title, attribution, catalog)
    store = sources_file.store_of(config)

    def built() -> Catalog:
        return sources_file.catalog_of(config, ground_resolution, settings.cache_dir, store)

    try:
        catalog = built()
    except SourceUnavailable as error:
        log.warning("source %s is away: %s", config.id, error.reason)
        catalog = LazyCatalog(built, error)
    reads = Pool(f"read-{config.id}", config.connections)
    return Source(config.id, title, attribution, catalog, reads, store)


def source_id_of(path: Path) -> str:
    """A directory's name as an id: lower case, letters, digits and dashes."""
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63] or "imagery"
