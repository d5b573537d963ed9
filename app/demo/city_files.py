"""Demo City on disk: two cities, two cameras each, and their truth, in Demo County's folders.

DIR/2016/demo_city_2016.tif              uint8, 4 bands, EPSG:26911, 1 m
DIR/truth/demo_city_2016_label.tif       uint8, classes 1..6, same grid
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine

from app.demo.city import city
from app.demo.county import land
from app.demo.material import class_table
from app.demo.noise import Field, generator
from app.demo.paint import paint

WEST, NORTH = 404_000, 3_762_000
"""North-west corner, meters in EPSG:26911."""


class Camera(NamedTuple):
    """Four values each for red, green, blue, near infrared."""

    haze: tuple[float, float, float, float]
    """Digital number of no light."""
    contrast: tuple[float, float, float, float]
    gamma: tuple[float, float, float, float]
    noise: float
    """Standard deviation in digital numbers."""
    city: int
    """Which of the cities it flies over."""
    shadow: float
    """How deep shadows are, of `paint`."""


CAMERAS = {
    2016: Camera((32, 36, 42, 24), (0.76, 0.76, 0.72, 0.82), (0.95, 0.95, 0.95, 1.0), 2.0, 0, 1.0),
    2018: Camera((6, 10, 16, 4), (0.96, 0.95, 0.92, 0.96), (1.12, 1.1, 1.08, 1.1), 2.4, 0, 1.4),
    2020: Camera((14, 16, 18, 8), (0.80, 0.80, 0.80, 0.80), (1.0, 1.0, 1.0, 0.95), 1.6, 1, 1.5),
    2022: Camera((22, 24, 26, 14), (1.02, 1.0, 0.96, 0.94), (0.92, 0.92, 0.92, 0.95), 2.2, 1, 1.2),
}
"""Hazy, crisp, dark, bright: what a city looks like to different vendors."""


def write_city(directory: Path, *, progress: Callable[[str], None] | None = None) -> list[Path]:
    """Writes the city below `directory`, whatever is there; the paths of its images."""
    say = progress or (lambda _line: None)
    say("Demo City: drawing it")
    drawn = {number: city(number) for number in sorted({c.city for c in CAMERAS.values()})}
    images = []
    for year, camera in CAMERAS.items():
        ground = drawn[camera.city]
        truth = class_table()[ground.material]
        say(f"Demo City: {year}")
        bands = [
            _exposed(light, camera, year, band)
            for band, light in enumerate(paint(ground, land(), year, camera.shadow))
        ]
        images.append(directory / str(year) / f"demo_city_{year}.tif")
        _write(images[-1], np.stack(bands))
        _write(directory / "truth" / f"demo_city_{year}_label.tif", truth[None])
    return images


def _exposed(light: Field, camera: Camera, year: int, band: int) -> npt.NDArray[np.uint8]:
    """One band, uint8 (rows, cols) in 1..255: 0 is left to mean no data."""
    curve = np.power(np.maximum(light, 0) / np.float32(255), np.float32(camera.gamma[band]))
    noise = generator(210, year, band).standard_normal(light.shape, dtype=np.float32)
    seen = camera.haze[band] + camera.contrast[band] * 255 * curve + camera.noise * noise
    return np.clip(np.rint(seen), 1, 255).astype(np.uint8)


def _write(path: Path, image: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=image.shape[0], height=image.shape[1],
        width=image.shape[2], crs="EPSG:26911", transform=Affine(1, 0, WEST, 0, -1, NORTH),
        tiled=True, blockxsize=512, blockysize=512, compress="deflate",
    ) as target:  # fmt: skip
        target.write(image)
