"""From a source's configuration to its catalog."""

from __future__ import annotations

from app.errors import ConfigurationError
from app.imagery.access import Access, Plain
from app.imagery.catalog import Catalog
from app.imagery.config import AnyConfig, DirectoryConfig, RemoteConfig
from app.imagery.directory import Directory
from app.imagery.remote import Limits, Remote
from app.imagery.scene import Reading


def catalog_of(config: AnyConfig, ground_resolution: float) -> Catalog:
    """The catalog a source's configuration describes; ConfigurationError when it cannot work."""
    reading = reading_of(config, ground_resolution)
    if isinstance(config, DirectoryConfig):
        return Directory(config.path, reading)
    raise ConfigurationError(f"source {config.id}: {config.type} sources are not served yet")


def reading_of(config: AnyConfig, ground_resolution: float) -> Reading:
    """How the images of a source are read."""
    return Reading(ground_resolution, config.bands, config.nodata, config.resampling, config.force)


def remote_of(config: RemoteConfig) -> Remote:
    """The far side of a source."""
    limits = Limits(config.read_s, config.request_s, config.retries, config.connections)
    return Remote(config.id, access_of(config), limits)


def access_of(config: RemoteConfig) -> Access:
    """How its files are asked for. (stac helper: dispatch on s3:// and signing here)"""
    del config
    return Plain()
