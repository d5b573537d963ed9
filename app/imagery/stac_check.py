"""What `landcover doctor` says of a source on STAC or S3: asked of the services themselves."""

from __future__ import annotations

from dataclasses import dataclass

import httpx2

from app.errors import LandcoverError
from app.grid.pixel_grid import Bounds
from app.imagery.build import access_of, reading_of
from app.imagery.catalog.stac_api import WORLD
from app.imagery.catalog.stac_items import scene_of_item
from app.imagery.catalog.stac_search import Query, StacApi
from app.imagery.config import AnyConfig, StacApiConfig
from app.imagery.hrefs import without_query
from app.imagery.scene import ReadOptions, Scene, UnsupportedImage
from app.imagery.store import Authenticator, ByScheme
from app.imagery.store.json_api import ApiError, JsonApi
from app.imagery.store.object_store import ObjectStore


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` is what to do when it is not well."""

    what: str
    well: bool
    detail: str
    advice: str = ""


def check_stac(
    config: StacApiConfig, reading: ReadOptions, access: Authenticator, bounds: Bounds | None = None
) -> list[Finding]:
    """Whether the API answers, has the collection, lists an item that can be served, and whether
    its image can be read. Stops at what the rest depends on."""
    api = JsonApi()
    try:
        return _checked(config, reading, access, api, bounds or config.bounds or WORLD)
    finally:
        api.close()


def check_image(access: Authenticator, scene: Scene) -> list[Finding]:
    """Whether credentials or a token can be had, and the first bytes of one scene read."""
    findings = []
    if isinstance(access, ByScheme):
        if scene.href.startswith("s3://"):
            findings += check_s3(access)
        elif access.signed is not None and access.signed.applies(scene.href):
            wrong = access.signed.check(scene.href)
            advice = "see the token service's status; a subscription key raises its limits"
            findings.append(Finding("token", wrong is None, wrong or "obtained", advice))
    return [*findings, _first_bytes(access, scene)]


def check_s3(access: ByScheme) -> list[Finding]:
    """Whether there are credentials, and who pays where."""
    assert access.buckets is not None  # noqa: S101 - a configured source has them
    bucket = access.buckets.bucket
    try:
        wrong = access.buckets.check("s3://bucket/key")
    except LandcoverError as error:
        wrong = str(error)
    payer = "your account pays" if bucket.requester_pays else "requester_pays is off"
    return [
        Finding("S3 credentials", wrong is None, wrong or "found", "set them, or anonymous = true"),
        Finding("S3 region", True, f"{bucket.region}; {payer}"),
    ]


def findings_of(config: AnyConfig, ground_resolution: float) -> list[Finding]:
    """What there is to say of a configured source; nothing of one that is no STAC API."""
    if not isinstance(config, StacApiConfig):
        return []
    return check_stac(config, reading_of(config, ground_resolution), access_of(config))


def _checked(
    config: StacApiConfig, reading: ReadOptions, access: Authenticator, api: JsonApi, bounds: Bounds
) -> list[Finding]:
    service = StacApi(config.url, api, Query(config.collection, config.datetime, config.filters))
    try:
        collection = service.collection()
    except ApiError as error:
        advice = "check url and network" if error.status != 404 else "check url and collection"
        return [Finding("API", False, str(error), advice)]
    findings = [Finding("API", True, f"has the collection {collection.get('id', '?')}")]
    refused = ""
    try:
        for item in service.items(bounds):
            try:
                scene = scene_of_item(
                    item,
                    reading,
                    ObjectStore(config.id, access),
                    asset=config.asset,
                    base=config.url,
                )
            except UnsupportedImage as refusal:
                refused = f"{item.get('id') if isinstance(item, dict) else item}: it {refusal}"
                break
            findings.append(Finding("item", True, f"{scene.id}, {scene.acquired}, {scene.crs}"))
            return findings + check_image(access, scene)
    except ApiError as error:
        return [*findings, Finding("search", False, str(error), "try again later")]
    detail = refused or "no item in the source's bounds"
    return [*findings, Finding("item", False, detail, "check collection, asset and datetime")]


def _first_bytes(access: Authenticator, scene: Scene) -> Finding:
    """A read of 16 bytes as the reader does it: once more after 401, 403 or 409."""
    shown = without_query(scene.href)
    try:
        status, content, region = _read(access, scene.href, renew=False)
        if status in (401, 403, 409):
            status, content, region = _read(access, scene.href, renew=True)
    except LandcoverError as error:
        return Finding("read", False, str(error), "see above")
    except httpx2.HTTPError as error:
        return Finding("read", False, f"{shown}: {type(error).__name__}", "check the network")
    buckets = access.buckets if isinstance(access, ByScheme) else None
    if region and buckets is not None and region != buckets.bucket.region:
        return Finding("read", False, f"{shown} is in {region}", f'set region = "{region}"')
    if status not in (200, 206):
        advice = access.advice(scene.href, status) if isinstance(access, ByScheme) else ""
        return Finding("read", False, f"{shown} answers {status}", advice)
    if content[:2] not in (b"II", b"MM"):
        return Finding("read", False, f"{shown} is not a TIFF", "check the source's asset")
    return Finding("read", True, f"{shown} answers")


def _read(access: Authenticator, href: str, *, renew: bool) -> tuple[int, bytes, str]:
    """(status, up to 16 bytes, the region S3 names)."""
    address = access.address(href, {"range": "bytes=0-15"}, renew=renew)
    with (
        httpx2.Client(timeout=10, follow_redirects=False) as client,
        client.stream("GET", address.url, headers=dict(address.headers)) as response,
    ):
        first = next(response.iter_raw(16), b"")
        return response.status_code, first[:16], response.headers.get("x-amz-bucket-region", "")
