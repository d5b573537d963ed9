"""The data of a run: real and synthetic places, split by ground, and the draft of its card."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.card import ModelCard, Training
from model.legend import LEGEND, Legend
from training.config import Preset
from training.config.legend import is_default
from training.data.imagery import inspect_image, is_image, read_scene
from training.data.other_years import scenes_by_year
from training.data.scenes import Label, Scene, read_chips, read_county
from training.data.splits import Split, share_lines, split_county, split_places
from training.errors import LabelError

DESCRIPTION = (
    "trained on photo-interpreted chips, nearly all NAIP, and on procedural imagery (Demo County)."
)

SUBJECTS = {
    "unet": ("landcover-unet", "U-Net", 1_941_351),
    "fast": ("landcover-fast", "small U-Net at half the resolution", 1_219_999),
}
"""Names in the card of the networks that are served, what they are, and their parameters with the
default bands and legend."""

ATTRIBUTION = (
    "Imagery: USDA National Agriculture Imagery Program (public domain). Training chips from "
    "Ventura et al. 2024, urban-tree-detection-data (CC BY 4.0); locationtech/rasterframes "
    "(Apache-2.0); ermongroup/tile2vec (MIT); stactools (Apache-2.0); plantnet/malpolon (MIT), its "
    "French imagery IGN BD ORTHO (Etalab open license 2.0); bl166/USPowerPlantDataset; Chesapeake "
    "Land Cover, Chesapeake Conservancy, LILA BC (CC0). Labels photo-interpreted for this project."
)


@dataclass(frozen=True)
class Data:
    """Real and synthetic places, each split by ground."""

    real: Split | None
    synthetic: Split | None
    description: str = DESCRIPTION
    attribution: str = ATTRIBUTION
    unlabeled: tuple[Scene, ...] = ()

    @property
    def train(self) -> tuple[Scene, ...]:
        """Return every training scene."""
        return tuple(s for split in (self.real, self.synthetic) if split for s in split.train)

    def counts(self) -> NDArray[np.int64]:
        """Return labeled training pixels of every class: int64 (classes,)."""
        count = len(self.legend.classes)
        return sum((s.counts() for s in self.train), np.zeros(count, np.int64))

    def share_lines(self) -> list[str]:
        """Return the shares of the real sides in words (see `splits.share_lines`)."""
        none = np.zeros(len(self.legend.classes), np.int64)
        real = self.real or Split((), (), ())
        sides = {"training": real.train, "validation": real.validation, "test": real.test}
        counts = {name: sum((s.counts() for s in part), none) for name, part in sides.items()}
        return share_lines(counts, self.legend)

    @property
    def legend(self) -> Legend:
        """Return the legend of the labels."""
        return self.train[0].legend if self.train else LEGEND

    def check(self, preset: Preset) -> None:
        """Raise LabelError, naming the scene, where one has other classes or bands than the
        preset."""
        for scene in (*self.train, *(s for side in self.validation.values() for s in side)):
            if scene.legend != preset.legend:
                raise LabelError(
                    f"{scene.name} is labeled with {[c.name for c in scene.legend.classes]}, the "
                    f"run learns {[c.name for c in preset.legend.classes]}"
                )
            if len(scene.image) != len(preset.bands):
                raise LabelError(
                    f"{scene.name} has {len(scene.image)} bands, the run learns from "
                    f"{', '.join(preset.bands)}"
                )

    @property
    def validation(self) -> dict[str, tuple[Scene, ...]]:
        """Return the scenes that checkpoints are selected by, real and synthetic apart."""
        splits = {"real": self.real, "synthetic": self.synthetic}
        return {name: s.validation for name, s in splits.items() if s and s.validation}


def read_data(
    preset: Preset,
    chips: Path | None,
    county: Path | None,
    other_years: Path | None = None,
    city: Path | None = None,
) -> Data:
    """Read and split `chips` (a chips.csv) and, where given, the folders of Demo County and Demo
    City.

    A preset with synthetic crops only reads no chips, one without them no county. Training ground
    is also read in every other year of which `other_years` has an image. Raises LabelError when
    chips are needed and none are given.
    """
    real = None
    if preset.synthetic_share < 1 or county is None:
        if chips is None:
            raise LabelError(f"preset {preset.name!r} trains on labeled chips: give --chips")
        scenes = read_chips(
            chips, without=preset.left_out, legend=preset.legend, bands=len(preset.bands)
        )
        real = split_places(scenes, preset)
        if other_years is not None:
            real = with_other_years(real, other_years, preset)
    return Data(real, read_synthetic(preset, county, city))


def read_synthetic(preset: Preset, county: Path | None, city: Path | None = None) -> Split | None:
    """Read Demo County as the preset splits it, and all of Demo City for training; None where no
    crop is synthetic or no folder is given.
    """
    if not preset.synthetic_share or county is None:
        return None
    synthetic = split_county(read_county(county), preset)
    if city is None:
        return synthetic
    return replace(synthetic, train=(*synthetic.train, *read_county(city, "demo_city")))


def with_other_years(split: Split, folder: Path, preset: Preset) -> Split:
    """Return the split with its training ground in every other year of which `folder` has an image.

    The label is that of the labeled year where it still holds, without the pixels near a class
    border. Raises LabelError for another legend or other bands than NAIP land cover's: whether a
    label holds is seen by its greenness.
    """
    if not is_default(preset.legend, preset.bands):
        raise LabelError("other years are transferred with the default legend and bands only")
    others = [
        replace(
            image,
            label=eroded(image.label, preset.transferred_erosion),
            transferred=True,
            name=f"{image.name}:transferred",
        )
        for scene, images in scenes_by_year(split.train, folder)
        for year, image in images.items()
        if year != scene.year
    ]
    return replace(split, train=(*split.train, *others))


def eroded(label: Label, by: int) -> Label:
    """Return the label without pixels that have another class (not: none) within `by` pixels."""
    padded = np.pad(label, by)
    rows, cols = label.shape
    clear = np.ones(label.shape, np.bool_)
    for down in range(2 * by + 1):
        for right in range(2 * by + 1):
            near = padded[down : down + rows, right : right + cols]
            clear &= (near == 0) | (near == label)
    return np.where(clear, label, 0).astype(np.uint8)


def draft_card(preset: Preset, data: Data) -> ModelCard:
    """Return the card before training: normalization from the training imagery, no accuracy yet.
    Raises LabelError where legend or bands of a scene are not the preset's.
    """
    data.check(preset)
    mean, std = _band_statistics(data)
    name, subject, parameters = SUBJECTS.get(preset.network, SUBJECTS["unet"])
    if is_default(preset.legend, preset.bands):
        subject = f"{subject} of {parameters:,} parameters"
    if preset.distill:
        subject = f"{subject}, distilled from another model"
    return ModelCard(
        name=name,
        version="1",
        description=f"{subject[0].upper()}{subject[1:]}, {data.description}",
        bands=preset.bands,
        legend=preset.legend,
        mean=tuple(round(float(m) / 255, 4) for m in mean),
        std=tuple(round(float(s) / 255, 4) for s in std),
        ground_resolution=preset.ground_resolution_m,
        training=Training(
            preset=preset.name,
            seed=preset.seed,
            steps=preset.steps,
            places=tuple(sorted({s.place for s in data.train})),
            pixels={
                c.name: int(n) for c, n in zip(preset.legend.classes, data.counts(), strict=True)
            },
            band_mean=tuple(round(float(m), 2) for m in mean),
            band_std=tuple(round(float(s), 2) for s in std),
        ),
        license="MIT",
        attribution=data.attribution,
    )


def digest(data: Data) -> str:
    """Return the SHA-256 over every training and validation pixel and label, in order."""
    sha = hashlib.sha256()
    for scene in (*data.train, *(s for side in data.validation.values() for s in side)):
        sha.update(scene.name.encode())
        sha.update(scene.image.tobytes())
        sha.update(scene.label.tobytes())
    for scene in data.unlabeled:
        sha.update(scene.name.encode())
        sha.update(scene.image.tobytes())
    return sha.hexdigest()


def read_unlabeled(folder: Path, preset: Preset) -> tuple[Scene, ...]:
    """Return every image below a folder as a scene without labels; images that cannot be used, and
    those coarser than any crop is read at, are left out. Raises LabelError when none is left."""
    scenes = []
    coarsest = preset.ground_resolution_m * max(1.0, preset.zoom[1])
    for path in sorted(p for p in folder.rglob("*") if is_image(p)):
        name = path.relative_to(folder).with_suffix("").as_posix()
        try:
            picture = inspect_image(path, name, len(preset.bands))
        except LabelError:
            continue
        # A coarse image covers so much ground that it would be drawn nearly always.
        if picture.resolution > coarsest:
            continue
        label = np.zeros(picture.shape, np.uint8)
        scenes.append(
            read_scene(picture, label, name=name, place="", year="", legend=preset.legend)
        )
    if not scenes:
        raise LabelError(f"no image in {folder} can be used for training")
    return tuple(scenes)


def _band_statistics(data: Data) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation per band, 0..255, places weighted equally: float64
    (bands,)."""
    places: dict[str, list[Scene]] = {}
    for scene in data.train:
        if not scene.transferred:
            places.setdefault(scene.place, []).append(scene)
    means, squares = [], []
    for members in places.values():
        pixels = np.concatenate([s.image.reshape(len(s.image), -1) for s in members], axis=1)
        means.append(pixels.mean(axis=1, dtype=np.float64))
        squares.append(np.square(pixels, dtype=np.float64).mean(axis=1))
    mean = np.mean(means, axis=0)
    return mean, np.sqrt(np.mean(squares, axis=0) - mean**2)
