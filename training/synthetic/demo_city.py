"""Demo City: two dense western cities, two cameras each, in the folders of Demo County.

DIR/2016/demo_city_2016.tif              uint8, 4 bands, EPSG:26911, 1 m
DIR/truth/demo_city_2016_label.tif       uint8, classes 1..6, same grid
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from shapely.geometry import LineString

from app.demo.county import land
from app.demo.ground import COLS, ROWS, Ground
from app.demo.material import Material, class_table
from app.demo.noise import Field, cloudy, generator
from app.demo.paint import paint
from training.synthetic.homes import flats, homes, trailers
from training.synthetic.lots import (
    depot,
    desert,
    grove,
    park,
    school,
    shops,
    storage,
    vacant,
    works,
)
from training.synthetic.plot import Plot, Rng, paved

KINDS: dict[Callable[[Plot, Rng], None], float] = {
    homes: 0.36, flats: 0.09, trailers: 0.04, shops: 0.11, works: 0.07, depot: 0.05,
    storage: 0.04, school: 0.05, park: 0.04, vacant: 0.04, desert: 0.05, grove: 0.06,
}  # fmt: skip
"""Land uses of a plot, with their frequencies."""


def city(number: int) -> Ground:
    """Return the ground of a city, later objects on top; each `number` is another city."""
    ground, rng = Ground(), generator(200, number)
    ground.material[:] = Material.DRY_GRASS
    ground.material[cloudy((ROWS, COLS), 120, 201, number) > 0.2] = Material.LAWN
    columns = np.cumsum([-40, *rng.uniform(230, 430, 12)])
    rows = np.cumsum([-40, *rng.uniform(230, 430, 14)])
    kinds, odds = list(KINDS), np.array(list(KINDS.values()))
    for line, (north, south) in enumerate(pairwise(rows)):
        for other, (west, east) in enumerate(pairwise(columns)):
            own = generator(202, number, line, other)
            turn = own.choice([0.0, 0.0, math.pi / 2, own.uniform(-0.5, 0.5)])
            wide, high = east - west - 30, south - north - 30
            if abs(turn) == math.pi / 2:
                wide, high = high, wide
            plot = Plot(ground, ((west + east) / 2, (north + south) / 2), wide, high, turn)
            kinds[int(own.choice(len(kinds), p=odds / odds.sum()))](plot, own)
    _streets(ground, columns, rows, number)
    return ground


def _streets(ground: Ground, columns: np.ndarray, rows: np.ndarray, number: int) -> None:
    """Draw the streets between the plots: sidewalks, lanes, markings, cars, trees."""
    rng = generator(203, number)
    lines = [LineString([(x, -20), (x, ROWS + 20)]) for x in columns]
    lines += [LineString([(-20, y), (COLS + 20, y)]) for y in rows]
    kinds = [(paved(rng), float(rng.uniform(7.5, 12.5))) for _ in lines]
    for line, (_, half) in zip(lines, kinds, strict=True):
        ground.fill([line.buffer(half + 3)], Material.CONCRETE, 0.95)
    for line, ((kind, tone), half) in zip(lines, kinds, strict=True):
        ground.fill([line.buffer(half)], kind, tone)
    for line, (_, half) in zip(lines, kinds, strict=True):
        for off in (-half * 0.5, 0.0, half * 0.5):
            ground.fill([line.offset_curve(off).buffer(0.3) if off else line.buffer(0.4)],
                        Material.PAINT, 0.75)  # fmt: skip
        for _ in range(110):
            spot = line.interpolate(rng.uniform(0, line.length))
            upright = line.bounds[0] == line.bounds[2]
            off = rng.uniform(-half, half) * 0.85
            at = (spot.x + off, spot.y) if upright else (spot.x, spot.y + off)
            long = (0.95, 2.3) if upright else (2.3, 0.95)
            ground.block(at, long, 0.0, Material.CAR, rng.choice([0.4, 0.8, 1.3, 1.7]))
            if rng.random() < 0.5:
                off = math.copysign(half + 2.2, off)
                at = (spot.x + off, spot.y) if upright else (spot.x, spot.y + off)
                ground.crown(at, rng.uniform(1.5, 4.5), rng.normal(1, 0.12))


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
    """Number of the city that it photographs."""
    shadow: float
    """Depth of shadows, as of `paint`."""


CAMERAS = {
    2016: Camera((32, 36, 42, 24), (0.76, 0.76, 0.72, 0.82), (0.95, 0.95, 0.95, 1.0), 2.0, 0, 1.0),
    2018: Camera((6, 10, 16, 4), (0.96, 0.95, 0.92, 0.96), (1.12, 1.1, 1.08, 1.1), 2.4, 0, 1.4),
    2020: Camera((14, 16, 18, 8), (0.80, 0.80, 0.80, 0.80), (1.0, 1.0, 1.0, 0.95), 1.6, 1, 1.5),
    2022: Camera((22, 24, 26, 14), (1.02, 1.0, 0.96, 0.94), (0.92, 0.92, 0.92, 0.95), 2.2, 1, 1.2),
}
"""Hazy, crisp, dark, bright: the same city as processed by different vendors."""


def write_city(directory: Path, *, progress: Callable[[str], None] | None = None) -> list[Path]:
    """Write the cities below `directory`, replacing files there; return the paths of the images."""
    log = progress or (lambda _line: None)
    log("Demo City: drawing it")
    drawn = {number: city(number) for number in sorted({c.city for c in CAMERAS.values()})}
    images = []
    for year, camera in CAMERAS.items():
        ground = drawn[camera.city]
        truth = class_table()[ground.material]
        log(f"Demo City: {year}")
        bands = [
            _exposed(light, camera, year, band)
            for band, light in enumerate(paint(ground, land(), year, camera.shadow))
        ]
        images.append(directory / str(year) / f"demo_city_{year}.tif")
        _write(images[-1], np.stack(bands))
        _write(directory / "truth" / f"demo_city_{year}_label.tif", truth[None])
    return images


def _exposed(light: Field, camera: Camera, year: int, band: int) -> npt.NDArray[np.uint8]:
    """Return one band, uint8 (rows, cols) in 1..255: 0 would mean no data."""
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
