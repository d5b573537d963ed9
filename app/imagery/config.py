"""`sources.toml`: what an operator says of each source, and the catalog and store made of it.

[[source]]
id = "county"
type = "directory"
path = "/data/naip"
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from app.errors import ConfigurationError
from app.imagery.catalog import Catalog
from app.imagery.catalog.files import DirectoryCatalog, UrlListCatalog, checked, in_mosaic, in_text
from app.imagery.catalog.index import IndexStore
from app.imagery.catalog.stac_api import StacApiCatalog
from app.imagery.catalog.stac_items import Query, StacApi
from app.imagery.catalog.stac_static import StaticStacCatalog
from app.imagery.reader import RemoteFiles
from app.imagery.scene import NATURAL, ReadOptions, Resampling, local_path
from app.imagery.store import ByScheme
from app.imagery.store.buckets import Bucket, BucketAuthenticator, servers_of
from app.imagery.store.json_api import JsonApi
from app.imagery.store.object_store import ObjectStore, ReadLimits
from app.imagery.store.planetary_computer import POLICY as TOKEN_POLICY
from app.imagery.store.planetary_computer import SasAuthenticator
from app.imagery.store.reach import Reach, is_bucket, rule_of
from app.resilience import RetryPolicy


def _relative_to_file(value: object, info: ValidationInfo) -> object:
    """Return a relative path as seen from the folder of the file it is written in."""
    base = (info.context or {}).get("base")
    if isinstance(value, str) and value.startswith("file://"):
        return str(local_path(value))
    if base is None or not isinstance(value, str) or not value or "://" in value:
        return value
    return str(Path(base) / value)


Local = Annotated[str, BeforeValidator(_relative_to_file)]


def _checked_host(host: str) -> str:
    """Return the host; ValueError when it is none."""
    if not is_bucket(host):
        rule_of(host)
    return host


def _checked_ending(host: str) -> str:
    """Return the host, or ending of hosts; ValueError when it is none."""
    rule_of(_below(host))
    return host


def _below(host: str) -> str:
    return f"*{host}" if host.startswith(".") else host


class SourceConfig(BaseModel):
    """What every source has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="the name clients use: lower-case letters, digits and dashes",
    )
    title: str = Field("", description="shown to people; the id by default")
    attribution: str = Field("", description="shown on every map; the service's by default")
    bands: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 2, 3, 4),
        min_length=3,
        max_length=8,
        description="which bands of a file are red, green, blue, near infrared",
    )
    nodata: float | None = Field(
        None, ge=0, le=255, description="no data where all four bands have it; the file's own or 0"
    )
    resampling: Resampling = Field(
        "average", description="how pixels finer than the grid's become one"
    )
    force: bool = Field(
        False, description="serve images coarser than twice what the model was trained for"
    )


class RemoteConfig(SourceConfig):
    """What every source on a network has."""

    read_s: float = Field(
        15, gt=0, le=120, description="longest a read of one scene may take, retries included, s"
    )
    request_s: float = Field(4, gt=0, le=60, description="longest silence within one request, s")
    retries: int = Field(2, ge=0, le=5, description="how often a failed request is sent again")
    cache_mb: int = Field(
        64, ge=0, le=4096, description="bytes of images kept, so that neighbors share them, MB"
    )
    connections: int = Field(16, ge=1, le=64, description="requests under way at once")
    requester_pays: bool = Field(
        False, description="s3: reads are charged to your account (x-amz-request-payer)"
    )
    region: str = Field(
        "us-east-1",
        pattern="^[a-z0-9-]+$",
        description="s3: the bucket's region, for its signature",
    )
    endpoint: str = Field("", description="s3, gs, az: address of another server than the cloud's")
    profile: str = Field("", description="s3: profile of ~/.aws whose keys are used")
    anonymous: bool = Field(False, description="s3, gs, az: send no credentials (public buckets)")
    account: str = Field("", description="az: the storage account, unless the address names it")
    hosts: tuple[Annotated[str, AfterValidator(_checked_host)], ...] = Field(
        (), description="hosts and buckets that may be read beside those of the addresses given"
    )


class DirectoryConfig(SourceConfig):
    """A directory of GeoTIFFs, or a glob of them."""

    type: Literal["directory"]
    path: Local = Field(description="a directory (with everything below it), a file or a glob")


class MosaicConfig(RemoteConfig):
    """A MosaicJSON of COGs."""

    type: Literal["mosaicjson"]
    url: Local = Field(description="path or https:// address of the MosaicJSON")


class CogsConfig(RemoteConfig):
    """A list of COGs on a web server, in S3, Google Cloud Storage or Azure."""

    type: Literal["cogs"]
    urls: tuple[str, ...] = Field(
        (), description="https://, s3://, gs://, az:// or abfss:// addresses"
    )
    list: Local = Field("", description="path of a text file of addresses, one a line")

    @model_validator(mode="after")
    def _has_some(self) -> CogsConfig:
        if not self.urls and not self.list:
            raise ValueError("give `urls`, or `list`: a file of them")
        return self


