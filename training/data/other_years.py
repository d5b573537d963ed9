"""The same ground in other years, and the label of one year transferred to another.

NAIP is flown in spring in one year and in late summer in another, so that bare ground can be green
in the next year. Only the imagery, never a model, decides whether a label still holds: greenness on
a scale from the roofs and roads of that place and year (0) to its trees (1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from training.data.scenes import BANDS, BARE, BUILDINGS, FOREST, PLANTED, ROADS, Image, Label, Scene
from training.errors import AssessmentError

NAME = re.compile(r"(?P<place>.+)_(?P<year>\d{4})_(?P<number>\d+)")
"""File names of the same ground differ only in the year: `claremont_2016_0`."""

MIN_PIXELS = 500
"""Labeled pixels of roofs and roads, and of trees, that a scale needs."""

MIN_SPREAD = 0.1
"""Least difference of vegetation index between them: with less, change is not detectable."""

WINDOW = 5
"""Side in pixels of the window whose mean is compared: years are misregistered by meters."""

GREEN, DRY, CHANGE = 0.5, 0.35, 0.25
"""Bare ground above GREEN becomes planted, planted ground below DRY becomes bare, where greenness
differs by CHANGE from the year of the label."""


@dataclass(frozen=True)
class Greenness:
    """The greenness scale of a place in a year: median vegetation index of its roofs and roads, and
    of its trees. (NIR - red) / (NIR + red), Rouse et al. 1974.
    """

    built: float
    trees: float

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> Greenness | None:
        """Return the scale of scenes of one place and year, None where their labels give none."""
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
        """Return the greenness of uint8 (4, rows, cols): float32 (rows, cols), 0 roofs, 1 trees."""
        return (_index(image) - np.float32(self.built)) / np.float32(self.trees - self.built)


def relabeled(label: Label, drawn: NDArray[np.float32], now: NDArray[np.float32]) -> Label:
    """Return the label in another year: uint8 (rows, cols). Bare ground that turned green becomes
    planted, planted ground that dried out becomes bare; construction and clearing are not detected.

    drawn, now: greenness (rows, cols) in the year of the label, and in the other.
    """
    greened = (label == BARE) & (now > GREEN) & (now - drawn > CHANGE)
    dried = (label == PLANTED) & (now < DRY) & (drawn - now > CHANGE)
    return np.where(greened, PLANTED, np.where(dried, BARE, label)).astype(np.uint8)


def scenes_by_year(
    scenes: Sequence[Scene], folder: Path
) -> Iterator[tuple[Scene, dict[str, Scene]]]:
    """Yield every scene and its `images_by_year`, years ascending, each with the label of that year
    (`relabeled`). The scale of a place is that of all its `scenes`; without one labels stay as they
    are.
    """
    for place in sorted({s.place for s in scenes}):
        result = [(s, images_by_year(s, folder)) for s in scenes if s.place == place]
        years = sorted({year for _, images in result for year in images})
        scales = {
            year: Greenness.of([images[year] for _, images in result if year in images])
            for year in years
        }
        for scene, images in result:
            green = {
                year: scale.on(image.image)
                for year, image in images.items()
                if (scale := scales[year]) is not None
            }
            if (drawn := green.pop(scene.year, None)) is not None:
                for year, now in green.items():
                    label = relabeled(scene.label, drawn, now)
                    images[year] = replace(images[year], label=label)
            yield scene, dict(sorted(images.items()))


def images_by_year(scene: Scene, folder: Path) -> dict[str, Scene]:
    """Return the scene and its other years in `folder`, by year, each with the scene's label.

    A scene whose name has no year has none. Raises AssessmentError for an image that is not on the
    scene's pixels.
    """
    result = {scene.year: scene}
    name = NAME.fullmatch(scene.name)
    if name is None:
        return result
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
        result[other["year"]] = replace(
            scene, name=path.stem, year=other["year"], image=image, path=path
        )
    return result


def _index(image: Image) -> NDArray[np.float32]:
    """Return the vegetation index of WINDOW x WINDOW means: float32 (rows, cols), -1..1."""
    red, infrared = _mean(image[0]), _mean(image[3])
    index: NDArray[np.float32] = (infrared - red) / np.maximum(infrared + red, 1)
    return index


def _mean(band: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean of the window around every pixel, edges repeated, by running sums."""
    padded = np.pad(band, WINDOW // 2, mode="edge").astype(np.float64)
    sums = np.pad(padded, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    n = WINDOW
    square = sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]
    mean: NDArray[np.float32] = (square / (n * n)).astype(np.float32)
    return mean
