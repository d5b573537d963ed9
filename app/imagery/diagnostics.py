"""Does a source work, and does its imagery look like what the model was trained on?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from app.errors import SourceUnavailable
from app.grid.pixel_grid import PixelGrid
from app.imagery.catalog import Catalog
from app.imagery.reader import Reader
from app.imagery.scene import Scene
from app.imagery.store.object_store import ObjectStore
from model.card import ModelCard
from model.windows import Window

SAMPLES = 4
EDGE = 256
FAR = 2.0
"""Standard deviations between a band's mean and that of training from which it is odd."""

NAMES = ("red", "green", "blue", "near infrared")


@dataclass(frozen=True, slots=True)
class Band:
    """One band of the sample, and how many training standard deviations its mean is off."""

    name: str
    mean: float
    low: float
    high: float
    trained: float
    off: float


@dataclass(slots=True)
class Checkup:
    """What was found. `faults` stop the source from being served, `doubts` do not; each says what
    to do."""

    read_s: float = 0.0
    requests: int = 0
    nbytes: int = 0
    scene: str = ""
    bands: tuple[Band, ...] = ()
    faults: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def examine(
    catalog: Catalog, remote: ObjectStore | None, card: ModelCard, reader: Reader | None = None
) -> Checkup:
    """Reads the middle of a few scenes, the first one timed and counted."""
    found, reader = Checkup(), reader or Reader()
    if not catalog.scenes:
        # An API's scenes are known when somebody has asked for their ground.
        if catalog.unavailable:
            found.faults.append(f"{catalog.unavailable}. {_advice(catalog.unavailable)}")
        return found
    samples = [_middle_of(scene, card.ground_resolution) for scene in _spread(catalog.scenes)]
    before = (remote.stats.requests, remote.stats.bytes) if remote else (0, 0)
    pixels = []
    for number, (scene, grid, window) in enumerate(samples):
        began = time.perf_counter()
        try:
            read = reader.read(scene, grid, window)
        except SourceUnavailable as error:
            found.faults.append(f"{scene.id}: {error.reason}. {_advice(error.reason)}")
            break
        if not number:
            found.read_s, found.scene = time.perf_counter() - began, scene.id
            if remote:
                found.requests = remote.stats.requests - before[0]
                found.nbytes = remote.stats.bytes - before[1]
        pixels.append(read.image[:, read.valid])
    values = np.concatenate(pixels, axis=1) if pixels else np.zeros((4, 0), dtype=np.uint8)
    if values.shape[1]:
        found.bands = _bands(values, card)
        found.doubts += _doubts(values, found.bands, card)
    elif not found.faults:
        found.doubts.append("the sample holds no data: is `nodata` right?")
    return found


def _spread(scenes: Sequence[Scene]) -> list[Scene]:
    """A few scenes, far from each other in the list."""
    steps = np.linspace(0, len(scenes) - 1, min(SAMPLES, len(scenes)))
    return [scenes[round(step)] for step in steps]


def _middle_of(scene: Scene, resolution: float) -> tuple[Scene, PixelGrid, Window]:
    grid = PixelGrid(scene.crs, resolution)
    extent = scene.extent(grid) or grid.touching(scene.bounds)
    cols, rows = min(EDGE, extent.cols), min(EDGE, extent.rows)
    col = extent.col + (extent.cols - cols) // 2
    return scene, grid, Window(col, extent.row + (extent.rows - rows) // 2, cols, rows)


def _trained(card: ModelCard) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of each band in training, 0..255."""
    if card.training.band_mean and card.training.band_std:
        return card.training.band_mean, card.training.band_std
    return [255 * value for value in card.mean], [255 * value for value in card.std]


def _bands(values: npt.NDArray[np.uint8], card: ModelCard) -> tuple[Band, ...]:
    means, stds = _trained(card)
    low, high = np.percentile(values, (2, 98), axis=1)
    return tuple(
        Band(
            name,
            float(values[band].mean()),
            float(low[band]),
            float(high[band]),
            float(means[band]),
            float((values[band].mean() - means[band]) / stds[band]),
        )
        for band, name in enumerate(NAMES)
    )


def _doubts(values: npt.NDArray[np.uint8], bands: tuple[Band, ...], card: ModelCard) -> list[str]:
    doubts = []
    constant = [band.name for band, row in zip(bands, values, strict=True) if np.ptp(row) == 0]
    if constant:
        doubts.append(
            f"{', '.join(constant)} holds one value only: that is no image band (an alpha band, "
            "perhaps). Say in `bands` which bands are red, green, blue and near infrared"
        )
    means, _ = _trained(card)
    given = [band.mean for band in bands]
    turned = (given[1], given[2], given[3], given[0])
    if _distance(turned, means) < 0.5 * _distance(given, means):
        doubts.append("the bands look as if near infrared came first: try bands = [2, 3, 4, 1]")
    for band in bands:
        if abs(band.off) > FAR and band.name not in constant:
            side = "above" if band.off > 0 else "below"
            doubts.append(
                f"{band.name} has a mean of {band.mean:.0f}, {abs(band.off):.1f} standard "
                f"deviations {side} training's {band.trained:.0f}: classes will be less accurate "
                "than the card says; if the image was stretched or is not 8-bit reflectance, "
                "serve the original"
            )
    return doubts


def _distance(values: Sequence[float], means: Sequence[float]) -> float:
    return float(np.abs(np.subtract(values, means)).sum())


ADVICE = {
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
    """What to do about it."""
    return next((do for words, do in ADVICE.items() if words in reason), "See docs/sources.md")
