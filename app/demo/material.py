"""What the ground is made of. Finer than land cover: many materials share one class.

Colors are relations, not digital numbers of any year: `app.demo.sensor` turns them into those.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Material(IntEnum):
    """A name for each row of `LOOKS`."""

    PASTURE = 0
    CROP = 1
    LUSH_CROP = 2
    LAWN = 3
    SOIL = 4
    STUBBLE = 5
    DRY_GRASS = 6
    CLEAR_CUT = 7
    DIRT = 8
    SAND = 9
    BROADLEAF = 10
    PINE = 11
    YARD_TREE = 12
    WATER = 13
    SILTY_WATER = 14
    ASPHALT = 15
    OLD_ASPHALT = 16
    CONCRETE = 17
    PAINT = 18
    CAR = 19
    BROWN_ROOF = 20
    GRAY_ROOF = 21
    RED_ROOF = 22
    DARK_ROOF = 23
    WHITE_ROOF = 24
    METAL_ROOF = 25
    SCRUB = 26
    POOL = 27
    TAN_ROOF = 28
    TILE_ROOF = 29
    GRAVEL = 30
    COURT = 31
    TURF = 32
    SLATE_ROOF = 33
    SHINGLE_ROOF = 34
    BLACK_ROOF = 35
    WARM_ASPHALT = 36
    SAGE = 37
    CONIFER = 38
    UNDERGROWTH = 39
    SEALED_ASPHALT = 40


class Look(NamedTuple):
    """How a material looks: class, red, green, blue, NIR, and how each varies."""

    land_class: int
    """1 buildings, 2 roads or parking, 3 water, 4 open or bare, 5 forest, 6 planted."""
    color: tuple[float, float, float, float]
    """Red, green, blue, near infrared on a scale of 0 to 255."""
    grain: float
    """Share by which neighboring pixels differ."""
    patch: tuple[float, float]
    """Share by which patches of some ten meters differ, in visible light and in near infrared."""
    rows: float = 0.0
    """Share by which the rows of a field stand out."""
    parcel: float = 0.0
    """Share by which one parcel of it differs from the next."""


LOOKS: dict[Material, Look] = {
    Material.PASTURE: Look(6, (97, 110, 78, 164), 0.035, (-0.11, 0.06), 0.0, 0.10),
    Material.CROP: Look(6, (78, 101, 70, 168), 0.022, (-0.10, 0.06), 0.06, 0.10),
    Material.LUSH_CROP: Look(6, (62, 90, 61, 185), 0.02, (-0.07, 0.05), 0.045, 0.08),
    Material.LAWN: Look(6, (95, 111, 79, 166), 0.03, (-0.08, 0.05), 0.0, 0.07),
    Material.SOIL: Look(4, (142, 125, 94, 138), 0.025, (0.12, 0.10), 0.05, 0.13),
    Material.STUBBLE: Look(4, (150, 144, 108, 150), 0.035, (0.07, 0.05), 0.06, 0.10),
    Material.DRY_GRASS: Look(4, (139, 135, 99, 150), 0.045, (0.09, 0.04), 0.0, 0.09),
    Material.CLEAR_CUT: Look(4, (132, 118, 96, 128), 0.14, (0.13, 0.10), 0.03, 0.10),
    Material.DIRT: Look(4, (178, 155, 124, 165), 0.04, (0.05, 0.05)),
    Material.SAND: Look(4, (196, 182, 156, 186), 0.04, (0.06, 0.05)),
    Material.BROADLEAF: Look(5, (66, 88, 60, 176), 0.06, (-0.14, 0.08), 0.0, 0.06),
    Material.PINE: Look(5, (60, 80, 54, 150), 0.06, (-0.09, 0.06), 0.05, 0.07),
    Material.YARD_TREE: Look(5, (64, 87, 58, 178), 0.08, (-0.05, 0.05)),
    Material.WATER: Look(3, (50, 66, 62, 24), 0.02, (0.07, 0.10)),
    Material.SILTY_WATER: Look(3, (74, 82, 64, 42), 0.02, (0.05, 0.10)),
    Material.ASPHALT: Look(2, (112, 112, 112, 92), 0.03, (0.05, 0.05)),
    Material.OLD_ASPHALT: Look(2, (136, 133, 130, 118), 0.03, (0.05, 0.05)),
    Material.CONCRETE: Look(2, (176, 171, 163, 160), 0.03, (0.04, 0.04)),
    Material.PAINT: Look(2, (205, 205, 200, 190), 0.03, (0.0, 0.0)),
    Material.CAR: Look(2, (128, 128, 132, 112), 0.10, (0.0, 0.0)),
    Material.BROWN_ROOF: Look(1, (143, 124, 109, 130), 0.035, (0.02, 0.02)),
    Material.GRAY_ROOF: Look(1, (143, 141, 140, 128), 0.035, (0.02, 0.02)),
    Material.RED_ROOF: Look(1, (144, 104, 90, 134), 0.035, (0.02, 0.02)),
    Material.DARK_ROOF: Look(1, (104, 102, 103, 92), 0.035, (0.02, 0.02)),
    Material.WHITE_ROOF: Look(1, (184, 186, 184, 174), 0.015, (0.02, 0.02)),
    Material.METAL_ROOF: Look(1, (150, 157, 161, 146), 0.02, (0.03, 0.03)),
    Material.SCRUB: Look(5, (80, 96, 66, 164), 0.12, (-0.10, 0.08), 0.05, 0.06),
    Material.POOL: Look(3, (104, 152, 158, 44), 0.03, (0.04, 0.06), 0.0, 0.12),
    Material.TAN_ROOF: Look(1, (160, 147, 128, 146), 0.03, (0.02, 0.02), 0.0, 0.08),
    Material.TILE_ROOF: Look(1, (150, 124, 106, 138), 0.05, (0.02, 0.02), 0.0, 0.08),
    Material.GRAVEL: Look(4, (152, 141, 124, 143), 0.06, (0.06, 0.05), 0.0, 0.10),
    Material.COURT: Look(2, (96, 118, 106, 96), 0.02, (0.02, 0.02), 0.0, 0.12),
    Material.SLATE_ROOF: Look(1, (108, 112, 113, 84), 0.04, (0.02, 0.02), 0.0, 0.10),
    Material.SHINGLE_ROOF: Look(1, (138, 138, 136, 110), 0.04, (0.02, 0.02), 0.0, 0.10),
    Material.BLACK_ROOF: Look(1, (76, 80, 84, 54), 0.04, (0.02, 0.02), 0.0, 0.10),
    Material.WARM_ASPHALT: Look(2, (118, 117, 114, 110), 0.03, (0.05, 0.05), 0.0, 0.08),
    Material.SEALED_ASPHALT: Look(2, (100, 104, 107, 72), 0.03, (0.05, 0.05), 0.0, 0.08),
    Material.SAGE: Look(4, (106, 103, 86, 122), 0.10, (-0.05, 0.05), 0.0, 0.10),
    Material.CONIFER: Look(5, (52, 70, 60, 124), 0.10, (-0.05, 0.06), 0.0, 0.08),
    Material.UNDERGROWTH: Look(5, (44, 58, 50, 92), 0.10, (-0.05, 0.06), 0.0, 0.10),
    Material.TURF: Look(6, (74, 102, 74, 178), 0.04, (-0.06, 0.06), 0.02, 0.10),
}

HOUSE_ROOFS = (
    *(Material.BROWN_ROOF, Material.GRAY_ROOF, Material.SHINGLE_ROOF) * 3,
    *(Material.DARK_ROOF, Material.TAN_ROOF, Material.SLATE_ROOF) * 2,
    *(Material.BLACK_ROOF, Material.RED_ROOF, Material.METAL_ROOF),
)
"""Shingles of many grays and browns, fewer of red tile or sheet metal."""


def class_table() -> npt.NDArray[np.uint8]:
    """Material → land cover class, uint8 (materials,), values 1..6."""
    return np.array([LOOKS[material].land_class for material in Material], dtype=np.uint8)


def pick(rng: np.random.Generator, kinds: Sequence[Material]) -> Material:
    """Draw one of several materials; one that is listed twice is twice as likely."""
    return kinds[int(rng.integers(len(kinds)))]
