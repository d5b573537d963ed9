"""One scene at another resolution: read from its file, averaged, or placed by nearest neighbor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

from model.legend import NODATA
from training.data.scenes import BANDS, CLASSES, Image, Label, Scene

FACTORS = (2, 4, 8)
"""Pixels of the model's resolution along a coarse pixel."""


def at_resolution(scene: Scene, ground_resolution: float) -> Image:
    """Return a scene's imagery at another resolution in meters, averaged as it is read: uint8
    (bands, rows, cols). A part of a file is averaged from its pixels.
    """
    if abs(scene.resolution / ground_resolution - 1) < 1e-3:
        return scene.image
    if scene.path is None:
        return _resampled(scene, ground_resolution)
    return read_at(scene.path, ground_resolution, scene.resolution, len(scene.image))


def _resampled(scene: Scene, ground_resolution: float) -> Image:
    """Return a scene in memory at another resolution, as `read_at` reads a file."""
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": len(scene.image),
        "height": scene.label.shape[0], "width": scene.label.shape[1],
    }  # fmt: skip
    with MemoryFile() as file:
        with file.open(**profile, transform=scene.transform) as target:
            target.write(scene.image)
        with file.open() as source:
            return _read(source, ground_resolution, scene.resolution, len(scene.image))


def read_at(path: Path, ground_resolution: float, resolution: float, bands: int = BANDS) -> Image:
    """Return a file's imagery at `ground_resolution` meters, its whole extent: uint8 (bands, rows,
    cols), rounded to whole pixels.

    Finer files are averaged as they are read, as in the server; `resolution` is the file's own, in
    meters per pixel.
    """
    with rasterio.open(path) as source:
        return _read(source, ground_resolution, resolution, bands)


def _read(
    source: rasterio.DatasetReader, ground_resolution: float, resolution: float, bands: int
) -> Image:
    factor = resolution / ground_resolution
    rows, cols = (max(1, round(n * factor)) for n in source.shape)
    resampling = Resampling.average if factor < 1 else Resampling.bilinear
    image: Image = source.read(
        list(range(1, bands + 1)), out_shape=(bands, rows, cols), resampling=resampling
    )
    return image


def resize_nearest(classes: Label, shape: tuple[int, ...]) -> Label:
    """Return classes uint8 (rows, cols) resized to `shape` by nearest neighbor."""
    rows, cols = (
        np.minimum(((np.arange(n) + 0.5) * have / n).astype(np.intp), have - 1)
        for n, have in zip(shape, classes.shape, strict=True)
    )
    return classes[np.ix_(rows, cols)]


def block_mean(image: Image, factor: int) -> Image:
    """Return the rounded mean of every factor x factor pixels of uint8 (bands, rows, cols), whose
    sides are multiples of `factor`. A cell with a pixel without imagery becomes zero.
    """
    bands, rows, cols = image.shape
    cells = image.reshape(bands, rows // factor, factor, cols // factor, factor)
    mean: Image = np.rint(cells.mean(axis=(2, 4))).astype(np.uint8)
    whole = valid_of(image).reshape(rows // factor, factor, cols // factor, factor).all(axis=(1, 3))
    return np.where(whole, mean, 0).astype(np.uint8)


def mode_with_tiebreak(classes: Label, factor: int, count: int = CLASSES) -> Label:
    """Return the most frequent of `count` classes in every factor x factor pixels, NODATA where a
    pixel has none: uint8 (rows, cols) whose sides are multiples of `factor`.

    Among tied classes the position of the result decides, as in the server's overviews: a fixed
    order would favor one class everywhere.
    """
    rows, cols = (n // factor for n in classes.shape)
    cells = classes.reshape(rows, factor, cols, factor)
    values = np.arange(1, count + 1)
    counts = (cells[None] == values[:, None, None, None, None]).sum(axis=(2, 4))
    tied = counts == counts.max(axis=0)
    turn = np.add.outer(np.arange(rows), np.arange(cols)) % tied.sum(axis=0)
    # The turn-th tied class: the one preceded by exactly `turn` others.
    selected = tied & (tied.cumsum(axis=0) - 1 == turn)
    mode: Label = values[selected.argmax(axis=0)].astype(np.uint8)
    return np.where((cells > count).any(axis=(1, 3)), NODATA, mode).astype(np.uint8)


def valid_of(image: Image) -> NDArray[np.bool_]:
    """Return where there is imagery: bool (rows, cols), False where all bands are zero."""
    valid: NDArray[np.bool_] = np.any(image, axis=0)
    return valid
