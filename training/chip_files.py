"""Chips on disk: one HDF5 file for each class, each chip once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from model.legend import LEGEND
from training.files import check_room
from training.imagery import Picture
from training.lattice import ChipSettings, strips
from training.manifest import Chip
from training.progress import Advance
from training.scenes import BANDS, CLASSES

RESERVE = 2**18
"""Bytes kept free while HDF5 files are open: what they still hold is written when they close."""


@dataclass(frozen=True)
class Found:
    """A chip that is kept: its scene's number, its upper-left pixel, pixels of the classes 1..6."""

    scene: int
    row: int
    col: int
    pixels: tuple[int, ...]


def store(
    pictures: Sequence[Picture],
    labels: Path,
    settings: ChipSettings,
    found: Sequence[Found],
    order: Sequence[int],
    folder: Path,
    advance: Advance,
) -> list[Chip]:
    """Stores the chips, image by image and strip by strip, and says where each lies."""
    size = settings.size
    homes = [next(v for v in order if chip.pixels[v - 1]) for chip in found]
    sizes = np.bincount(homes, minlength=CLASSES + 1)
    filled = [0] * (CLASSES + 1)
    stored: list[Chip] = []
    by_strip: dict[tuple[int, int], list[int]] = {}
    for index, chip in enumerate(found):
        by_strip.setdefault((chip.scene, chip.row), []).append(index)
    with ExitStack() as stack:
        files = {
            v: stack.enter_context(_new_file(folder / file_name(v), int(sizes[v]), size))
            for v in LEGEND.values
        }
        for number, picture in enumerate(pictures):
            rows = sorted(row for scene, row in by_strip if scene == number)
            for top, image, label in strips(picture, labels, settings, rows):
                check_room(folder, RESERVE + len(by_strip[number, top]) * (BANDS + 1) * size**2)
                for index in by_strip[number, top]:
                    chip, home = found[index], homes[index]
                    across = slice(chip.col, chip.col + size)
                    files[home]["image"][filled[home]] = image[:, :, across]
                    files[home]["label"][filled[home]] = label[:, across]
                    stored.append(
                        Chip(
                            scene=picture.name, row=chip.row, col=chip.col,
                            file=file_name(home), index=filled[home], pixels=chip.pixels,
                        )
                    )  # fmt: skip
                    filled[home] += 1
                advance(0.3 + 0.7 * len(stored) / len(found))
    return stored


def file_name(value: int) -> str:
    """The HDF5 file of a class, e.g. `3_water.h5`."""
    return f"{value}_{LEGEND[value].name}.h5"


def _new_file(path: Path, chips: int, size: int) -> h5py.File:
    file = h5py.File(path, "w", track_order=False)
    for name, shape in (("image", (BANDS, size, size)), ("label", (size, size))):
        file.create_dataset(
            name,
            shape=(chips, *shape),
            dtype=np.uint8,
            chunks=(1, *shape) if chips else None,
            compression="gzip" if chips else None,
            compression_opts=1 if chips else None,
            track_times=False,
        )
    file["image"].attrs["axes"] = "chip, band (red, green, blue, near infrared), row, column"
    file["label"].attrs["axes"] = "chip, row, column; 0 unlabeled"
    return file
