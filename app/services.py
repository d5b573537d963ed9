"""Everything a running service holds, built once from the settings and closed at the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from app.cache.blocks import BlockCache
from app.cache.disk import DiskStore
from app.cache.memory import MemoryStore
from app.cache.redis import RedisTier
from app.errors import ConfigurationError, UnknownName
from app.imagery import gdal
from app.imagery.reader import Reader
from app.landcover.blocks import LandCover, Selection
from app.landcover.source import Sources, sources_of
from app.monitoring.metrics import Collector
from app.scheduling import Gate, Pool
from app.settings import Settings
from model.cores import available_cores
from model.errors import ModelError
from model.session import Session

_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished tile, ready to be sent again."""

    etag: str
    media_type: str
    content: bytes
    headers: tuple[tuple[str, str], ...]
    source: str | None = None


class Services:
    """The sources, the models, the caches and the pools of one process."""

    def __init__(self, settings: Settings) -> None:
        """ConfigurationError when the settings cannot work: no imagery, or a refused model."""
        gdal.configure(settings.gdal_cache_mb)
        self.settings = settings
        try:
            session = Session.load(settings.model, threads=1)
        except ModelError as error:
            raise ConfigurationError(f"the model is refused: {error}") from error
        self.models = {session.card.name: session}
        self.sources = Sources(sources_of(settings, session.card.ground_resolution))
        workers = settings.infer_workers or available_cores()
        self.reads = Pool("read", settings.read_workers)
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
        """What `/metrics` asks when it is asked: figures of the whole service, not of a process."""
        self.landcover = LandCover(cache, self.reader, self.reads, self.infers, self.gate)
        self.rendered: MemoryStore[tuple[str, bytes, int], Rendered] = MemoryStore(
            settings.rendered_memory_mb * _MB
        )

    def model(self, name: str | None) -> Session:
        """The model of that name, the only one for None; UnknownName otherwise."""
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
        """What a client's source, dates and model stand for; UnknownName or InvalidRequest."""
        chosen = self.sources.get(source)
        return Selection(chosen, chosen.when(year, datetime, fill), self.model(model))

    @property
    def generation(self) -> int:
        """Changes whenever a source does."""
        return sum(source.catalog.generation for source in self.sources)

    async def watch(self) -> None:
        """Looks for new and changed imagery from time to time, for ever."""
        while self.settings.refresh_s:
            await asyncio.sleep(self.settings.refresh_s)
            for source in self.sources:
                await (source.reads or self.reads).run(source.refresh)

    def close(self) -> None:
        """Waits for what is being worked on; drops what has not begun."""
        self.infers.close()
        self.reads.close()
        for source in self.sources:
            source.close()


def _redis(settings: Settings) -> RedisTier | None:
    if settings.redis_url is None:
        return None
    return RedisTier(
        settings.redis_url.get_secret_value(),
        timeout_s=settings.redis_timeout_s,
        lease_s=settings.redis_lease_s,
        keep_s=settings.redis_keep_s,
    )
