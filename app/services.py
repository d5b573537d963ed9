"""Everything a running service holds, built once from the settings and closed at the end."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.cache.blocks import BlockCache
from app.cache.disk import DiskStore
from app.cache.memory import MemoryStore
from app.cache.redis import RedisTier
from app.cache.single_flight import SingleFlight
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
from app.sampling.tiles import TilePlan
from app.scheduling import Flow, Gate, Pool, background, gather, run_yielding
from app.settings import Settings
from model.autotune import open_session, user_notes
from model.cores import available_cores, available_memory
from model.errors import EngineError, ModelError
from model.session import Session

_MB = 1_000_000

TileKey = tuple[str, bytes, int]
"""Path, query and `Services.generation`: what a tile or a download is kept by."""

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
    route: object = None
    """The route that answers with it, by which it is counted; None for a download."""
    head: tuple[tuple[bytes, bytes], ...] = ()
    """Headers of the whole answer, ready to be sent; none for a download."""


class Services:
    """The sources, the models, the caches and the pools of one process."""

    def __init__(self, settings: Settings) -> None:
        """Build everything. ConfigurationError when the settings cannot work, such as without
        imagery or with a model that is refused."""
        gdal.configure(settings.gdal_cache_mb)
        workers = settings.infer_workers or available_cores()
        self._engine = settings.engine
        self._swap = asyncio.Lock()
        self._swaps = 0
        self.model_refused: str | None = None
        """Why the model file of the last `reload_model` is not the one in use; None when it is."""
        session = _session_of(settings, workers)
        # Whoever computes for this process, on other machines too, runs the same engine.
        settings = settings.model_copy(update={"engine": str(session.engine.spec)})
        _count_engine(session, 1)
        self.settings = settings
        self.models = {session.card.name: session}
        self.reads = Pool("read", settings.read_workers, settings.infer_nice)
        self.sources = Sources(
            load_sources(
                settings, session.card.ground_resolution, self.reads, len(session.card.bands)
            )
        )
        self._looks = {each.id: Pool(f"look-{each.id}", 2) for each in self.sources}
        self.infers = Pool("infer", workers, settings.infer_nice)
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
        self.rendered: MemoryStore[TileKey, Rendered] = MemoryStore(
            settings.rendered_memory_mb * _MB
        )
        # Of one tile, however many clients want it: planned once, drawn once.
        self.planning: SingleFlight[TileKey, tuple[TilePlan, str]] = SingleFlight()
        self.drawing: SingleFlight[TileKey, Rendered] = SingleFlight()

    def keep_rendered(self, address: TileKey, rendered: Rendered) -> None:
        """Keep a finished tile or download for the next who wants it."""
        nbytes = len(rendered.content) + len(address[0]) + len(address[1]) + 1024
        self.rendered.put(address, rendered, nbytes)

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
        return self._swaps + sum(source.catalog.generation for source in self.sources)

    async def reload_model(self) -> None:
        """Load the model file again; new requests use it as soon as it is ready.

        A file that is refused changes nothing but `model_refused`. Requests in progress end with
        the model they began with; blocks of two models never share a key.
        """
        async with self._swap:
            (old,) = self.models.values()
            requested = self.settings.model_copy(update={"engine": self._engine})
            try:
                new = await asyncio.to_thread(_replacement, old, requested, self.infers.workers)
            except ConfigurationError as error:
                self.model_refused = str(error)
                metrics.MODEL_REFUSED.set(1)
                log.warning("%s: %s; the one before is kept", self.settings.model, error)
                return
            self.model_refused = None
            metrics.MODEL_REFUSED.set(0)
            if new.identity == old.identity:
                log.info("%s: the model has not changed", self.settings.model)
                return
            self.models = {new.card.name: new}
            self.settings = requested.model_copy(update={"engine": str(new.engine.spec)})
            self._swaps += 1
            self.landcover.forget_plans()
            _count_engine(old, 0)
            _count_engine(new, 1)
            log.info("%s: %s %s is in use", self.settings.model, new.card.name, new.sha256[:12])

    async def warm_up(self) -> None:
        """Do for the model, on idle threads, what an engine does once for each shape of window: the
        first view would wait for it, up to a second."""
        session = self.model(None)
        size = session.card.window
        window = np.zeros((1, len(session.card.bands), size, size), dtype=np.float32)
        with background(Flow("warm-up")):
            await self.infers.run(getattr, session, "halo_covers_reach")
            await gather(
                self.infers.run(session.predict, window) for _ in range(self.infers.workers)
            )

    async def watch(self) -> None:
        """Look for new and changed imagery every `refresh_s` seconds, and every `probe_s` whether a
        source that is unavailable is back; forever.

        Each source has threads of its own for it, so that one that hangs delays no other, and a
        refresh that takes long delays no probe.
        """
        refresh_s, probe_s = self.settings.refresh_s, self.settings.probe_s
        await asyncio.gather(
            *(_repeated(refresh_s, self._refresh, source) for source in self.sources),
            *(_repeated(probe_s, self._probe, source) for source in self.sources),
        )

    async def _refresh(self, source: Source) -> None:
        await self._looks[source.id].run(source.refresh)

    async def _probe(self, source: Source) -> None:
        unavailable = source.unavailable is not None
        metrics.SOURCE_UNAVAILABLE.labels(source.id).set(unavailable)
        if unavailable:
            await self._looks[source.id].run(source.probe)

    def close(self) -> None:
        """Wait for work in progress; drop what has not begun."""
        reads = (source.reads for source in self.sources)
        for pool in {self.infers, self.reads, *reads, *self._looks.values()}:
            pool.close()
        for source in self.sources:
            source.close()


async def _repeated(
    every_s: float, look: Callable[[Source], Awaitable[None]], source: Source
) -> None:
    """Look at a source every so many seconds, whatever it meets with; 0: never."""
    while every_s:
        await asyncio.sleep(every_s)
        try:
            await look(source)
        except Exception:
            log.exception("source %s: unexpected error", source.id)


def engine_of(settings: Settings) -> str:
    """Return the engine that runs the model on this machine; ConfigurationError as `Services`."""
    return str(_session_of(settings, 1).engine.spec)


def _count_engine(session: Session, count: int) -> None:
    spec = session.engine.spec
    metrics.ENGINE.labels(spec.name, spec.precision).set(count)


def _session_of(settings: Settings, workers: int) -> Session:
    try:
        # An engine's own threads have the nice value of the one that loads the model.
        return run_yielding(
            settings.infer_nice,
            open_session,
            settings.model,
            settings.engine,
            streams=workers,
            notes=settings.cache_dir or user_notes(),
        )
    except EngineError as error:
        raise ConfigurationError(f"LANDCOVER_ENGINE={settings.engine}: {error}") from error
    except ModelError as error:
        raise ConfigurationError(f"the model is refused: {error}") from error


def _replacement(old: Session, settings: Settings, workers: int) -> Session:
    """Return the model of the settings; ConfigurationError also when the sources, as they were
    opened for `old`, do not suit it."""
    new = _session_of(settings, workers)
    if new.card.ground_resolution != old.card.ground_resolution:
        raise ConfigurationError(
            f"the model is refused: it is for imagery of {new.card.ground_resolution:g} m, this "
            f"service has opened its sources for {old.card.ground_resolution:g} m; restart it"
        )
    if len(new.card.bands) != len(old.card.bands):
        raise ConfigurationError(
            f"the model is refused: it reads {len(new.card.bands)} bands, this service has opened "
            f"its sources for {len(old.card.bands)}; restart it"
        )
    return new


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