class StacConfig(RemoteConfig):
    """A static STAC catalog, collection or item collection."""

    type: Literal["stac"]
    url: Local = Field(description="path or https:// address of the document")
    asset: str = Field("", description="asset that holds the image; found by its bands if empty")
    expires_s: float = Field(86_400, ge=60, description="a remote catalog is read again after, s")
    signing: Literal["auto", "always", "never"] = Field("never", description="SAS tokens")
    token_url: str = Field("", description="token service, with {account} and {container}")
    token_hosts: tuple[Annotated[str, AfterValidator(_checked_ending)], ...] = Field(
        (".blob.core.windows.net",), description="hosts, or their endings, that are signed for"
    )


class StacApiConfig(StacConfig):
    """Search of a STAC API."""

    type: Literal["stac-api"]  # type: ignore[assignment]
    preset: Literal["", "planetary-computer", "earth-search"] = Field(
        "", description="an API whose address, collection, asset, signing or region are known"
    )
    url: str = Field("", description="address of the API")
    collection: str = Field("", description="collection to search")
    datetime: str = Field("", description="only items of this interval: 2018-01-01T00:00:00Z/..")
    filters: dict[str, Any] = Field(
        {}, description='the API\'s query extension: {"naip:state" = {eq = "ga"}}'
    )
    bounds: tuple[float, float, float, float] | None = Field(
        None, description="west, south, east, north: nothing outside is requested, degrees"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:  # noqa: ANN401 - what pydantic is given
        """Fill in the preset where the operator says nothing."""
        if isinstance(given, dict) and (preset := PRESETS.get(str(given.get("preset") or ""))):
            more = given.get("hosts", [])
            hosts = [*preset["hosts"], *more] if isinstance(more, list | tuple) else more
            return {**preset, **given, "hosts": hosts}
        return given

    @model_validator(mode="after")
    def _complete(self) -> StacApiConfig:
        if not self.url:
            raise ValueError(f"a url or a preset is needed; presets: {', '.join(PRESETS)}")
        if self.signing != "never" and not self.token_url:
            raise ValueError(f"signing = {self.signing!r} needs a token_url")
        return self


AnyConfig = Annotated[
    DirectoryConfig | MosaicConfig | CogsConfig | StacConfig | StacApiConfig,
    Field(discriminator="type"),
]


PRESETS: dict[str, dict[str, Any]] = {
    # Free of charge, no account. Tokens of some 45 minutes, rate limits without a subscription key.
    # Containers have been closed to anonymous reading before: unsigned first, signed if refused.
    "planetary-computer": {
        "url": "https://planetarycomputer.microsoft.com/api/stac/v1",
        "collection": "naip",
        "asset": "image",
        "signing": "auto",
        "token_url": (
            "https://planetarycomputer.microsoft.com/api/sas/v1/token/{account}/{container}"
        ),
        "hosts": ["naipeuwest.blob.core.windows.net"],
    },
    # A catalog of s3://naip-analytic, which charges the reader. requester_pays is not part of
    # the preset: who pays has to say so.
    "earth-search": {
        "url": "https://earth-search.aws.element84.com/v1",
        "collection": "naip",
        "asset": "image",
        "region": "us-west-2",
        "hosts": ["s3://naip-analytic"],
    },
}


_ONE = TypeAdapter[AnyConfig](AnyConfig)
_KINDS: dict[str, type[SourceConfig]] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind
    for kind in get_args(get_args(AnyConfig)[0])
}


