"""The plan of Demo City: a dense western city, drawn to be learned from beside Demo County.

Plots between wide streets, each of one kind: houses wall to wall, flats, shops behind their car
parks, works, depots, schools, parks, groves, desert. Everything the county has little of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from shapely.geometry import LineString

from app.demo.greens import desert, grove, park, vacant
from app.demo.ground import COLS, ROWS, Ground
from app.demo.homes import flats, homes, trailers
from app.demo.material import Material
from app.demo.noise import cloudy, generator
from app.demo.plot import Plot, Rng, paved
from app.demo.trade import depot, school, shops, storage, works

KINDS: dict[Callable[[Plot, Rng], None], float] = {
    homes: 0.36, flats: 0.09, trailers: 0.04, shops: 0.11, works: 0.07, depot: 0.05,
    storage: 0.04, school: 0.05, park: 0.04, vacant: 0.04, desert: 0.05, grove: 0.06,
}  # fmt: skip
"""What stands on a plot, and how often."""


def city(number: int) -> Ground:
    """Everything on the ground, later things on top; each `number` is another city."""
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
    """Wide streets between the plots: pavements, lanes, paint, cars, trees along them."""
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
