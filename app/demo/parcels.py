"""Parcels of the county: who owns which square meter, and what grows there in a year."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from shapely.geometry import LineString

from app.demo.ground import COLS, ROWS
from app.demo.material import Material
from app.demo.noise import Field, generator, smooth

LINES_X = (-60, 620, 1450, 2270, 3080)
"""Section lines, meters east: county roads run along the inner ones."""
LINES_Y = (-60, 705, 1690, 2660, 3480)
"""Section lines, meters south."""

SMALLEST_M2 = 85_000
"""Parcels larger than twice this are divided."""

USES = (
    (Material.BROADLEAF, 0.20),
    (Material.PINE, 0.15),
    (Material.PASTURE, 0.13),
    (Material.CROP, 0.13),
    (Material.LUSH_CROP, 0.07),
    (Material.SOIL, 0.11),
    (Material.STUBBLE, 0.06),
    (Material.DRY_GRASS, 0.08),
    (Material.CLEAR_CUT, 0.04),
    (Material.SCRUB, 0.03),
)

FIXED: tuple[tuple[tuple[int, int], Material, Material], ...] = (
    ((2600, 480), Material.PINE, Material.CLEAR_CUT),
    ((330, 2720), Material.BROADLEAF, Material.CLEAR_CUT),
    ((2620, 2220), Material.CROP, Material.PASTURE),
    ((480, 2850), Material.PASTURE, Material.PASTURE),
    ((2100, 2280), Material.BROADLEAF, Material.BROADLEAF),
    ((400, 300), Material.CLEAR_CUT, Material.SCRUB),
    ((2700, 2900), Material.SOIL, Material.LUSH_CROP),
    ((300, 1450), Material.CROP, Material.SOIL),
    ((1300, 300), Material.STUBBLE, Material.CROP),
)
"""What 2013 and 2017 hold at places given in meters east and south."""

AFTER = {
    Material.CROP: Material.SOIL,
    Material.SOIL: Material.CROP,
    Material.LUSH_CROP: Material.STUBBLE,
    Material.STUBBLE: Material.LUSH_CROP,
    Material.CLEAR_CUT: Material.SCRUB,
    Material.DRY_GRASS: Material.PASTURE,
}
"""What follows on a parcel that was turned over between the years."""


class Parcels(NamedTuple):
    """The division of the county."""

    boxes: list[tuple[float, float, float, float]]
    """West, north, east, south of each parcel on the surveyor's plan, local meters."""
    owner: npt.NDArray[np.uint8]
    """Parcel of each pixel (rows, cols), boundaries as wobbly as on the ground."""
    drift: tuple[Field, Field]
    """Meters east and south from the ground to the surveyor's plan, (rows, cols)."""

    def laid(self, points: list[tuple[float, float]]) -> LineString:
        """A line of the plan where it lies on the ground."""
        ground = []
        for x, y in points:
            row = min(max(int(y), 0), ROWS - 1)
            col = min(max(int(x), 0), COLS - 1)
            ground.append((x - float(self.drift[0][row, col]), y - float(self.drift[1][row, col])))
        return LineString(ground)


def survey() -> Parcels:
    """Divide the sections until no parcel is too large."""
    rng = generator(1)
    boxes: list[tuple[float, float, float, float]] = []
    for west, east in pairwise(LINES_X):
        for north, south in pairwise(LINES_Y):
            _divide((west, north, east, south), rng, boxes)
    plan = np.zeros((ROWS + 80, COLS + 80), dtype=np.uint8)
    for number, box in enumerate(boxes):
        west, north, east, south = (max(0, round(v) + 40) for v in box)
        plan[north:south, west:east] = number
    drift = (16 * smooth((ROWS, COLS), 330, 2), 16 * smooth((ROWS, COLS), 330, 3))
    fringe = (2.2 * smooth((ROWS, COLS), 23, 4), 2.2 * smooth((ROWS, COLS), 23, 5))
    rows = np.arange(ROWS, dtype=np.float32)[:, None] + drift[1] + fringe[1] + 40
    cols = np.arange(COLS, dtype=np.float32)[None] + drift[0] + fringe[0] + 40
    rows = np.clip(rows, 0, plan.shape[0] - 1).astype(np.int32)
    cols = np.clip(cols, 0, plan.shape[1] - 1).astype(np.int32)
    return Parcels(boxes, plan[rows, cols], drift)


def uses(parcels: Parcels, year: int) -> list[Material]:
    """The material of each parcel in a year."""
    rng = generator(6)
    kinds, shares = [use for use, _ in USES], np.array([share for _, share in USES])
    drawn = rng.choice(len(kinds), len(parcels.boxes), p=shares / shares.sum())
    turned = rng.random(len(parcels.boxes)) < 0.6
    selected = [kinds[int(pick)] for pick in drawn]
    if year > 2013:
        selected = [
            AFTER.get(use, use) if turn else use for use, turn in zip(selected, turned, strict=True)
        ]
    for (x, y), first, second in FIXED:
        selected[int(parcels.owner[y, x])] = first if year <= 2013 else second
    return selected


def furrows(parcels: Parcels) -> Field:
    """About -1..1 (rows, cols): the rows of each parcel, along its longer side or nearly so.

    They fade in and out, stand on swaths of a machine's width, and wheels go between the swaths.
    """
    rng = generator(7)
    count = len(parcels.boxes)
    boxes = np.array(parcels.boxes)
    upright = (boxes[:, 3] - boxes[:, 1]) > (boxes[:, 2] - boxes[:, 0])
    angle = np.where(upright, 0.0, math.pi / 2) + rng.normal(0, 0.12, count)
    wave = 2 * math.pi / rng.uniform(3.2, 7.5, count)
    east = (wave * np.cos(angle)).astype(np.float32).take(parcels.owner)
    south = (wave * np.sin(angle)).astype(np.float32).take(parcels.owner)
    x = np.arange(COLS, dtype=np.float32)[None] + parcels.drift[0]
    y = np.arange(ROWS, dtype=np.float32)[:, None] + parcels.drift[1]
    phase = east * x + south * y
    seen = np.clip(np.float32(0.7) + np.float32(0.5) * smooth((ROWS, COLS), 70, 8), 0, 1.4)
    swath = np.sin(phase * np.float32(0.23))
    rows = np.sin(phase) * seen + np.float32(0.8) * swath * np.abs(swath)
    rows -= np.float32(1.6) * (np.abs(swath) < np.float32(0.09))
    return np.asarray(rows, dtype=np.float32)


def _divide(
    box: tuple[float, float, float, float],
    rng: np.random.Generator,
    boxes: list[tuple[float, float, float, float]],
) -> None:
    west, north, east, south = box
    wide, high = east - west, south - north
    if wide * high < 2 * SMALLEST_M2 * rng.uniform(0.6, 1.7):
        boxes.append(box)
        return
    share = rng.uniform(0.36, 0.64)
    if wide > high:
        middle = west + share * wide
        _divide((west, north, middle, south), rng, boxes)
        _divide((middle, north, east, south), rng, boxes)
    else:
        middle = north + share * high
        _divide((west, north, east, middle), rng, boxes)
        _divide((west, middle, east, south), rng, boxes)
