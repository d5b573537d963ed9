"""Augmentation of crops: geometry moves image and label together, labels by nearest neighbor;
photometric changes apply to the uint8 imagery, before normalization.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.config import Preset, Range
from training.data.resolution import resize_nearest
from training.data.scenes import PLANTED, Image, Label, Scene

PIVOT = 150.0
"""Gray level of near infrared about which its contrast changes: between roofs and lawns."""


def resize(image: Image, label: Label, size: int) -> tuple[Image, Label]:
    """Return a square crop, uint8 (4, n, n) and (n, n), at another size: uint8 (4, size, size)
    antialiased and (size, size) by nearest neighbor.
    """
    side = label.shape[0]
    if side == size:
        return image, label
    return _scaled(image, size, size), resize_nearest(label, (size, size))


def random_dihedral(image: Image, label: Label, rng: np.random.Generator) -> tuple[Image, Label]:
    """Return a crop after one of the eight rotations and flips of a square."""
    quarters, flip = int(rng.integers(4)), bool(rng.integers(2))
    image, label = np.rot90(image, quarters, (1, 2)), np.rot90(label, quarters)
    if flip:
        image, label = image[:, :, ::-1], label[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(label)


def photometric(image: Image, preset: Preset, rng: np.random.Generator) -> Image:
    """Return uint8 (4, rows, cols) under other light and another vendor's processing.

    255 * (level / 255) ** (gamma * band gamma) * gain * band gain + offset, then blur, noise and
    rounding; near infrared's contrast about PIVOT changes before the gains. A share of the images
    (`clean`) is returned unchanged.
    """
    if rng.random() < preset.clean:
        return image
    bands = len(image)
    gamma = _log_even(rng, preset.gamma) * np.array(
        [_log_even(rng, preset.band_gamma) for _ in range(bands)]
    )
    gain = _log_even(rng, preset.gain) * np.array(
        [_log_even(rng, preset.band_gain) for _ in range(bands)]
    )
    offset = rng.uniform(*preset.offset) / 2 + rng.uniform(*preset.offset, size=bands) / 2
    levels = 255.0 * (np.arange(256) / 255.0) ** gamma[:, None]
    if preset.infrared_contrast != (1.0, 1.0) and "nir" in preset.bands:
        steep = _log_even(rng, preset.infrared_contrast)
        nir = preset.bands.index("nir")
        levels[nir] = PIVOT * (levels[nir] / PIVOT) ** steep
    table = (levels * gain[:, None] + offset[:, None]).astype(np.float32)
    out: NDArray[np.float32] = table[np.arange(bands)[:, None, None], image]
    if rng.random() < preset.blur:
        out = _blur(out)
    if (sigma := rng.uniform(*preset.noise)) > 0:
        out += rng.standard_normal(out.shape, dtype=np.float32) * np.float32(sigma)
    rounded: Image = np.clip(np.rint(out), 0, 255).astype(np.uint8)
    return rounded


def leaf_off(image: Image, label: Label, rng: np.random.Generator) -> tuple[Image, Label]:
    """Return the same ground in autumn or leaf-off: uint8 (4, rows, cols) and its label.

    The greener a pixel (normalized difference of near infrared and red), the more its near infrared
    falls and its visible bands rise, varying from crown to crown: autumn forest in Appalachian
    NAIP has about 110 in every band, the same ground in summer 70, 100, 110 and 180. Forest stays
    forest; the label of browned low vegetation is dropped, since it could be planted or bare.
    """
    bands = image.astype(np.float32)
    red, infrared = bands[0], bands[3]
    green = np.clip((infrared - red) / (infrared + red + 1) / 0.25, 0, 1)
    crowns = _patches(label.shape, float(rng.uniform(5, 14)), rng)
    browned = green * np.clip(rng.uniform(0.3, 1) + rng.uniform(0, 1.2) * (crowns - 0.5), 0, 1)
    changed = bands.copy()
    for band, (low, high) in enumerate(((0.35, 0.75), (0.25, 0.6), (0.1, 0.45))):
        rise = rng.uniform(low, high) * np.maximum(infrared - bands[band], 0)
        changed[band] += browned * rise
    changed[3] -= browned * rng.uniform(0.2, 0.5) * infrared
    return (
        np.clip(np.rint(changed), 0, 255).astype(np.uint8),
        np.where((label == PLANTED) & (browned > 0.3), 0, label).astype(np.uint8),
    )


def _patches(shape: tuple[int, ...], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return smooth noise in patches of about `size` pixels, uniform in 0..1 at its control
    points: float32 (rows, cols)."""
    rows, cols = shape
    points = rng.random((1, 1, int(rows / size) + 2, int(cols / size) + 2), dtype=np.float32)
    smooth = functional.interpolate(
        torch.from_numpy(points), size=(rows, cols), mode="bilinear", align_corners=False
    )
    result: NDArray[np.float32] = smooth[0, 0].numpy()
    return result


def _log_even(rng: np.random.Generator, span: Range) -> float:
    """Draw from a log-uniform distribution: half and double are equally likely."""
    return float(np.exp(rng.uniform(np.log(span[0]), np.log(span[1]))))


def _blur(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blur by 1-2-1 along rows and columns, edges repeated: float32 (bands, rows, cols)."""
    wide = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]) / 4
    soft = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4
    return soft.astype(np.float32, copy=False)


def resize_scene(scene: Scene, ground_resolution: float) -> tuple[Image, Label]:
    """Return a whole scene at another resolution in meters: uint8 (4, rows, cols) antialiased and
    uint8 (rows, cols) by nearest neighbor, rounded to whole pixels.
    """
    height, width = scene.label.shape
    factor = scene.resolution / ground_resolution
    rows, cols = max(1, round(height * factor)), max(1, round(width * factor))
    if (rows, cols) == (height, width):
        return scene.image, scene.label
    return _scaled(scene.image, rows, cols), resize_nearest(scene.label, (rows, cols))


def _scaled(image: Image, rows: int, cols: int) -> Image:
    pixels = torch.from_numpy(np.ascontiguousarray(image))[None].float()
    scaled = functional.interpolate(
        pixels, size=(rows, cols), mode="bilinear", antialias=True, align_corners=False
    )
    smooth: Image = scaled[0].round_().clamp_(0, 255).to(torch.uint8).numpy()
    return smooth
