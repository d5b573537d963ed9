"""From a source's configuration to its catalog."""

from __future__ import annotations

from pathlib import Path

from app.imagery.catalog import Catalog
from app.imagery.catalog.files import DirectoryCatalog, UrlListCatalog, checked, in_mosaic, in_text
from app.imagery.catalog.index_store import IndexStore
from app.imagery.catalog.stac_api import StacApiCatalog
from app.imagery.catalog.stac_search import Query, StacApi
from app.imagery.catalog.stac_static import StaticStacCatalog
from app.imagery.config import (
    AnyConfig,
    CogsConfig,
    DirectoryConfig,
    MosaicConfig,
    RemoteConfig,
    StacApiConfig,
    StacConfig,
)
from app.imagery.scene import ReadOptions
from app.imagery.store import ByScheme
from app.imagery.store.buckets import Bucket, BucketAuthenticator
from app.imagery.store.json_api import JsonApi
from app.imagery.store.object_store import ObjectStore, ReadLimits
from app.imagery.store.planetary_computer import SasAuthenticator


def catalog_of(
    config: AnyConfig,
    ground_resolution: float,
    cache_dir: Path | None,
    remote: ObjectStore | None = None,
) -> Catalog:
    """The catalog a source's configuration describes.

    `cache_dir`: where what is known of its files is kept. `remote`: its far side, unless it is
    local. ConfigurationError when it cannot work, SourceUnavailable when its server is away.
    """
    reading = reading_of(config, ground_resolution)
    store = IndexStore(cache_dir / f"index-{config.id}.json", reading) if cache_dir else None
    if isinstance(config, DirectoryConfig):
        return DirectoryCatalog(Path(config.path), reading, store)
    far = remote or remote_of(config)
    if isinstance(config, MosaicConfig):
        address = config.url
        return UrlListCatalog(
            lambda: checked(in_mosaic(address, far), config.id), far, reading, store
        )
    if isinstance(config, CogsConfig):
        return UrlListCatalog(lambda: _listed(config), far, reading, store)
    return _stac(config, reading, far)


def reading_of(config: AnyConfig, ground_resolution: float) -> ReadOptions:
    """How the images of a source are read."""
    return ReadOptions(
        ground_resolution, config.bands, config.nodata, config.resampling, config.force
    )


def remote_of(config: RemoteConfig) -> ObjectStore:
    """The far side of a source."""
    limits = ReadLimits(
        config.read_s,
        config.request_s,
        config.retries,
        config.connections,
        cache_bytes=config.cache_mb * 1_000_000,
    )
    return ObjectStore(config.id, access_of(config), limits)


def access_of(config: RemoteConfig) -> ByScheme:
    """Return what makes its files readable: buckets and signed hosts each by their own way."""
    bucket = Bucket(
        config.region,
        config.requester_pays,
        config.endpoint,
        config.profile,
        config.anonymous,
        config.account,
    )
    signed = None
    if isinstance(config, StacConfig) and config.token_url and config.signing != "never":
        signed = SasAuthenticator(config.token_url, config.signing, hosts=config.token_hosts)
    return ByScheme(BucketAuthenticator(bucket), signed)


def _stac(config: StacConfig, reading: ReadOptions, remote: ObjectStore) -> Catalog:
    if not isinstance(config, StacApiConfig):
        return StaticStacCatalog(
            config.id, config.url, reading, remote, asset=config.asset, expires_s=config.expires_s
        )
    query = Query(config.collection, config.datetime, config.filters)
    return StacApiCatalog(
        config.id,
        StacApi(config.url, JsonApi(), query),
        reading,
        remote,
        asset=config.asset,
        bounds=config.bounds,
        expires_s=config.expires_s,
    )


def _listed(config: CogsConfig) -> list[str]:
    named = in_text(Path(config.list), config.id) if config.list else []
    return list(checked([*config.urls, *named], config.id))
