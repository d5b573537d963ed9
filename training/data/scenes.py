"""Labeled imagery in memory: the chips of a list (chips.csv), Demo County and Demo City.

A scene keeps its own pixels; the resolution of a crop is decided when the crop is drawn.
Bands are red, green, blue, near infrared unless a run names others; labels are 0 (unlabeled) and
the legend's values.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.coords import BoundingBox
from rasterio.windows import Window

from model.legend import LEGEND, Legend
from training.errors import LabelError

BANDS = 4
CLASSES = len(LEGEND.classes)
BUILDINGS, ROADS, WATER, BARE, FOREST, PLANTED = LEGEND.values

Image = NDArray[np.uint8]
Label = NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """A labeled image.

    image: uint8 (bands, rows, cols). label: uint8 (rows, cols), 0 = unlabeled, else a value of the
    legend.
    resolution: ground meters per pixel. epsg and transform locate it; epsg is None where the
    position is unknown (`transform` is then meaningless). path: the file, when the scene is all of
    it. transferred: the label was drawn on an image of another year.
    """

    name: str
    place: str
    year: str
    image: Image
    label: Label
    resolution: float
    epsg: int | None
    transform: Affine
    synthetic: bool = False
    transferred: bool = False
    path: Path | None = None
    legend: Legend = LEGEND

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.label.dtype != np.uint8:
            raise LabelError(
                f"{self.name}: image {self.image.dtype} and label {self.label.dtype} must be uint8"
            )
        if self.image.ndim != 3:
            raise LabelError(
                f"{self.name}: image is {self.image.shape}, expected bands, rows, cols"
            )
        if self.image.shape[1:] != self.label.shape:
            raise LabelError(
                f"{self.name}: image is {self.image.shape[1:]} pixels, label {self.label.shape}"
            )
        if self.transform.b or self.transform.d:
            raise LabelError(f"{self.name}: the image is rotated; north must be up")
        if (highest := self.label.max(initial=0)) > (most := len(self.legend.classes)):
            raise LabelError(f"{self.name}: label {highest} is not one of 0..{most}")

    @property
    def bounds(self) -> BoundingBox:
        """Return the extent: left, bottom, right, top in meters of its CRS."""
        rows, cols = self.label.shape
        t = self.transform
        return BoundingBox(t.c, t.f + rows * t.e, t.c + cols * t.a, t.f)

    def counts(self) -> NDArray[np.int64]:
        """Return labeled pixels of every class: int64 (classes,)."""
        count = len(self.legend.classes)
        return np.bincount(self.label.ravel(), minlength=count + 1)[1 : count + 1]

    def window(self, row: int, col: int, rows: int, cols: int, suffix: str = "") -> Scene:
        """Return the part of `rows` x `cols` pixels whose upper-left pixel is (row, col)."""
        part = (slice(row, row + rows), slice(col, col + cols))
        t = self.transform
        return replace(
            self,
            name=self.name + suffix,
            image=self.image[:, part[0], part[1]],
            label=self.label[part],
            path=None,
            transform=Affine(t.a, 0.0, t.c + col * t.a, 0.0, t.e, t.f + row * t.e),
        )


def read_chips(
    index: Path, without: Iterable[str] = (), *, legend: Legend = LEGEND, bands: int = BANDS
) -> list[Scene]:
    """Return the chips of a list as scenes with that many bands; places in `without` are not
    opened.

    Raises LabelError naming the file that is missing or does not fit.
    """
    left_out = set(without)
    return [
        _read(
            index.parent / row["image"],
            index.parent / row["label"],
            place=row["place"],
            year=row["year"],
            resolution=float(row["resolution_m"]),
            legend=legend,
            bands=bands,
        )
        for row in chip_list(index)
        if row["place"] not in left_out
    ]


def chip_list(index: Path) -> list[dict[str, str]]:
    """Return the rows of a list of labeled chips: place, image, label, resolution_m, epsg, year;
    paths are relative to the folder of `index`. LabelError when it is missing or lacks a column.
    """
    if not index.is_file():
        raise LabelError(f"no list of chips at {index}")
    with index.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        columns = {"place", "image", "label", "resolution_m", "year"}
        if missing := sorted(columns - set(reader.fieldnames or ())):
            raise LabelError(f"{index} has no column {', '.join(missing)}")
        return list(reader)


def read_county(folder: Path, place: str = "demo_county") -> list[Scene]:
    """Return Demo County: `<year>/<stem>.tif` with `truth/<stem>_label.tif`; all years, sorted by
    name. Demo City has the same folders.

    Raises LabelError when the folder has no such pair, or a scene has no truth.
    """
    images = sorted(p for p in folder.glob("*/*.tif") if re.fullmatch(r"\d{4}", p.parent.name))
    if not images:
        raise LabelError(
            f"no <year>/<stem>.tif in {folder}; write it with: landcover demo --write-only"
        )
    scenes = []
    for path in images:
        truth = folder / "truth" / f"{path.stem}_label.tif"
        scene = _read(path, truth, place=place, year=path.parent.name, resolution=None)
        scenes.append(replace(scene, synthetic=True))
    return scenes


def quarter(scene: Scene) -> str:
    """Return the quarter of a NAIP file name (`m_3308712_se_16_1_...`): nw, ne, sw, se or ''."""
    result = re.search(r"_(nw|ne|sw|se)_", scene.name)
    return result.group(1) if result else ""


def _read(
    image_path: Path,
    label_path: Path,
    place: str,
    year: str,
    resolution: float | None,
    legend: Legend = LEGEND,
    bands: int = BANDS,
) -> Scene:
    for path in (image_path, label_path):
        if not path.is_file():
            raise LabelError(f"{path} is missing")
    with rasterio.open(image_path) as source, rasterio.open(label_path) as labels:
        if source.count < bands:
            raise LabelError(f"{image_path} has {source.count} bands, {bands} are needed")
        if labels.shape != source.shape:
            raise LabelError(f"{label_path} is {labels.shape}, its image {source.shape}")
        label = labels.read(1)
        if label.dtype != np.uint8:
            raise LabelError(f"{label_path} is {label.dtype}, uint8 is needed")
        image = source.read(list(range(1, bands + 1)), window=Window(0, 0, *source.shape[::-1]))
        # Collars hold no imagery: all bands at zero.
        label[(label > len(legend.classes)) | (image == 0).all(axis=0)] = 0
        return Scene(
            name=image_path.stem,
            place=place,
            year=year,
            image=image,
            label=label,
            resolution=resolution or abs(source.transform.a),
            epsg=source.crs.to_epsg() if source.crs else None,
            transform=source.transform,
            path=image_path,
            legend=legend,
        )
