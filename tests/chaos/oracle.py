"""The made imagery that is served, and what each tile of it must show, pixel by pixel.

The oracle shares no code with the service: the center of every pixel of a tile is projected by
PROJ, and the class of the made ground in that cell of the work grid is known in closed form.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pyproj import Transformer

from model.legend import LEGEND, NODATA
from tests.world.ground import class_at
from tests.world.scenes import SyntheticScene, write_scene
from tests.world.world import World

BLOCK, SIZE = 512, 256
HALF_WORLD = 20_037_508.342789244
LEAST = 230
"""Meters of a block that a scene must cover for a tile of zoom 18 to lie in both."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A tile and the digests of the classes it may show; one but where imagery is changed."""

    path: str
    digests: tuple[str, ...]

    def also(self, other: Expected) -> Expected:
        """Return the tile that may show either."""
        return Expected(self.path, (*self.digests, *other.digests))

    def document(self) -> list[Any]:
        """Return it as JSON for the prober."""
        return [self.path, list(self.digests)]


def digest_of(classes: npt.NDArray[np.uint8]) -> str:
    """Return the digest of uint8 (rows, cols)."""
    return hashlib.blake2b(np.ascontiguousarray(classes).tobytes(), digest_size=16).hexdigest()


def classes_of_png(content: bytes) -> npt.NDArray[np.uint8]:
    """Return uint8 (rows, cols): the classes that a tile shows; 255 where it is transparent, 254
    where a color belongs to no class."""
    rgba = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")).astype(np.uint32)
    packed = rgba[..., 0] << 24 | rgba[..., 1] << 16 | rgba[..., 2] << 8 | rgba[..., 3]
    classes = np.full(packed.shape, 254, np.uint8)
    classes[rgba[..., 3] == 0] = NODATA
    for value, (red, green, blue) in LEGEND.colors().items():
        classes[packed == (red << 24 | green << 16 | blue << 8 | 255)] = value
    return classes


def expected_tile(scene: SyntheticScene, z: int, x: int, y: int) -> npt.NDArray[np.uint8]:
    """Return uint8 (256, 256): the classes of a scene under a tile's pixels, 255 outside it."""
    span = 2 * HALF_WORLD / 2**z
    steps = (np.arange(SIZE) + 0.5) / SIZE
    mercator = np.meshgrid(-HALF_WORLD + (x + steps) * span, HALF_WORLD - (y + steps) * span)
    east, north = Transformer.from_crs(3857, scene.epsg, always_xy=True).transform(*mercator)
    col, row = np.floor(east - scene.left), np.floor(scene.top - north)
    inside = (col >= 0) & (row >= 0) & (col < scene.cols) & (row < scene.rows)
    truth = class_at(scene.left + col + 0.5, scene.top - row - 0.5, scene.year)
    return np.where(inside, truth, NODATA).astype(np.uint8)


def expected_at(scene: SyntheticScene, source: str, z: int, x: int, y: int) -> Expected:
    """Return a tile of a source with the digest of what it must show."""
    query = f"source={source}&year={scene.year}"
    path = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png?{query}"
    return Expected(path, (digest_of(expected_tile(scene, z, x, y)),))


def tile_at(scene: SyntheticScene, x: float, y: float, zoom: int) -> tuple[int, int, int]:
    """Return (z, x, y) of the tile that holds a point in meters."""
    east, north = Transformer.from_crs(scene.epsg, 3857, always_xy=True).transform(x, y)
    span = 2 * HALF_WORLD / 2**zoom
    return zoom, math.floor((east + HALF_WORLD) / span), math.floor((HALF_WORLD - north) / span)


def blocks_of(scene: SyntheticScene) -> Iterator[tuple[float, float]]:
    """Yield (x, y) meters in the middle of every block of the work grid the scene covers well."""
    left, bottom, right, top = scene.bounds
    for row in range(int((1e7 - top) // BLOCK), int((1e7 - bottom) // BLOCK) + 1):
        for col in range(int(left // BLOCK), int(right // BLOCK) + 1):
            west, east = max(left, col * BLOCK), min(right, (col + 1) * BLOCK)
            north, south = min(top, 1e7 - row * BLOCK), max(bottom, 1e7 - (row + 1) * BLOCK)
            if min(east - west, north - south) >= LEAST:
                yield (west + east) / 2, (north + south) / 2


class Tiles:
    """The tiles of a source, each from a block of its own, given out once."""

    def __init__(self, scenes: list[SyntheticScene], source: str, zoom: int = 18) -> None:
        self.scenes, self.source, self.zoom = scenes, source, zoom
        self._left = [(scene, at) for scene in scenes for at in blocks_of(scene)]

    @property
    def folder(self) -> Path:
        """The folder of the scenes."""
        return self.scenes[0].path.parent

    def take(self, count: int) -> list[Expected]:
        """Return so many tiles that nobody has asked for; RuntimeError when none are left."""
        if count > len(self._left):
            raise RuntimeError(f"{self.source}: {count} tiles wanted, {len(self._left)} are left")
        taken, self._left = self._left[:count], self._left[count:]
        return [
            expected_at(scene, self.source, *tile_at(scene, *at, self.zoom)) for scene, at in taken
        ]

    def __len__(self) -> int:
        return len(self._left)


def write_ground(folder: Path, years: range, side: int) -> World:
    """Write a square scene of `side` meters for each year; the ground differs from year to year."""
    scenes = tuple(
        write_scene(
            folder / f"m_3208601_nw_16_1_{year}0903.tif",
            year=year, cols=side, rows=side, overviews=False,
        )
        for year in years
    )  # fmt: skip
    return World(folder, scenes)


def area_in(scene: SyntheticScene, meters: float) -> dict[str, Any]:
    """Return a GeoJSON square of so many meters around the middle of a scene."""
    left, bottom, right, top = scene.bounds
    x, y = (left + right) / 2, (bottom + top) / 2
    half = meters / 2
    corners = ((-half, -half), (half, -half), (half, half), (-half, half), (-half, -half))
    to_degrees = Transformer.from_crs(scene.epsg, 4326, always_xy=True).transform
    ring = [list(to_degrees(x + dx, y + dy)) for dx, dy in corners]
    return {"type": "Polygon", "coordinates": [ring]}
