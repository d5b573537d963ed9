"""From a source's configuration to its catalog."""

from __future__ import annotations

from app.errors import ConfigurationError
from app.imagery.access import Access
from app.imagery.catalog import Catalog
from app.imagery.config import (
    AnyConfig,
    DirectoryConfig,
    RemoteConfig,
    StacApiConfig,
    StacConfig,
)
from app.imagery.directory import Directory
from app.imagery.json_api import JsonApi
from app.imagery.remote import Limits, Remote
from app.imagery.s3 import Bucket
from app.imagery.scene import Reading
from app.imagery.schemes import ByScheme
from app.imagery.signing import Signed
from app.imagery.stac_catalog import StacCatalog
from app.imagery.stac_search import Query, StacApi
from app.imagery.stac_static import StaticStac


def catalog_of(config: AnyConfig, ground_resolution: float) -> Catalog:
    """The catalog a source's configuration describes; ConfigurationError when it cannot work."""
    reading = reading_of(config, ground_resolution)
    if isinstance(config, DirectoryConfig):
        return Directory(config.path, reading)
    if isinstance(config, StacConfig):
        return _stac(config, reading)
    raise ConfigurationError(f"source {config.id}: {config.type} sources are not served yet")


def reading_of(config: AnyConfig, ground_resolution: float) -> Reading:
    """How the images of a source are read."""
    return Reading(ground_resolution, config.bands, config.nodata, config.resampling, config.force)


def remote_of(config: RemoteConfig) -> Remote:
    """The far side of a source."""
    limits = Limits(config.read_s, config.request_s, config.retries, config.connections)
    return Remote(config.id, access_of(config), limits)


def access_of(config: RemoteConfig) -> Access:
    """How its files are asked for: `s3://` and signed hosts each by their own way."""
    bucket = Bucket(
        config.region, config.requester_pays, config.endpoint, config.profile, config.anonymous
    )
    signed = None
    if isinstance(config, StacConfig) and config.token_url and config.signing != "never":
        signed = Signed(config.token_url, config.signing, hosts=config.token_hosts)
    return ByScheme(bucket, signed)


def _stac(config: StacConfig, reading: Reading) -> Catalog:
    remote = remote_of(config)
    if not isinstance(config, StacApiConfig):
        return StaticStac(
            config.id, config.url, reading, remote, asset=config.asset, expires_s=config.expires_s
        )
    query = Query(config.collection, config.datetime, config.filters)
    return StacCatalog(
        config.id,
        StacApi(config.url, JsonApi(), query),
        reading,
        remote,
        asset=config.asset,
        bounds=config.bounds,
        expires_s=config.expires_s,
    )
