"""The plan of Demo City: a dense western city, drawn to be learnt from beside Demo County.

Plots between wide streets, each of one kind: small houses wall to wall, flats, shops behind their
car parks, works, schools, parks, vacant ground. Everything the county has little of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from shapely.geometry import LineString, Polygon, box

from app.demo.ground import COLS, ROWS, Ground
from app.demo.material import Material
from app.demo.noise import cloudy, generator
from app.demo.plot import Plot, Rng, park_cars, paved

ROOFS = (
    Material.GREY_ROOF, Material.BROWN_ROOF, Material.TILE_ROOF, Material.TILE_ROOF,
    Material.TAN_ROOF, Material.TAN_ROOF, Material.DARK_ROOF, Material.RED_ROOF,
    Material.WHITE_ROOF, Material.SLATE_ROOF, Material.SLATE_ROOF, Material.SHINGLE_ROOF,
    Material.SHINGLE_ROOF, Material.BLACK_ROOF,
)  # fmt: skip
FLAT_ROOFS = (
    Material.WHITE_ROOF, Material.GREY_ROOF, Material.TAN_ROOF, Material.METAL_ROOF,
    Material.DARK_ROOF, Material.WHITE_ROOF, Material.SHINGLE_ROOF,
)  # fmt: skip
YARDS = (
    Material.LAWN, Material.LAWN, Material.DRY_GRASS, Material.DRY_GRASS, Material.GRAVEL,
    Material.DIRT, Material.CONCRETE,
)  # fmt: skip


def city() -> Ground:
    """Everything on the ground, later things on top."""
    ground, rng = Ground(), generator(200)
    ground.material[:] = Material.DRY_GRASS
    ground.material[cloudy((ROWS, COLS), 120, 201) > 0.2] = Material.LAWN
    columns = np.cumsum([-40, *rng.uniform(230, 430, 12)])
    rows = np.cumsum([-40, *rng.uniform(230, 430, 14)])
    kinds: list[Callable[[Plot, Rng], None]] = [homes, flats, shops, works, school, park, vacant]
    odds = np.array([0.46, 0.12, 0.15, 0.09, 0.07, 0.05, 0.06])
    for number, (north, south) in enumerate(pairwise(rows)):
        for other, (west, east) in enumerate(pairwise(columns)):
            own = generator(202, number, other)
            turn = own.choice([0.0, 0.0, math.pi / 2, own.uniform(-0.5, 0.5)])
            wide, high = east - west - 30, south - north - 30
            if abs(turn) == math.pi / 2:
                wide, high = high, wide
            plot = Plot(ground, ((west + east) / 2, (north + south) / 2), wide, high, turn)
            kinds[int(own.choice(len(kinds), p=odds / odds.sum()))](plot, own)
    _streets(ground, columns, rows)
    return ground


def homes(plot: Plot, rng: Rng) -> None:
    """Streets of small houses on lots that are hardly wider than they are."""
    base = YARDS[int(rng.integers(3))]
    plot.lay((-plot.wide / 2, -plot.high / 2, plot.wide / 2, plot.high / 2), base)
    deep = rng.uniform(27, 40)
    lot = rng.uniform(12.5, 19)
    road = Material.OLD_ASPHALT if rng.random() < 0.5 else Material.ASPHALT
    tone = rng.uniform(0.8, 1.15)
    leafy = rng.random() < 0.4
    half = plot.high / 2
    v = -half + deep
    while v < half - deep + 5:
        for side in (-1, 1):
            u = -plot.wide / 2 + lot / 2
            while u < plot.wide / 2 - lot / 2:
                _lot(plot, u, v, side, (lot, deep), leafy, rng)
                u += lot
        plot.lay((-plot.wide / 2, v - 7.2, plot.wide / 2, v + 7.2), Material.CONCRETE, 0.95)
        plot.lay((-plot.wide / 2, v - 5.2, plot.wide / 2, v + 5.2), road, tone)
        for _ in range(int(plot.wide / 16)):
            car = (rng.uniform(-0.5, 0.5) * plot.wide, v + rng.choice([-3.9, 3.9]))
            plot.house(*car, (2.3, 0.95), Material.CAR, rng.choice([0.4, 0.8, 1.3, 1.7]), 0, 0)
            spot = rng.uniform(-0.5, 0.5) * plot.wide
            if rng.random() < 0.7:
                plot.tree(spot, v + rng.choice([-8.5, 8.5]), rng.uniform(1.5, 5.5), rng)
        v += 2 * deep + rng.choice([0.0, 6.0])


def _lot(
    plot: Plot, u: float, v: float, side: int, size: tuple[float, float], leafy: bool, rng: Rng
) -> None:
    lot, deep = size
    front, back = v + side * 7.2, v + side * deep
    yard, rear = (YARDS[int(rng.integers(len(YARDS)))] for _ in range(2))
    edge = lot / 2 - 0.3
    middle = v + side * (7.2 + deep * 0.36)
    plot.lay(
        (u - edge, min(front, middle), u + edge, max(front, middle)), yard, rng.uniform(0.85, 1.15)
    )
    plot.lay(
        (u - edge, min(back, middle), u + edge, max(back, middle)), rear, rng.uniform(0.85, 1.15)
    )
    if rng.random() < 0.04:
        return
    drive = u + rng.choice([-1, 1]) * (edge - 1.9)
    surface = Material.CONCRETE if rng.random() < 0.75 else Material.OLD_ASPHALT
    end = v + side * rng.uniform(15, 20)
    plot.lay(
        (drive - 1.7, min(front, end), drive + 1.7, max(front, end)),
        surface,
        rng.uniform(0.85, 1.1),
    )
    roof = ROOFS[int(rng.integers(len(ROOFS)))]
    tone, skew = rng.uniform(0.72, 1.22), rng.normal(0, 0.02)
    wide, long = edge - rng.uniform(0.4, 1.6), rng.uniform(5.0, 8.5)
    place = v + side * (13.5 + long)
    pitch = rng.choice([0.0, 0.3, 0.5])
    plot.house(u, place, (wide, long), roof, tone, 3.0, pitch, skew)
    if rng.random() < 0.55:
        plot.house(u + rng.choice([-1, 1]) * wide * 0.45, place + side * long * 0.6,
                   (wide * 0.5, long * 0.7), roof, tone, 3.0, pitch, skew)  # fmt: skip
    last = v + side * (deep - 3.2)
    if rng.random() < 0.5:
        hut = ROOFS[int(rng.integers(len(ROOFS)))]
        plot.house(u + rng.choice([-1, 1]) * (edge - 3.2), last, (2.9, 2.7), hut,
                   rng.uniform(0.75, 1.2), 2.4, 0.2)  # fmt: skip
    if rng.random() < 0.22:
        plot.house(u, last - side * 3.0, (3.6, 1.9), Material.CONCRETE, 1.05, 0, 0)
        plot.house(u, last - side * 3.0, (2.7, 1.3), Material.POOL, rng.uniform(0.85, 1.2), 0, 0)
    for _ in range(int(rng.integers(2, 7) if leafy else rng.integers(0, 4))):
        spot = v + side * rng.uniform(9, deep)
        radius = rng.uniform(2.2, 6.0) if leafy else rng.uniform(1.2, 4.2)
        plot.tree(u + rng.uniform(-edge, edge), spot, radius, rng)


def flats(plot: Plot, rng: Rng) -> None:
    """Long flat or hipped blocks around courts, carports, a pool."""
    base = YARDS[int(rng.integers(3))]
    plot.lay((-plot.wide / 2, -plot.high / 2, plot.wide / 2, plot.high / 2), base)
    kind, tone = paved(rng)
    roof, pitch = ROOFS[int(rng.integers(len(ROOFS)))], rng.choice([0.0, 0.25])
    step = rng.uniform(42, 60)
    u = -plot.wide / 2 + step / 2
    while u < plot.wide / 2 - 12:
        plot.lay((u + step * 0.28, -plot.high / 2, u + step * 0.5, plot.high / 2), kind, tone)
        bays = (u + step * 0.29, -plot.high / 2 + 8, u + step * 0.49, plot.high / 2 - 8)
        park_cars(plot, bays, rng, 0.5)
        v = -plot.high / 2 + 24
        while v < plot.high / 2 - 20:
            own = rng.uniform(0.8, 1.15)
            plot.house(u - 4, v, (step * 0.22, 6.5), roof, own, 6.0, pitch)
            plot.house(u - 4 - step * 0.16, v + 12, (6.0, 13), roof, own, 6.0, pitch)
            if rng.random() < 0.25:
                plot.house(u + 2, v + 15, (4.5, 3), Material.POOL, 1.0, 0, 0)
            for _ in range(4):
                plot.tree(u + rng.uniform(-12, 8), v + rng.uniform(8, 24), rng.uniform(1.5, 4), rng)
            v += rng.uniform(32, 44)
        u += step


def shops(plot: Plot, rng: Rng) -> None:
    """A large flat roof or a row of small ones behind a car park."""
    kind, tone = paved(rng)
    wide, high = plot.wide / 2, plot.high / 2
    plot.lay((-wide, -high, wide, high), kind, tone)
    park_cars(plot, (-wide + 12, -high * 0.9, wide - 12, high * 0.1), rng, rng.uniform(0.1, 0.6))
    u = -wide + 8
    while u < wide - 20:
        long = min(rng.uniform(18, 90), wide - 6 - u)
        roof = FLAT_ROOFS[int(rng.integers(len(FLAT_ROOFS)))]
        own, deep = rng.uniform(0.8, 1.1), rng.uniform(0.3, 0.8)
        plot.lay((u, high * (0.95 - deep), u + long, high * 0.95), roof, own, rng.uniform(4.5, 9))
        for _ in range(int(long * high * deep / 220)):
            spot = (u + rng.uniform(3, long - 3), high * (0.95 - rng.uniform(0.08, deep - 0.05)))
            plot.house(*spot, (1.3, 1.1), roof, own * rng.choice([0.65, 1.25]), 10, 0)
        u += long + rng.choice([0.0, 0.0, 9.0])
    for _ in range(int(plot.wide / 14)):
        plot.tree(rng.uniform(-wide, wide), -high + 3, rng.uniform(1.5, 3.5), rng)


def works(plot: Plot, rng: Rng) -> None:
    """Halls wall to wall, yards of asphalt, concrete or gravel between them."""
    wide, high = plot.wide / 2, plot.high / 2
    kind, tone = paved(rng)
    plot.lay((-wide, -high, wide, high), kind, tone)
    v = -high + 6
    while v < high - 25:
        deep = rng.uniform(28, 70)
        u = -wide + 6
        while u < wide - 25:
            long = rng.uniform(28, 80)
            where = (u, v, min(u + long, wide - 4), min(v + deep, high - 4))
            if (pick := rng.random()) < 0.7:
                roof = FLAT_ROOFS[int(rng.integers(len(FLAT_ROOFS)))]
                plot.lay(where, roof, rng.uniform(0.75, 1.1), rng.uniform(5, 10))
            elif pick < 0.8:
                plot.lay(where, Material.GRAVEL, rng.uniform(0.85, 1.1))
            elif pick < 0.9:
                plot.lay(where, Material.CONCRETE, rng.uniform(0.85, 1.05))
            else:
                park_cars(plot, where, rng, 0.6)
            u += long + rng.uniform(4, 16)
        v += deep + rng.uniform(8, 22)


def school(plot: Plot, rng: Rng) -> None:
    """Long buildings, a playground of asphalt, a field of turf, courts."""
    wide, high = plot.wide / 2, plot.high / 2
    field = Material.TURF if rng.random() < 0.6 else Material.DRY_GRASS
    plot.lay((-wide, -high, wide, high), field, rng.uniform(0.9, 1.1))
    kind, tone = paved(rng)
    plot.lay((-wide * 0.95, -high * 0.9, wide * 0.3, high * 0.15), kind, tone)
    roof = FLAT_ROOFS[int(rng.integers(len(FLAT_ROOFS)))]
    for v in np.arange(-high * 0.85, -high * 0.1, rng.uniform(17, 24)):
        plot.lay((-wide * 0.9, v, -wide * 0.1, v + 9), roof, rng.uniform(0.9, 1.05), 4.0)
    for u in np.arange(0.0, wide * 0.25, 18):
        court = (u, -high * 0.8, u + 15, -high * 0.8 + 30)
        plot.lay(court, Material.COURT, rng.uniform(0.85, 1.1))
    plot.lay((wide * 0.4, -high * 0.9, wide * 0.95, -high * 0.3), Material.GRAVEL, 1.05)
    for _ in range(40):
        plot.tree(
            rng.uniform(-wide, wide),
            rng.choice([-high * 0.95, high * 0.95]),
            rng.uniform(2, 5),
            rng,
        )


def park(plot: Plot, rng: Rng) -> None:
    """Turf, groves, a pond, paths."""
    wide, high = plot.wide / 2, plot.high / 2
    plot.lay((-wide, -high, wide, high), Material.TURF if rng.random() < 0.7 else Material.LAWN)
    plot.lay((-wide * 0.8, high * 0.1, -wide * 0.2, high * 0.8), Material.DRY_GRASS)
    pond = Polygon(
        [plot.at(wide * 0.45 + 40 * math.cos(t), 30 * math.sin(t)) for t in np.arange(0, 6.28, 0.2)]
    )
    water = Material.SILTY_WATER if rng.random() < 0.5 else Material.WATER
    plot.ground.fill([pond], water, rng.uniform(0.8, 1.3))
    path = LineString(
        [plot.at(-wide, -high * 0.3), plot.at(0, high * 0.05), plot.at(wide, -high * 0.5)]
    )
    plot.ground.fill([path.buffer(1.6)], Material.CONCRETE, 0.95)
    for _ in range(int(plot.wide * plot.high / 260)):
        u, v = rng.uniform(-wide, wide), rng.uniform(-high, high)
        if not pond.contains(box(*plot.at(u, v), *plot.at(u, v)).centroid):
            plot.tree(u, v, rng.uniform(2, 7), rng)


def vacant(plot: Plot, rng: Rng) -> None:
    """Dry ground with tracks, or a building site."""
    wide, high = plot.wide / 2, plot.high / 2
    base = (Material.DRY_GRASS, Material.DIRT, Material.GRAVEL, Material.SOIL)[int(rng.integers(4))]
    plot.lay((-wide, -high, wide, high), base, rng.uniform(0.8, 1.1))
    for _ in range(3):
        ends = [plot.at(rng.uniform(-wide, wide), s * high) for s in (-1, 1)]
        plot.ground.fill([LineString(ends).buffer(1.8)], Material.DIRT, rng.uniform(0.95, 1.15))
    for _ in range(int(rng.integers(5, 60))):
        plot.tree(rng.uniform(-wide, wide), rng.uniform(-high, high), rng.uniform(0.8, 3), rng)


def _streets(ground: Ground, columns: np.ndarray, rows: np.ndarray) -> None:
    """Wide streets between the plots: pavements, lanes, paint, cars, trees along them."""
    rng = generator(203)
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
