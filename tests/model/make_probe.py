"""Writes `model/probe/naip.npz`: the real imagery on which engines are compared when one starts.

Eight windows of 144 × 144 px at 1 m from the labeled chips of `../shared/data`, one of each kind of
place; no model was trained on the first four. Run: `python tests/model/make_probe.py [data]`.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import Resampling

SIZE = 144
CHIPS = (
    "us_florida",
    "us_suburb",
    "az330_a",
    "ca438_a",
    "chico_2018_17",
    "claremont_2016_59",
    "long_beach_2018_44",
    "palm_springs_2020_36",
)
PROBE = Path(__file__).parents[2] / "model" / "probe" / "naip.npz"

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def probe_of(data: Path) -> Arrays:
    """Return images, uint8 (8, 4, 144, 144), and labels, uint8 (8, 144, 144), 0 = unlabeled.

    `data`: the folder that holds `labels/chips.csv`.
    """
    folder = data / "labels"
    with (folder / "chips.csv").open(newline="") as lines:
        rows = {Path(row["image"]).stem: row for row in csv.DictReader(lines)}
    parts = [_window(folder, rows[chip]) for chip in CHIPS]
    return np.stack([image for image, _ in parts]), np.stack([label for _, label in parts])


def write(data: Path, path: Path = PROBE) -> None:
    """Write the probe to `path`."""
    images, labels = probe_of(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, images=images, labels=labels)


def _window(folder: Path, row: dict[str, str]) -> Arrays:
    """The middle of a chip at 1 m: the image averaged, the label by nearest neighbor."""
    with (
        rasterio.open(folder / row["image"]) as image,
        rasterio.open(folder / row["label"]) as kept,
    ):
        size = round(image.width * float(row["resolution_m"]))
        start = (size - SIZE) // 2
        middle = slice(start, start + SIZE)
        shape, average = (size, size), Resampling.average
        pixels = image.read(indexes=(1, 2, 3, 4), out_shape=(4, *shape), resampling=average)
        label = kept.read(1, out_shape=shape, resampling=Resampling.nearest)
    return pixels[:, middle, middle], label[middle, middle]


if __name__ == "__main__":
    write(Path(sys.argv[1] if sys.argv[1:] else "../shared/data"))
