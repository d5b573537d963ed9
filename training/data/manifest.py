"""A folder of chips on disk: its manifest, and the scenes reassembled from its chips.

Chips overlap; ground that they cover without a gap becomes one scene, so that every pixel of the
imagery is in memory once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import h5py
import numpy as np
from affine import Affine
from pydantic import ValidationError

from model.legend import LEGEND
from training.config.base import StrictModel
from training.config.legend import DEFAULT_BANDS, Bands, OwnLegend
from training.data.files import sha256
from training.data.scenes import Scene
from training.errors import ChipError

MANIFEST = "manifest.json"


class Chip(StrictModel):
    """A chip: the upper-left pixel in its scene, where it is stored, pixels of every class."""

    scene: str
    row: int
    col: int
    file: str
    index: int
    pixels: tuple[int, ...]

    @property
    def id(self) -> str:
        return f"{self.scene}:{self.row}:{self.col}"


class ChipScene(StrictModel):
    """The image that chips were cut from. shape: rows, cols; transform: affine a..f."""

    name: str
    place: str
    year: str
    epsg: int | None
    resolution: float
    transform: tuple[float, ...]
    shape: tuple[int, int]
    image_sha256: str
    label_sha256: str


class ClassFile(StrictModel):
    """A class: its file, the chips stored there, and the chips (and their pixels) that contain it,
    wherever stored. Pixels in the overlap of chips count in each.
    """

    value: int
    name: str
    file: str
    sha256: str
    stored: int
    chips: int
    pixels: int


class Manifest(StrictModel):
    """The contents of a folder of chips. with_labels: windows with any label; dropped: those of
    them with too much background.
    """

    size: int
    stride: int
    max_background: float
    with_labels: int
    dropped: int
    classes: tuple[ClassFile, ...]
    warnings: tuple[str, ...]
    scenes: tuple[ChipScene, ...]
    chips: tuple[Chip, ...]
    legend: OwnLegend = LEGEND
    bands: Bands = DEFAULT_BANDS

    @property
    def by_name(self) -> dict[str, ChipScene]:
        return {scene.name: scene for scene in self.scenes}


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder. Raises ChipError when it has none, or an unreadable one."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ChipError(f"no chips in {folder}: it has no {MANIFEST}")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ChipError(f"{path} cannot be read: {error}") from error


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise ChipError naming a class file that is missing, truncated or changed."""
    for c in manifest.classes:
        path = folder / c.file
        if not path.is_file():
            raise ChipError(f"{path} is missing; cut the chips anew")
        if (result := sha256(path)) != c.sha256:
            raise ChipError(
                f"{path} is truncated or changed: its SHA-256 is {result[:12]}…, the manifest says "
                f"{c.sha256[:12]}…; cut the chips anew"
            )


def read_scenes(folder: Path, manifest: Manifest, wanted: Collection[str]) -> list[Scene]:
    """Reassemble the chips whose ids are `wanted`: one scene for each piece of ground that they
    cover without a gap, named `<image>:<row>:<col>`. Call `check_files` first.

    Pixels of a scene's rectangle that are in no chip are 0 and unlabeled.
    """
    ids = set(wanted)
    by_scene: dict[str, list[Chip]] = {}
    for chip in manifest.chips:
        if chip.id in ids:
            by_scene.setdefault(chip.scene, []).append(chip)
    scenes: list[Scene] = []
    for name, chips in by_scene.items():
        source = manifest.by_name[name]
        scenes += [
            _assemble(folder, source, piece, manifest) for piece in _pieces(chips, manifest.size)
        ]
    return scenes


def _pieces(chips: list[Chip], size: int) -> Iterable[list[Chip]]:
    """Group the chips of one scene by whether they overlap or share an edge."""
    at = {(c.row, c.col): i for i, c in enumerate(chips)}
    rows, cols = (np.array([getattr(c, axis) for c in chips]) for axis in ("row", "col"))
    pairs = []
    for i in range(len(at)):
        near = (abs(rows - rows[i]) <= size) & (abs(cols - cols[i]) <= size)
        near &= (abs(rows - rows[i]) < size) | (abs(cols - cols[i]) < size)
        pairs += [(i, int(j)) for j in np.flatnonzero(near) if j > i]
    return [[chips[i] for i in members] for members in connected_components(len(chips), pairs)]


def _assemble(folder: Path, source: ChipScene, chips: list[Chip], manifest: Manifest) -> Scene:
    size = manifest.size
    top, left = min(c.row for c in chips), min(c.col for c in chips)
    bottom = min(max(c.row for c in chips) + size, source.shape[0])
    right = min(max(c.col for c in chips) + size, source.shape[1])
    image = np.zeros((len(manifest.bands), bottom - top, right - left), np.uint8)
    label = np.zeros((bottom - top, right - left), np.uint8)
    for name in sorted({c.file for c in chips}):
        with h5py.File(folder / name) as file:
            for chip in chips:
                if chip.file != name:
                    continue
                row, col = chip.row - top, chip.col - left
                rows, cols = min(size, bottom - chip.row), min(size, right - chip.col)
                part = (slice(row, row + rows), slice(col, col + cols))
                image[:, part[0], part[1]] = file["image"][chip.index, :, :rows, :cols]
                label[part] = file["label"][chip.index, :rows, :cols]
    a, b, c, d, e, f = source.transform
    return Scene(
        name=f"{source.name}:{top}:{left}",
        place=source.place,
        year=source.year,
        image=image,
        label=label,
        resolution=source.resolution,
        epsg=source.epsg,
        transform=Affine(a, b, c + left * a, d, e, f + top * e),
        legend=manifest.legend,
    )


def connected_components(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Group the numbers 0..count-1 so that both of a pair are in one group; groups and their
    members are in ascending order.
    """
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in pairs:
        a, b = root(a), root(b)  # noqa: PLW2901
        parent[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for i in range(count):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())
