"""The same ground in other years, and what a label drawn in one of them is in another.

NAIP is flown in spring in one year and in late summer in another: what was bare in one is green in
the next. No model is asked whether a label still holds, only the imagery: how green the ground is
between the roofs and roads of that place and year (0) and its trees (1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from training.errors import AssessmentError
from training.scenes import BANDS, BARE, BUILDINGS, FOREST, PLANTED, ROADS, Image, Label, Scene

NAME = re.compile(r"(?P<place>.+)_(?P<year>\d{4})_(?P<number>\d+)")
"""File names of one piece of ground differ in the year only: `claremont_2016_0`."""

MIN_PIXELS = 500
"""Labeled pixels of roofs and roads, and of trees, that a place needs for a scale."""

MIN_SPREAD = 0.1
"""Vegetation index between them: with less than that nothing can be told apart."""

AROUND = 5
"""Side in pixels of the square whose mean is compared: years lie meters off each other."""

GREEN, DRY, CHANGE = 0.5, 0.35, 0.25
"""Bare ground above GREEN is planted, planted ground under DRY is bare, where it differs by CHANGE
from the year that the label was drawn for."""


@dataclass(frozen=True)
class Greenness:
    """The scale of one place in one year: median vegetation index of its roofs and roads, and of
    its trees. (NIR - red) / (NIR + red), Rouse et al. 1974.
    """

    built: float
    trees: float

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> Greenness | None:
        """The scale of scenes of one place and year, or None where their labels do not give one."""
        index = [_index(s.image) for s in scenes]
        built, trees = (
            np.concatenate([i[np.isin(s.label, group)] for i, s in zip(index, scenes, strict=True)])
            for group in ((BUILDINGS, ROADS), (FOREST,))
        )
        if min(built.size, trees.size) < MIN_PIXELS:
            return None
        scale = cls(float(np.median(built)), float(np.median(trees)))
        return scale if scale.trees - scale.built >= MIN_SPREAD else None

    def on(self, image: Image) -> NDArray[np.float32]:
        """uint8 (4, rows, cols) to float32 (rows, cols): 0 like roofs and roads, 1 like trees."""
        return (_index(image) - np.float32(self.built)) / np.float32(self.trees - self.built)


def turned(label: Label, drawn: NDArray[np.float32], now: NDArray[np.float32]) -> Label:
    """The label in another year: uint8 (rows, cols). Bare ground that turned green is planted,
    planted ground that dried out is bare; what was built or felled is not found.

    drawn, now: greenness (rows, cols) in the year that the label was drawn for, and in the other.
    """
    greened = (label == BARE) & (now > GREEN) & (now - drawn > CHANGE)
    dried = (label == PLANTED) & (now < DRY) & (drawn - now > CHANGE)
    return np.where(greened, PLANTED, np.where(dried, BARE, label)).astype(np.uint8)


def through_years(
    scenes: Sequence[Scene], folder: Path
) -> Iterator[tuple[Scene, dict[str, Scene]]]:
    """Every scene and what `images_of` finds of it, years ascending, each with the label as the
    ground had `turned` in that year. The scale of a place is that of all its `scenes`; without one
    every label is left as it is.
    """
    for place in sorted({s.place for s in scenes}):
        found = [(s, images_of(s, folder)) for s in scenes if s.place == place]
        years = sorted({year for _, images in found for year in images})
        scales = {
            year: Greenness.of([images[year] for _, images in found if year in images])
            for year in years
        }
        for scene, images in found:
            green = {
                year: scale.on(image.image)
                for year, image in images.items()
                if (scale := scales[year]) is not None
            }
            if (drawn := green.pop(scene.year, None)) is not None:
                for year, now in green.items():
                    label = turned(scene.label, drawn, now)
                    images[year] = replace(images[year], label=label)
            yield scene, dict(sorted(images.items()))


def images_of(scene: Scene, folder: Path) -> dict[str, Scene]:
    """The scene and its other years in `folder`, by year; each with the scene's label.

    A scene whose name holds no year has none. Raises AssessmentError for an image that does not
    lie on the scene's pixels.
    """
    found = {scene.year: scene}
    name = NAME.fullmatch(scene.name)
    if name is None:
        return found
    for path in sorted(folder.glob(f"{name['place']}_[0-9][0-9][0-9][0-9]_{name['number']}.tif")):
        other = NAME.fullmatch(path.stem)
        if other is None or other["year"] == scene.year:
            continue
        with rasterio.open(path) as source:
            if source.shape != scene.label.shape or not source.transform.almost_equals(
                scene.transform, 0.01 * scene.resolution
            ):
                raise AssessmentError(f"{path} does not lie on the pixels of {scene.name}")
            image = source.read(list(range(1, BANDS + 1)))
        found[other["year"]] = replace(
            scene, name=path.stem, year=other["year"], image=image, path=path
        )
    return found


def _index(image: Image) -> NDArray[np.float32]:
    """Vegetation index of AROUND x AROUND means: float32 (rows, cols), -1..1."""
    red, infrared = _mean(image[0]), _mean(image[3])
    index: NDArray[np.float32] = (infrared - red) / np.maximum(infrared + red, 1)
    return index


def _mean(band: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean of the square around every pixel, edges repeated, by differences of running sums."""
    framed = np.pad(band, AROUND // 2, mode="edge").astype(np.float64)
    sums = np.pad(framed, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    n = AROUND
    square = sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]
    mean: NDArray[np.float32] = (square / (n * n)).astype(np.float32)
    return mean
