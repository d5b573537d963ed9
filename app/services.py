"""Everything a running service holds, built once from the settings and closed at the end."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from app.cache.blocks import BlockCache
from app.cache.disk import DiskStore
from app.cache.memory import MemoryStore
from app.cache.redis import RedisTier
from app.errors import ConfigurationError, SourceUnavailable, UnknownName
from app.imagery import config, gdal
from app.imagery.catalog import Catalog
from app.imagery.catalog.lazy import LazyCatalog
from app.imagery.reader import Reader
from app.landcover.backfill import Backfill
from app.landcover.batching import Batcher, edge_within
from app.landcover.blocks import LandCover, Selection
from app.landcover.source import Source, Sources
from app.monitoring import metrics
from app.monitoring.metrics import Collector
from app.scheduling import Gate, Pool
from app.settings import Settings
from model.autotune import open_session, user_notes
from model.cores import available_cores, available_memory
from model.errors import EngineError, ModelError
from model.session import Session

_MB = 1_000_000

log = logging.getLogger("landcover.services")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished tile, ready to be sent again."""

    etag: str
    media_type: str
    content: bytes
    headers: tuple[tuple[str, str], ...]
    source: str | None = None
    quality: str = "full"
    """`full`: exact blocks; `estimate`; `footprints`: too far out to show classes."""


class Services:
    """The sources, the models, the caches and the pools of one process."""

    def __init__(self, settings: Settings) -> None:
        """Build everything. ConfigurationError when the settings cannot work, such as without
        imagery or with a model that is refused."""
        gdal.configure(settings.gdal_cache_mb)
        workers = settings.infer_workers or available_cores()
        session = _session_of(settings, workers)
        # Whoever computes for this process, on other machines too, runs the same engine.
        settings = settings.model_copy(update={"engine": str(session.engine.spec)})
        metrics.ENGINE.labels(session.engine.spec.name, session.engine.spec.precision).set(1)
        self.settings = settings
        self.models = {session.card.name: session}
        self.reads = Pool("read", settings.read_workers)
        self.sources = Sources(
            load_sources(
                settings, session.card.ground_resolution, self.reads, len(session.card.bands)
            )
        )
        self.infers = Pool("infer", workers)
        self.gate = Gate(settings.queue_blocks, workers)
        disk = (
            DiskStore(settings.cache_dir, settings.cache_disk_mb * _MB)
            if settings.cache_dir
            else None
        )
        cache = BlockCache(settings.cache_memory_mb * _MB, disk, self.reads, _redis(settings))
        self.reader = Reader({each.id: each.store for each in self.sources if each.store})
        self.collectors: list[Collector] = []
        """Figures of the whole service, not of a process, that `/metrics` collects on request."""
        cores = settings.processes * workers
        edge = edge_within(settings.join_blocks, cores, session.card.halo, available_memory())
        batcher = Batcher(self.infers, edge)
        self.landcover = LandCover(cache, self.reader, self.reads, self.infers, self.gate, batcher)
        self.backfill = Backfill(self.landcover)
        self.rendered: MemoryStore[tuple[str, bytes, int], Rendered] = MemoryStore(
            settings.rendered_memory_mb * _MB
        )

    def model(self, name: str | None) -> Session:
        """Return the model of that name, the only one for None; UnknownName otherwise."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise UnknownName("model", name, self.models)
        return self.models[name]

    def select(
        self,
        source: str | None = None,
        year: str = "latest",
        model: str | None = None,
        datetime: str = "",
        fill: str = "",
    ) -> Selection:
        """Return what a client's source, dates and model name; UnknownName or InvalidRequest."""
        selected = self.sources.get(source)
        return Selection(selected, selected.when(year, datetime, fill), self.model(model))

    @property
    def generation(self) -> int:
        """Return a number that changes whenever a source does."""
        return sum(source.catalog.generation for source in self.sources)

    async def refresh(self) -> None:
        """Look for new and changed imagery every `refresh_s` seconds, forever."""
        while self.settings.refresh_s:
            await asyncio.sleep(self.settings.refresh_s)
            for source in self.sources:
                await source.reads.run(source.refresh)

    def close(self) -> None:
        """Wait for work in progress; drop what has not begun."""
        for pool in {self.infers, self.reads, *(source.reads for source in self.sources)}:
            pool.close()
        for source in self.sources:
            source.close()


def engine_of(settings: Settings) -> str:
    """Return the engine that runs the model on this machine; ConfigurationError as `Services`."""
    return str(_session_of(settings, 1).engine.spec)


def _session_of(settings: Settings, workers: int) -> Session:
    try:
        return open_session(
            settings.model,
            settings.engine,
            streams=workers,
            notes=settings.cache_dir or user_notes(),
        )
    except EngineError as error:
        raise ConfigurationError(f"LANDCOVER_ENGINE={settings.engine}: {error}") from error
    except ModelError as error:
        raise ConfigurationError(f"the model is refused: {error}") from error


def load_sources(
    settings: Settings, ground_resolution: float, reads: Pool, band_count: int = 4
) -> list[Source]:
    """Return the sources that the settings name: the directory first, then those of sources.toml.

    `reads`: the threads that read local files. `band_count`: how many bands the model reads.
    ConfigurationError when there is no source, one cannot work or two have one id. A source on a
    network that is unavailable does not prevent the start: it is tried again until it is there.
    """
    configs: list[config.AnyConfig] = []
    if settings.imagery is not None:
        configs.append(
            config.DirectoryConfig(
                type="directory",
                id=source_id_of(settings.imagery),
                title=settings.title or settings.imagery.resolve().name,
                path=str(settings.imagery),
            )
        )
    if settings.sources is not None:
        configs += config.load(settings.sources)
    if not configs:
        raise ConfigurationError(
            "no imagery: give a directory of NAIP GeoTIFFs with --imagery or LANDCOVER_IMAGERY, "
            "or a sources.toml with --sources or LANDCOVER_SOURCES"
        )
    ids = [each.id for each in configs]
    if len(set(ids)) < len(ids):
        raise ConfigurationError(f"source {ids[0]}: --imagery and sources.toml both name it")
    return [_source(each, settings, ground_resolution, reads, band_count) for each in configs]


def _source(
    source_config: config.AnyConfig,
    settings: Settings,
    ground_resolution: float,
    reads: Pool,
    band_count: int,
) -> Source:
    title = source_config.title or source_config.id
    attribution = source_config.attribution or settings.attribution
    if not isinstance(source_config, config.RemoteConfig):
        catalog = config.catalog_of(
            source_config, ground_resolution, settings.cache_dir, band_count=band_count
        )
        return Source(source_config.id, title, attribution, catalog, reads)
    store = config.store_of(source_config)

    def load() -> Catalog:
        return config.catalog_of(
            source_config, ground_resolution, settings.cache_dir, store, band_count
        )

    try:
        catalog = load()
    except SourceUnavailable as error:
        log.warning("source %s is unavailable: %s", source_config.id, error.reason)
        catalog = LazyCatalog(load, error)
    own = Pool(f"read-{source_config.id}", source_config.connections)
    return Source(source_config.id, title, attribution, catalog, own, store)


def source_id_of(path: Path) -> str:
    """Return a directory's name as an id: lower case, letters, digits and dashes."""
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63] or "imagery"


def _redis(settings: Settings) -> RedisTier | None:
    if settings.redis_url is None:
        return None
    return RedisTier(
        settings.redis_url.get_secret_value(),
        timeout_s=settings.redis_timeout_s,
        lease_s=settings.redis_lease_s,
        keep_s=settings.redis_keep_s,
    )
