"""What `landcover doctor` checks: that a source works and its imagery is like the training's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import httpx2
import numpy as np
import numpy.typing as npt

from app.errors import LandcoverError, SourceUnavailable, without_query
from app.grid.pixel_grid import Bounds, PixelGrid
from app.imagery.catalog import Catalog
from app.imagery.catalog.stac_api import WORLD
from app.imagery.catalog.stac_items import StacApi, scene_of_item
from app.imagery.config import (
    AnyConfig,
    StacApiConfig,
    access_of,
    api_of,
    json_api_of,
    reach_of,
    reading_of,
)
from app.imagery.reader import Reader
from app.imagery.scene import ReadOptions, Scene, UnsupportedImage
from app.imagery.store import Authenticator, ByScheme
from app.imagery.store.object_store import ObjectStore
from app.imagery.store.reach import Reach, ReachTransport
from app.resilience import OutOfReach, ServiceError
from model.card import ModelCard
from model.windows import Window

SAMPLES = 4
EDGE = 256
FAR = 2.0
"""Standard deviations between a band's mean and that of training from which it is odd."""

NAMES = ("red", "green", "blue", "near infrared")


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """One band of the sample, and how many training standard deviations its mean is off."""

    name: str
    mean: float
    low: float
    high: float
    trained: float
    off: float


@dataclass(slots=True)
class Checkup:
    """The result of a check. `faults` stop the source from being served, `warnings` do not; each
    says what to do."""

    read_s: float = 0.0
    requests: int = 0
    nbytes: int = 0
    scene: str = ""
    bands: tuple[BandStatistics, ...] = ()
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked; `advice` is what to do when it is not ok."""

    what: str
    ok: bool
    detail: str
    advice: str = ""


def examine(
    catalog: Catalog, store: ObjectStore | None, card: ModelCard, reader: Reader
) -> Checkup:
    """Read the middle of a few scenes, the first one timed and its requests to `store` counted."""
    result = Checkup()
    if not catalog.scenes:
        # An API's scenes are known when somebody has requested their ground.
        if catalog.unavailable:
            result.faults.append(f"{catalog.unavailable}. {_advice(catalog.unavailable)}")
        return result
    samples = [_middle_of(scene, card.ground_resolution) for scene in _spread(catalog.scenes)]
    before = (store.stats.requests, store.stats.bytes) if store else (0, 0)
    pixels = []
    for number, (scene, grid, window) in enumerate(samples):
        began = time.perf_counter()
        try:
            read = reader.read(scene, grid, window)
        except SourceUnavailable as error:
            result.faults.append(f"{scene.id}: {error.reason}. {_advice(error.reason)}")
            break
        if not number:
            result.read_s, result.scene = time.perf_counter() - began, scene.id
            if store:
                result.requests = store.stats.requests - before[0]
                result.nbytes = store.stats.bytes - before[1]
        pixels.append(read.image[:, read.valid])
    values = (
        np.concatenate(pixels, axis=1) if pixels else np.zeros((len(card.bands), 0), dtype=np.uint8)
    )
    if values.shape[1]:
        result.bands = _statistics(values, card)
        result.warnings += _warnings(values, result.bands, card)
    elif not result.faults:
        result.warnings.append("the sample holds no data: is `nodata` right?")
    return result


def findings_of(config: AnyConfig, ground_resolution: float) -> list[Finding]:
    """Return what there is to say of a configured source; nothing of one that is no STAC API."""
    if not isinstance(config, StacApiConfig):
        return []
    return check_stac(config, reading_of(config, ground_resolution))


def check_stac(
    config: StacApiConfig, reading: ReadOptions, bounds: Bounds | None = None
) -> list[Finding]:
    """Return whether the API answers, has the collection, lists an item that can be served, and
    whether its image can be read. Stops at what the rest depends on."""
    reach = reach_of(config)
    client = json_api_of(config, reach)
    try:
        service = api_of(config, client)
        return list(_checked(config, service, reading, reach, bounds or config.bounds or WORLD))
    finally:
        client.close()


def check_image(access: Authenticator, scene: Scene, reach: Reach) -> list[Finding]:
    """Return whether there are credentials or a token, and one scene's first bytes are read."""
    findings = []
    if isinstance(access, ByScheme):
        if scene.href.startswith("s3://"):
            findings += check_s3(access)
        elif access.signed is not None and access.signed.applies(scene.href):
            wrong = access.signed.check(scene.href)
            advice = "see the token service's status; a subscription key raises its limits"
            findings.append(Finding("token", wrong is None, wrong or "obtained", advice))
    return [*findings, _first_bytes(access, scene, reach)]