def load(path: Path) -> tuple[AnyConfig, ...]:
    """Return the sources of a file, in its order; ConfigurationError names the first mistake.

    Relative paths are seen from the file's folder.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{path}: its values are nested too deep") from error
    unknown = set(content) - {"source"}
    if unknown:
        raise ConfigurationError(f"{path}: {_suggestion(min(unknown), ['source'])}")
    tables = content.get("source", [])
    if not isinstance(tables, list) or not tables:
        raise ConfigurationError(f"{path}: no [[source]] in it")
    configs = tuple(_one(path, number, table) for number, table in enumerate(tables, 1))
    ids = [config.id for config in configs]
    twice = sorted({each for each in ids if ids.count(each) > 1})
    if twice:
        raise ConfigurationError(f"{path}: source {twice[0]}: this id is given twice")
    return configs


def _one(path: Path, number: int, table: Any) -> AnyConfig:  # noqa: ANN401 - TOML
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: source {number} is not a table")
    where = f"{path}: source {table.get('id', number)}"
    kind = _KINDS.get(str(table.get("type")))
    if kind is None:
        given = table.get("type")
        expected = ", ".join(sorted(_KINDS))
        raise ConfigurationError(f"{where}: type={given!r}: one of {expected} expected")
    for key in table:
        if key not in kind.model_fields:
            raise ConfigurationError(f"{where}: {_suggestion(key, kind.model_fields)}")
    try:
        config: AnyConfig = _ONE.validate_python(table, context={"base": path.parent})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"][1:])
        given = "" if first["type"] == "missing" else f"={first['input']!r}"
        raise ConfigurationError(f"{where}: {key}{given}: {first['msg']}") from error
    return config


def _suggestion(key: str, known: Any) -> str:  # noqa: ANN401 - any iterable of names
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
    return f"unknown key {key!r}; {hint}"


def catalog_of(
    config: AnyConfig,
    ground_resolution: float,
    cache_dir: Path | None,
    store: ObjectStore | None = None,
    band_count: int = len(NATURAL),
) -> Catalog:
    """Return the catalog a source's configuration describes.

    `cache_dir`: where its index is kept. `store`: what reads its remote files; made when it is not
    given. `band_count`: how many bands the model reads. ConfigurationError when it cannot work,
    SourceUnavailable when its server does not answer.
    """
    reading = reading_of(config, ground_resolution, band_count)
    index = IndexStore(cache_dir / f"index-{config.id}.json", reading) if cache_dir else None
    if isinstance(config, DirectoryConfig):
        return DirectoryCatalog(Path(config.path), reading, index)
    if isinstance(config, StacConfig):
        return _stac_catalog(config, reading, store.reach if store else reach_of(config))
    store = store or store_of(config)

    def listed() -> list[str]:
        if isinstance(config, MosaicConfig):
            return list(in_mosaic(config.url, config.id, store.whole))
        named = in_text(Path(config.list), config.id) if config.list else []
        store.reach.point_at(named)
        return list(checked([*config.urls, *named], config.id))

    return UrlListCatalog(listed, RemoteFiles(store, reading), reading, index)


def reading_of(
    config: AnyConfig, ground_resolution: float, band_count: int = len(NATURAL)
) -> ReadOptions:
    """Return how the images of a source are read; ConfigurationError when it names more or fewer
    bands than the model reads."""
    bands = config.bands if "bands" in config.model_fields_set else None
    if bands is not None and len(bands) != band_count:
        raise ConfigurationError(
            f"source {config.id}: `bands` names {len(bands)} bands, the model reads {band_count}"
        )
    return ReadOptions(
        ground_resolution, bands, config.nodata, config.resampling, config.force, band_count
    )


def store_of(config: RemoteConfig) -> ObjectStore:
    """Return what reads the remote files of a source."""
    limits = ReadLimits(
        config.read_s,
        config.request_s,
        config.retries,
        config.connections,
        cache_bytes=config.cache_mb * 1_000_000,
    )
    reach = reach_of(config)
    return ObjectStore(config.id, access_of(config, reach), limits, reach=reach)


def reach_of(config: RemoteConfig) -> Reach:
    """Return what a source may request: hosts and buckets of the addresses the operator gives, and
    those of `hosts`. A host that tokens are sent to may be read, if the operator says which."""
    pointed_at = [config.endpoint]
    hosts = list(config.hosts)
    if isinstance(config, CogsConfig):
        pointed_at += config.urls
    elif isinstance(config, MosaicConfig | StacConfig):
        pointed_at.append(config.url)
    if isinstance(config, StacConfig):
        pointed_at.append(config.token_url)
        if "token_hosts" in config.model_fields_set:
            hosts += [_below(host) for host in config.token_hosts]
    servers = servers_of(bucket_settings_of(config))
    account = config.account or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    return Reach(pointed_at, hosts, servers=servers, account=account)


def bucket_settings_of(config: RemoteConfig) -> Bucket:
    """Return how the buckets of a source are read."""
    return Bucket(
        config.region,
        config.requester_pays,
        config.endpoint,
        config.profile,
        config.anonymous,
        config.account,
    )


def access_of(config: RemoteConfig, reach: Reach) -> ByScheme:
    """Return what makes its files readable: buckets and signed hosts each by their own way."""
    signed = None
    if isinstance(config, StacConfig) and config.token_url and config.signing != "never":
        tokens = JsonApi(TOKEN_POLICY, reach)
        hosts = config.token_hosts
        signed = SasAuthenticator(config.token_url, config.signing, api=tokens, hosts=hosts)
    return ByScheme(BucketAuthenticator(bucket_settings_of(config)), signed)


def json_api_of(config: RemoteConfig, reach: Reach) -> JsonApi:
    """Return what requests the documents of a source: within the limits of its reads."""
    policy = RetryPolicy(config.retries + 1, config.request_s, config.read_s)
    return JsonApi(policy, reach)


def api_of(config: StacApiConfig, client: JsonApi) -> StacApi:
    """Return the STAC API of a source."""
    return StacApi(config.url, client, Query(config.collection, config.datetime, config.filters))


def _stac_catalog(config: StacConfig, reading: ReadOptions, reach: Reach) -> Catalog:
    client = json_api_of(config, reach)
    if not isinstance(config, StacApiConfig):
        return StaticStacCatalog(
            config.id,
            config.url,
            reading,
            client,
            asset=config.asset,
            expires_s=config.expires_s,
        )
    return StacApiCatalog(
        config.id,
        api_of(config, client),
        reading,
        asset=config.asset,
        bounds=config.bounds,
        expires_s=config.expires_s,
    )
