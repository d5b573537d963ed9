"""What a run learns from: real places and Demo County, split by ground, and their passport."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.card import ModelCard, Training
from model.legend import LEGEND
from training.config import Preset
from training.other_years import through_years
from training.scenes import BANDS, CLASSES, Label, Scene, read_chips, read_county
from training.splits import Split, split_county, split_places

DESCRIPTION = (
    "U-Net of 1,941,351 parameters, trained on photo-interpreted NAIP chips and on "
    "procedural imagery (Demo County)."
)

ATTRIBUTION = (
    "Imagery: USDA National Agriculture Imagery Program (public domain). Training chips from "
    "Ventura et al. 2024, urban-tree-detection-data (CC BY 4.0); locationtech/rasterframes "
    "(Apache-2.0); ermongroup/tile2vec (MIT); stactools (Apache-2.0); Chesapeake Land Cover, "
    "Chesapeake Conservancy, LILA BC (CC0). Labels photo-interpreted for this project."
)


@dataclass(frozen=True)
class Data:
    """Real places and Demo County, each split by ground."""

    real: Split | None
    made: Split | None
    description: str = DESCRIPTION
    attribution: str = ATTRIBUTION

    @property
    def train(self) -> tuple[Scene, ...]:
        """Every scene that may be learned from."""
        return tuple(s for split in (self.real, self.made) if split for s in split.train)

    def counts(self) -> NDArray[np.int64]:
        """Labeled pixels of the classes 1..6 to learn from: int64 (6,)."""
        return sum((s.counts() for s in self.train), np.zeros(CLASSES, np.int64))

    @property
    def validation(self) -> dict[str, tuple[Scene, ...]]:
        """The scenes that checkpoints are chosen by, real and made apart."""
        splits = {"real": self.real, "made": self.made}
        return {name: s.validation for name, s in splits.items() if s and s.validation}


def read_data(
    preset: Preset,
    chips: Path,
    county: Path | None,
    other_years: Path | None = None,
    city: Path | None = None,
) -> Data:
    """Reads and splits `chips` (a chips.csv) and, where given, the folders of Demo County and Demo
    City.

    A preset all of whose crops are made reads no chips, one without made crops no county. What is
    learned from is also read in every other year of which `other_years` has an image.
    """
    real = None
    if preset.made_share < 1 or county is None:
        real = split_places(read_chips(chips, without=preset.left_out), preset)
        if other_years is not None:
            real = with_other_years(real, other_years, preset)
    return Data(real, read_made(preset, county, city))


def read_made(preset: Preset, county: Path | None, city: Path | None = None) -> Split | None:
    """Demo County as the preset splits it, and all of Demo City to learn from; None where no crop
    is made or no folder given.
    """
    if not preset.made_share or county is None:
        return None
    made = split_county(read_county(county), preset)
    if city is None:
        return made
    return replace(made, train=(*made.train, *read_county(city, "demo_city")))


def with_other_years(split: Split, folder: Path, preset: Preset) -> Split:
    """The split with its training ground in every other year of which `folder` has an image.

    The label is that of the labeled year where it still holds, without the pixels near a border
    of two classes.
    """
    others = [
        replace(
            image,
            label=eroded(image.label, preset.transferred_erosion),
            transferred=True,
            name=f"{image.name}:transferred",
        )
        for scene, images in through_years(split.train, folder)
        for year, image in images.items()
        if year != scene.year
    ]
    return replace(split, train=(*split.train, *others))


def eroded(label: Label, by: int) -> Label:
    """The label without the pixels that have another class (not: none) within `by` pixels."""
    framed = np.pad(label, by)
    rows, cols = label.shape
    clear = np.ones(label.shape, np.bool_)
    for down in range(2 * by + 1):
        for right in range(2 * by + 1):
            near = framed[down : down + rows, right : right + cols]
            clear &= (near == 0) | (near == label)
    return np.where(clear, label, 0).astype(np.uint8)


def draft_card(preset: Preset, data: Data) -> ModelCard:
    """The passport before training: normalization from the training imagery, no accuracy yet."""
    mean, std = _radiometry(data)
    return ModelCard(
        name="landcover-unet",
        version="1",
        description=data.description,
        mean=tuple(round(float(m) / 255, 4) for m in mean),
        std=tuple(round(float(s) / 255, 4) for s in std),
        ground_resolution=preset.ground_resolution_m,
        training=Training(
            preset=preset.name,
            seed=preset.seed,
            steps=preset.steps,
            places=tuple(sorted({s.place for s in data.train})),
            pixels={c.name: int(n) for c, n in zip(LEGEND.classes, data.counts(), strict=True)},
            band_mean=tuple(round(float(m), 2) for m in mean),
            band_std=tuple(round(float(s), 2) for s in std),
        ),
        license="MIT",
        attribution=data.attribution,
    )


def digest(data: Data) -> str:
    """SHA-256 over every training and validation pixel and label, in order."""
    sha = hashlib.sha256()
    for scene in (*data.train, *(s for side in data.validation.values() for s in side)):
        sha.update(scene.name.encode())
        sha.update(scene.image.tobytes())
        sha.update(scene.label.tobytes())
    return sha.hexdigest()


def _radiometry(data: Data) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation per band, 0..255, every place weighing the same: float64 (4,)."""
    places: dict[str, list[Scene]] = {}
    for scene in data.train:
        if not scene.transferred:
            places.setdefault(scene.place, []).append(scene)
    means, squares = [], []
    for members in places.values():
        pixels = np.concatenate([s.image.reshape(BANDS, -1) for s in members], axis=1)
        means.append(pixels.mean(axis=1, dtype=np.float64))
        squares.append(np.square(pixels, dtype=np.float64).mean(axis=1))
    mean = np.mean(means, axis=0)
    return mean, np.sqrt(np.mean(squares, axis=0) - mean**2)