def check_s3(access: ByScheme) -> list[Finding]:
    """Return whether there are credentials, and who pays where."""
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


def _spread(scenes: Sequence[Scene]) -> list[Scene]:
    """Return a few scenes, far from each other in the list."""
    steps = np.linspace(0, len(scenes) - 1, min(SAMPLES, len(scenes)))
    return [scenes[round(step)] for step in steps]


def _middle_of(scene: Scene, resolution: float) -> tuple[Scene, PixelGrid, Window]:
    grid = PixelGrid(scene.crs, resolution)
    extent = scene.extent(grid) or grid.touching(scene.bounds)
    cols, rows = min(EDGE, extent.cols), min(EDGE, extent.rows)
    col = extent.col + (extent.cols - cols) // 2
    return scene, grid, Window(col, extent.row + (extent.rows - rows) // 2, cols, rows)


def _trained(card: ModelCard) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and standard deviation of each band in training, 0..255."""
    if card.training.band_mean and card.training.band_std:
        return card.training.band_mean, card.training.band_std
    return [255 * value for value in card.mean], [255 * value for value in card.std]


def _statistics(values: npt.NDArray[np.uint8], card: ModelCard) -> tuple[BandStatistics, ...]:
    """`values`: uint8 (bands, pixels)."""
    low, high = np.percentile(values, (2, 98), axis=1)
    mean = values.mean(axis=1)
    names = NAMES if len(card.bands) == len(NAMES) else card.bands
    bands = zip(names, mean, low, high, *_trained(card), strict=True)
    return tuple(
        BandStatistics(
            name,
            float(mean),
            float(low),
            float(high),
            float(trained),
            float((mean - trained) / std),
        )
        for name, mean, low, high, trained, std in bands
    )


def _warnings(
    values: npt.NDArray[np.uint8], bands: tuple[BandStatistics, ...], card: ModelCard
) -> list[str]:
    warnings = []
    constant = [band.name for band, row in zip(bands, values, strict=True) if np.ptp(row) == 0]
    if constant:
        warnings.append(
            f"{', '.join(constant)} holds one value only: that is no image band (an alpha band, "
            "perhaps). Say in `bands` which bands are red, green, blue and near infrared"
        )
    means, _ = _trained(card)
    given = [band.mean for band in bands]
    rotated = (*given[1:], given[0])
    usual = len(given) == len(NAMES)
    if usual and _distance(rotated, means) < 0.5 * _distance(given, means):
        warnings.append("the bands look as if near infrared came first: try bands = [2, 3, 4, 1]")
    for band in bands:
        if abs(band.off) > FAR and band.name not in constant:
            side = "above" if band.off > 0 else "below"
            warnings.append(
                f"{band.name} has a mean of {band.mean:.0f}, {abs(band.off):.1f} standard "
                f"deviations {side} training's {band.trained:.0f}: classes will be less accurate "
                "than the card says; if the image was stretched or is not 8-bit reflectance, "
                "serve the original"
            )
    return warnings


def _distance(values: Sequence[float], means: Sequence[float]) -> float:
    return float(np.abs(np.subtract(values, means)).sum())


ADVICE = {
    "allows it": "List it if you trust it",
    "other credentials": "Check the credentials, `requester_pays`, `region` and `signing`",
    "cannot be signed": "Check the token service and the clock of this machine",
    "vanished": "Take the file off the list, or run `landcover index`",
    "byte ranges": "Serve the files from a server that answers Range requests",
    "in time": "Check the network and any proxy; raise `read_s` when the server is slow",
    "connection failed": "Check the address, the network and any proxy",
    "no such directory": "Mount the disk, or correct `path`",
    "answers 3": "Configure the address that it redirects to",
    "answers 5": "The server is in trouble: try again later",
    "changed": "Run `landcover index`",
    "cannot be read": "The file is damaged: fetch it again",
}


def _advice(reason: str) -> str:
    """Return what to do about it."""
    return next((do for words, do in ADVICE.items() if words in reason), "See docs/sources.md")


def _checked(
    config: StacApiConfig, service: StacApi, reading: ReadOptions, reach: Reach, bounds: Bounds
) -> Iterator[Finding]:
    yield Finding("hosts", True, ", ".join(reach.hosts))
    try:
        collection = service.collection()
    except ServiceError as error:
        advice = "check url and network" if error.status != 404 else "check url and collection"
        yield Finding("API", False, str(error), advice)
        return
    yield Finding("API", True, f"has the collection {collection.get('id', '?')}")
    try:
        item = next(service.items(bounds), None)
    except ServiceError as error:
        yield Finding("search", False, str(error), "try again later")
        return
    try:
        if item is None:
            raise UnsupportedImage("no item in the source's bounds")  # noqa: TRY301
        options = {"asset": config.asset, "base": config.url}
        scene = scene_of_item(item, reading, config.id, **options, refusal=reach.refusal)
    except UnsupportedImage as refusal:
        name = f"{item.get('id') if isinstance(item, dict) else item}: it " if item else ""
        advice = "check collection, asset and datetime"
        yield Finding("item", False, f"{name}{refusal}", advice)
        return
    yield Finding("item", True, f"{scene.id}, {scene.acquired}, {scene.crs}")
    yield from check_image(access_of(config, reach), scene, reach)


def _first_bytes(access: Authenticator, scene: Scene, reach: Reach) -> Finding:
    """Read 16 bytes as the reader does: once more after 401, 403 or 409."""
    shown = without_query(scene.href)
    try:
        status, content, region = _read(access, scene.href, reach, renew=False)
        if status in (401, 403, 409):
            status, content, region = _read(access, scene.href, reach, renew=True)
    except (LandcoverError, OutOfReach) as error:
        return Finding("read", False, str(error), "see above")
    except httpx2.HTTPError as error:
        return Finding("read", False, f"{shown}: {type(error).__name__}", "check the network")
    wrong, advice = "", ""
    buckets = access.buckets if isinstance(access, ByScheme) else None
    if region and buckets is not None and region != buckets.bucket.region:
        wrong, advice = f"is in {region}", f'set region = "{region}"'
    elif status not in (200, 206):
        wrong = f"answers {status}"
        advice = access.advice(scene.href, status) if isinstance(access, ByScheme) else ""
    elif content[:2] not in (b"II", b"MM"):
        wrong, advice = "is not a TIFF", "check the source's asset"
    return Finding("read", not wrong, f"{shown} {wrong or 'answers'}", advice)


def _read(access: Authenticator, href: str, reach: Reach, *, renew: bool) -> tuple[int, bytes, str]:
    """Return (status, up to 16 bytes, the region S3 names); OutOfReach."""
    if (refusal := reach.refusal(href)) is not None:
        raise OutOfReach(refusal)
    address = access.address(href, {"range": "bytes=0-15"}, renew=renew)
    transport = ReachTransport(reach)
    with (
        httpx2.Client(transport=transport, timeout=10, follow_redirects=False) as client,
        client.stream("GET", address.url, headers=dict(address.headers)) as response,
    ):
        first = next(response.iter_raw(16), b"")
        return response.status_code, first[:16], response.headers.get("x-amz-bucket-region", "")
