"""The camera of each year: from light to digital numbers, one flight a time.

The means follow a published pair of NAIP dates (R 117, G 131, B 122, NIR 159 in 2013; R 73,
G 87, B 77, NIR 131 in 2017): another camera, other haze, another stretch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.demo.noise import Field, generator, smooth

Image = npt.NDArray[np.uint8]


class Year(NamedTuple):
    """One year's camera; four values each for red, green, blue, near infrared."""

    mean: tuple[float, float, float, float]
    """County mean in digital numbers."""
    haze: tuple[float, float, float, float]
    """Digital number of no light."""
    gamma: tuple[float, float, float, float]
    noise: float
    """Standard deviation in digital numbers."""


CAMERAS = {
    2013: Year((117, 130, 118, 159), (30, 35, 50, 16), (0.98, 0.98, 0.97, 0.95), 2.2),
    2017: Year((76, 89, 77, 132), (10, 16, 25, 3), (1.1, 1.1, 1.05, 1.0), 1.8),
}


def expose(light: Field, year: int, band: int) -> Field:
    """Digital numbers of one band before noise, float32 (rows, cols), from light of 0 to 255."""
    camera = CAMERAS[year]
    curve = np.power(np.maximum(light, 0) / np.float32(255), np.float32(camera.gamma[band]))
    haze = camera.haze[band]
    gain = (camera.mean[band] - haze) / float(curve.mean(dtype=np.float64))
    return np.asarray(haze + np.float32(gain) * curve, dtype=np.float32)


def snap(band: Field, year: int, flight: int, number: int) -> Image:
    """One band of one quad, uint8 (rows, cols) in 1..255: 0 is left to mean no data.

    `flight` differs between quads: each has its own light falling off across the frame, its
    own slight color and its own noise.
    """
    rng = generator(70, year, flight)
    slope = rng.normal(0, 0.025, 2)
    color = 1 + rng.normal(0, 0.018, 4)[number]
    rows, cols = band.shape
    fall = np.linspace(-slope[0], slope[0], rows, dtype=np.float32)[:, None]
    fall = fall + np.linspace(-slope[1], slope[1], cols, dtype=np.float32)[None]
    noise = generator(71, year, flight, number).standard_normal(band.shape, dtype=np.float32)
    noise *= np.float32(CAMERAS[year].noise)
    seen = band * (np.float32(color) + fall + 0.008 * smooth(band.shape, 500, 72, year, flight))
    seen += noise
    return np.clip(np.rint(seen), 1, 255).astype(np.uint8)
