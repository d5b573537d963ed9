"""From a source's configuration to its catalog."""

from __future__ import annotations

from pathlib import Path

from app.errors import ConfigurationError
from app.imagery.access import Access, Plain
from app.imagery.catalog import Catalog
from app.imagery.cogs import Cogs, checked, in_mosaic, in_text
from app.imagery.config import AnyConfig, CogsConfig, DirectoryConfig, MosaicConfig, RemoteConfig
from app.imagery.directory import Directory
from app.imagery.index_store import IndexStore
from app.imagery.remote import Limits, Remote
from app.imagery.scene import Reading


def catalog_of(
    config: AnyConfig,
    ground_resolution: float,
    cache_dir: Path | None,
    remote: Remote | None = None,
) -> Catalog:
    """The catalog a source's configuration describes.

    `cache_dir`: where what is known of its files is kept. `remote`: its far side, unless it is
    local. ConfigurationError when it cannot work, SourceUnavailable when its server is away.
    """
    reading = reading_of(config, ground_resolution)
    store = IndexStore(cache_dir / f"index-{config.id}.json", reading) if cache_dir else None
    if isinstance(config, DirectoryConfig):
        return Directory(Path(config.path), reading, store)
    far = remote or remote_of(config)
    if isinstance(config, MosaicConfig):
        address = config.url
        return Cogs(lambda: checked(in_mosaic(address, far), config.id), far, reading, store)
    if isinstance(config, CogsConfig):
        return Cogs(lambda: _listed(config), far, reading, store)
    raise ConfigurationError(f"source {config.id}: {config.type} sources are not served yet")


def reading_of(config: AnyConfig, ground_resolution: float) -> Reading:
    """How the images of a source are read."""
    return Reading(ground_resolution, config.bands, config.nodata, config.resampling, config.force)


def remote_of(config: RemoteConfig) -> Remote:
    """The far side of a source."""
    limits = Limits(
        config.read_s,
        config.request_s,
        config.retries,
        config.connections,
        cache_bytes=config.cache_mb * 1_000_000,
    )
    return Remote(config.id, access_of(config), limits)


def access_of(config: RemoteConfig) -> Access:
    """How its files are asked for. (stac helper: dispatch on s3:// and signing here)"""
    del config
    return Plain()


def _listed(config: CogsConfig) -> list[str]:
    named = in_text(Path(config.list), config.id) if config.list else []
    return list(checked([*config.urls, *named], config.id))
