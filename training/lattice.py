"""The lattice of chips over an image: how it is laid, and what lies in its strips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import rasterio
from pydantic import BaseModel, ConfigDict, Field
from rasterio.windows import Window

from training.errors import LabelError
from training.imagery import Picture
from training.labels import label_path
from training.scenes import BANDS, CLASSES, Image, Label


class ChipSettings(BaseModel):
    """How imagery is cut. Sizes are pixels of the imagery."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[int, Field(ge=32, multiple_of=16)] = 256
    """Side of a chip (the article's)."""

    stride: Annotated[int, Field(ge=16)] = 64
    """From one chip to the next along rows and columns (the article's)."""

    max_background: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Chips with a larger share of unlabeled pixels are dropped (the article's)."""

    place: str = ""
    """Place of every chip. Without it that is the folder of its image below the imagery; images
    beside each other at the top have none, and `split` finds places by their ground."""


def starts(length: int, size: int, stride: int) -> range:
    """Where chips begin along one axis: multiples of the stride; the last reaches the end of the
    image, or beyond it (where it has no imagery and no labels).
    """
    beyond = max(0, length - size)
    return range(0, -(-beyond // stride) * stride + 1, stride)


def check_label(picture: Picture, path: Path) -> None:
    """LabelError unless the label raster at `path` lies on the pixels of its image."""
    with rasterio.open(path) as raster:
        if raster.shape != picture.shape:
            raise LabelError(f"{path} is {raster.shape} pixels, its image {picture.shape}")
        if raster.dtypes[0] != "uint8":
            raise LabelError(f"{path} is {raster.dtypes[0]}, uint8 is needed")
        if raster.crs and picture.crs and raster.crs.to_epsg() != picture.epsg:
            raise LabelError(f"{path} is in {raster.crs}, its image in EPSG:{picture.epsg}")
        if picture.crs and not raster.transform.almost_equals(picture.transform, 1e-3):
            raise LabelError(f"{path} does not lie on the pixels of its image")


def strips(
    picture: Picture, labels: Path, settings: ChipSettings, rows: Sequence[int]
) -> Iterator[tuple[int, Image, Label]]:
    """For each first row the strip of the whole width: image uint8 (4, size, width), label uint8
    (size, width), where width covers the last chip; 0 beyond the image and in collars.
    """
    height, width = picture.shape
    across = starts(width, settings.size, settings.stride)[-1] + settings.size
    with rasterio.open(picture.path) as source, rasterio.open(label_path(labels, picture)) as known:
        for top in rows:
            window = Window(0, top, width, min(settings.size, height - top))
            image = np.zeros((BANDS, settings.size, across), np.uint8)
            label = np.zeros((settings.size, across), np.uint8)
            part = (slice(0, window.height), slice(0, width))
            label[part] = known.read(1, window=window)
            if label.max() > CLASSES:
                raise LabelError(
                    f"{known.name} holds {label.max()}, not one of 0..{CLASSES}: bring it into the "
                    "legend first (labels, with a crosswalk)"
                )
            if label.any():
                try:
                    pixels = source.read(list(range(1, BANDS + 1)), window=window)
                except rasterio.errors.RasterioError as error:
                    raise LabelError(
                        f"{picture.path} is damaged near row {top}: {error}"
                    ) from error
                image[:, part[0], part[1]] = pixels
                label[part][~picture.valid(pixels)] = 0
            yield top, image, label
