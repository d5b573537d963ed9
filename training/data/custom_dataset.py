"""A folder of the user's own chips as training, validation and test data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from training.config import Preset
from training.data.chip_splits import ChipSplit, Sides, SplitSettings, read_split, split_chips
from training.data.dataset import Data
from training.data.files import atomic
from training.data.imagery import LABEL, find, read_scene
from training.data.labels import label_path
from training.data.manifest import Chip, Manifest, check_files, read_manifest, read_scenes
from training.data.scenes import Scene, read_county
from training.data.splits import Split, split_county
from training.errors import SplitError


def read_custom(
    folder: Path,
    split: Path | None = None,
    fold: str | None = None,
    *,
    county: Path | None = None,
    preset: Preset | None = None,
    attribution: str = "",
) -> Data:
    """Return the training and validation data of a run: the chips of `folder` by `split` (a file;
    by default a split with the default settings). The test is not read. Demo County in the folder
    `county` is trained on as well, as `preset` splits it.

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
        description="trained on the user's own labels.",
        attribution=attribution or "Imagery and labels: see the run that trained it.",
    )


def place_of(split: ChipSplit) -> dict[str, str]:
    """Return the place (or square of ground) of each chip's id."""
    return {chip: name for name, chips in split.places.items() for chip in chips}


def held_out_scenes(
    imagery: Path, labels: Path, manifest: Manifest, split: ChipSplit, sides: Sides
) -> list[Scene]:
    """Return the whole images of the test's chips, labeled on the ground of those chips only: they
    are evaluated as they are served, on held-out ground.
    """
    place, tested = place_of(split), _test_chips(manifest, sides)
    scenes = []
    for picture in find(imagery, len(manifest.bands)):
        if picture.name not in tested:
            continue
        chips = tested[picture.name]
        with rasterio.open(label_path(labels, picture)) as raster:
            label = raster.read(1)
        scene = read_scene(
            picture,
            label,
            name=picture.name.replace("/", "_"),
            place="+".join(sorted({place[c.id] for c in chips})),
            year=picture.year,
            legend=manifest.legend,
        )
        test = _covered(chips, label.shape, manifest.size) & picture.valid(scene.image)
        scenes.append(replace(scene, label=np.where(test, label, 0).astype(np.uint8)))
    return scenes


def write_test_labels(labels: Path, manifest: Manifest, sides: Sides, out: Path) -> list[Path]:
    """Write the label rasters of the test's ground only, for `evaluate --image --label`."""
    written = []
    for name, chips in _test_chips(manifest, sides).items():
        with rasterio.open(labels / f"{name}{LABEL}.tif") as raster:
            profile, label = raster.profile, raster.read(1)
        inside = _covered(chips, label.shape, manifest.size)
        written.append(out / f"{name}{LABEL}.tif")
        with atomic(written[-1]) as draft, rasterio.open(draft, "w", **profile) as target:
            target.write(np.where(inside, label, 0).astype(np.uint8), 1)
    return written


def _test_chips(manifest: Manifest, sides: Sides) -> dict[str, list[Chip]]:
    """Return the test's chips by the name of their image."""
    test = set(sides.test)
    chips: dict[str, list[Chip]] = {}
    for chip in manifest.chips:
        if chip.id in test:
            chips.setdefault(chip.scene, []).append(chip)
    return chips


def _covered(chips: Iterable[Chip], shape: tuple[int, ...], size: int) -> NDArray[np.bool_]:
    """Return bool (rows, cols), True on the ground of chips."""
    inside = np.zeros(shape, bool)
    for chip in chips:
        inside[chip.row : chip.row + size, chip.col : chip.col + size] = True
    return inside


def _placed(scenes: Iterable[Scene], side: Iterable[str], place: dict[str, str]) -> Iterable[Scene]:
    """Yield scenes with the place that the split gave to their first chip."""
    names: dict[str, str] = {}
    for chip in side:
        names.setdefault(chip.rsplit(":", 2)[0], place[chip])
    for scene in scenes:
        yield replace(scene, place=place.get(scene.name, names[scene.name.rsplit(":", 2)[0]]))
