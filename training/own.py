"""A user's own chips as `fit` and `evaluate` take them: the sides of a split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio

from training.config import Preset
from training.data import Data
from training.errors import SplitError
from training.files import whole
from training.folds import ChipSplit, Sides, SplitSettings, read_split, split_chips
from training.imagery import LABEL, find
from training.labels import label_path
from training.manifest import Manifest, check_files, read_manifest, read_scenes
from training.scenes import BANDS, Scene, read_county
from training.splits import Split, split_county


def read_own(
    folder: Path,
    split: Path | None = None,
    fold: str | None = None,
    *,
    county: Path | None = None,
    preset: Preset | None = None,
    attribution: str = "",
) -> Data:
    """What a run learns from and is judged by while it trains: the chips of `folder` on the sides
    of `split` (a file; without it, as `split` shares them out by default). The test is not read.
    Demo County of the folder `county` is learned from beside, as `preset` splits it.

    Raises ChipError for a damaged folder, SplitError for a split that does not belong to it.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    shared = read_split(split) if split else split_chips(manifest, SplitSettings())
    sides = shared.of(fold)
    place = place_of(shared)
    known = {chip.id for chip in manifest.chips}
    if strange := sorted({*sides.train, *sides.validation} - known):
        raise SplitError(f"{split} is of other chips: {folder} has no chip {strange[0]!r}")
    train, validation = (
        tuple(_placed(read_scenes(folder, manifest, side), side, place))
        for side in (sides.train, sides.validation)
    )
    return Data(
        Split(train, validation, ()),
        split_county(read_county(county), preset) if county and preset else None,
        description="U-Net of 1,941,351 parameters, trained on the user's own labels.",
        attribution=attribution or "Imagery and labels: see the run that trained it.",
    )


def place_of(split: ChipSplit) -> dict[str, str]:
    """The place (or square of ground) of each chip's id."""
    return {chip: name for name, chips in split.places.items() for chip in chips}


def held_out_scenes(
    imagery: Path, labels: Path, manifest: Manifest, split: ChipSplit, sides: Sides
) -> list[Scene]:
    """Whole images that the test's chips were cut from, labeled on the ground of those chips only:
    what is assessed is the served way of reading, on ground that was kept apart.
    """
    place = place_of(split)
    wanted: dict[str, list[tuple[int, int, str]]] = {}
    test = set(sides.test)
    for chip in manifest.chips:
        if chip.id in test:
            wanted.setdefault(chip.scene, []).append((chip.row, chip.col, place[chip.id]))
    scenes = []
    for picture in find(imagery):
        if picture.name not in wanted:
            continue
        with (
            rasterio.open(picture.path) as source,
            rasterio.open(label_path(labels, picture)) as known,
        ):
            image, label = source.read(list(range(1, BANDS + 1))), known.read(1)
        inside = np.zeros(label.shape, bool)
        for row, col, _ in wanted[picture.name]:
            inside[row : row + manifest.size, col : col + manifest.size] = True
        label[~inside | ~picture.valid(image)] = 0
        scenes.append(
            Scene(
                name=picture.name.replace("/", "_"),
                place="+".join(sorted({p for _, _, p in wanted[picture.name]})),
                year=picture.year,
                image=image,
                label=label,
                resolution=picture.resolution,
                epsg=picture.epsg,
                transform=picture.transform,
                path=picture.path,
            )
        )
    return scenes


def write_test_labels(labels: Path, manifest: Manifest, sides: Sides, out: Path) -> list[Path]:
    """Writes the label rasters of the test's ground alone, for `evaluate --image --label`."""
    windows: dict[str, list[tuple[int, int]]] = {}
    test = set(sides.test)
    for chip in manifest.chips:
        if chip.id in test:
            windows.setdefault(chip.scene, []).append((chip.row, chip.col))
    written = []
    for name, corners in windows.items():
        with rasterio.open(labels / f"{name}{LABEL}.tif") as raster:
            profile, label = raster.profile, raster.read(1)
        inside = np.zeros(label.shape, bool)
        for row, col in corners:
            inside[row : row + manifest.size, col : col + manifest.size] = True
        written.append(out / f"{name}{LABEL}.tif")
        with whole(written[-1]) as draft, rasterio.open(draft, "w", **profile) as target:
            target.write(np.where(inside, label, 0).astype(np.uint8), 1)
    return written


def _placed(scenes: Iterable[Scene], side: Iterable[str], place: dict[str, str]) -> Iterable[Scene]:
    """Scenes with the place that the split gave to their first chip."""
    names: dict[str, str] = {}
    for chip in side:
        names.setdefault(chip.rsplit(":", 2)[0], place[chip])
    for scene in scenes:
        yield replace(scene, place=place.get(scene.name, names[scene.name.rsplit(":", 2)[0]]))
