"""A small made world to learn from: six classes that color alone tells apart."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray

from training.data.scenes import Scene

MakeScene = Callable[..., Scene]

COLORS = np.array(
    [[0, 0, 0, 0], [200, 80, 70, 90], [120, 120, 125, 110], [30, 60, 90, 15], [190, 170, 120, 150],
     [40, 80, 50, 160], [110, 160, 90, 230]],
    np.uint8,
)  # fmt: skip
"""Red, green, blue, near infrared of the values 0..6."""


def blocks(rows: int, cols: int, side: int, seed: int) -> NDArray[np.uint8]:
    """Squares of `side` pixels of the classes 1..6: uint8 (rows, cols)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(1, 7, (-(-rows // side), -(-cols // side)), dtype=np.uint8)
    coarse.flat[:6] = np.arange(1, 7)
    return np.kron(coarse, np.ones((side, side), np.uint8))[:rows, :cols]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """torch's threads wait for each other by spinning: on busy cores one is faster than two."""
    if importlib.util.find_spec("torch"):
        importlib.import_module("torch").set_num_threads(1)


@pytest.fixture
def make_scene(make_scene_anywhere: MakeScene) -> MakeScene:
    """Builds a scene: see `make_scene_anywhere`."""
    return make_scene_anywhere


@pytest.fixture(scope="session")
def make_scene_anywhere() -> MakeScene:
    """Builds a scene of `size` (or `rows` x `cols`) pixels, a tenth of them unlabeled.

    Its ground lies in EPSG:26916, its upper-left corner at (left, top).
    """

    def build(
        name: str = "scene",
        place: str = "town",
        year: str = "2013",
        *,
        size: int = 96,
        rows: int = 0,
        cols: int = 0,
        resolution: float = 1.0,
        left: float = 500_000.0,
        top: float = 3_700_000.0,
        epsg: int | None = 26916,
        synthetic: bool = False,
        seed: int = 0,
    ) -> Scene:
        rows, cols = rows or size, cols or size
        label = blocks(rows, cols, 16, seed)
        rng = np.random.default_rng(seed + 1)
        noise = rng.integers(-8, 9, (4, rows, cols))
        image = np.clip(COLORS[label].transpose(2, 0, 1) + noise, 1, 255).astype(np.uint8)
        label[rng.random(label.shape) < 0.1] = 0
        return Scene(
            name=name,
            place=place,
            year=year,
            image=image,
            label=label,
            resolution=resolution,
            epsg=epsg,
            transform=Affine(resolution, 0, left, 0, -resolution, top),
            synthetic=synthetic,
        )

    return build
