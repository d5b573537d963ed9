"""Lots of Demo City: shops, works, depots, storage, schools; parks, groves, vacant land, desert."""

from __future__ import annotations

import math

import numpy as np
from shapely.geometry import LineString, Point, Polygon

from app.demo.material import Material, pick
from training.synthetic.plot import Plot, Rng, park_cars, paved

FLAT_ROOFS = (
    Material.WHITE_ROOF, Material.GRAY_ROOF, Material.TAN_ROOF, Material.METAL_ROOF,
    Material.DARK_ROOF, Material.WHITE_ROOF, Material.SHINGLE_ROOF,
)  # fmt: skip
SHEDS = (
    Material.BLACK_ROOF, Material.DARK_ROOF, Material.SLATE_ROOF, Material.GRAY_ROOF,
    Material.TAN_ROOF, Material.METAL_ROOF, Material.WHITE_ROOF,
)  # fmt: skip


def shops(plot: Plot, rng: Rng) -> None:
    """Draw shops: a large flat roof or a row of small ones behind a parking lot."""
    kind, tone = paved(rng)
    wide, high = plot.wide / 2, plot.high / 2
    plot.cover(kind, tone)
    park_cars(plot, (-wide + 12, -high * 0.9, wide - 12, high * 0.1), rng, rng.uniform(0.1, 0.6))
    u = -wide + 8
    while u < wide - 20:
        long = min(rng.uniform(18, 90), wide - 6 - u)
        roof = pick(rng, FLAT_ROOFS)
        own, deep = rng.uniform(0.8, 1.1), rng.uniform(0.3, 0.8)
        plot.lay((u, high * (0.95 - deep), u + long, high * 0.95), roof, own, rng.uniform(4.5, 9))
        for _ in range(int(long * high * deep / 220)):
            spot = (u + rng.uniform(3, long - 3), high * (0.95 - rng.uniform(0.08, deep - 0.05)))
            plot.house(*spot, (1.3, 1.1), roof, own * rng.choice([0.65, 1.25]), 10, 0)
        u += long + rng.choice([0.0, 0.0, 9.0])
    for _ in range(int(plot.wide / 14)):
        plot.tree(rng.uniform(-wide, wide), -high + 3, rng.uniform(1.5, 3.5), rng)


def works(plot: Plot, rng: Rng) -> None:
    """Draw industrial halls with yards of asphalt, concrete or gravel."""
    wide, high = plot.wide / 2, plot.high / 2
    kind, tone = paved(rng)
    plot.cover(kind, tone)
    v = -high + 6
    while v < high - 25:
        deep = rng.uniform(28, 70)
        u = -wide + 6
        while u < wide - 25:
            long = rng.uniform(28, 80)
            where = (u, v, min(u + long, wide - 4), min(v + deep, high - 4))
            if (chance := rng.random()) < 0.7:
                roof = pick(rng, FLAT_ROOFS)
                plot.lay(where, roof, rng.uniform(0.75, 1.1), rng.uniform(5, 10))
            elif chance < 0.8:
                plot.lay(where, Material.GRAVEL, rng.uniform(0.85, 1.1))
            elif chance < 0.9:
                plot.lay(where, Material.CONCRETE, rng.uniform(0.85, 1.05))
            else:
                park_cars(plot, where, rng, 0.6)
            u += long + rng.uniform(4, 16)
        v += deep + rng.uniform(8, 22)


def depot(plot: Plot, rng: Rng) -> None:
    """Draw a wide, patched, nearly empty asphalt yard with a hall, trucks and a verge."""
    wide, high = plot.wide / 2, plot.high / 2
    kind, tone = paved(rng)
    plot.cover(kind, tone)
    for _ in range(int(rng.integers(2, 7))):
        u, v = rng.uniform(-wide, wide * 0.6), rng.uniform(-high, high * 0.6)
        patch, shade = paved(rng)
        plot.lay(
            (u, v, min(u + rng.uniform(20, 120), wide), min(v + rng.uniform(20, 90), high)),
            patch,
            shade * rng.uniform(0.6, 1.1),
        )
    for _ in range(int(rng.integers(0, 60))):
        truck = (rng.uniform(-wide, wide) * 0.95, rng.uniform(-high, high) * 0.95)
        plot.house(*truck, (1.3, rng.uniform(3, 8)), Material.CAR, rng.choice([0.5, 1.0, 1.6]))
    for _ in range(int(rng.integers(1, 4))):
        u, v = rng.uniform(-wide, wide * 0.5), rng.uniform(-high, high * 0.5)
        roof = pick(rng, FLAT_ROOFS)
        hall = (u, v, u + rng.uniform(20, 60), v + rng.uniform(12, 40))
        plot.lay(hall, roof, rng.uniform(0.8, 1.1), rng.uniform(5, 9))
    verge = pick(rng, (Material.DRY_GRASS, Material.LAWN, Material.DIRT))
    plot.lay((-wide, high - rng.uniform(3, 14), wide, high), verge)


def storage(plot: Plot, rng: Rng) -> None:
    """Draw identical rows of storage units, about as dark as the driveways between them."""
    wide, high = plot.wide / 2, plot.high / 2
    kind, tone = paved(rng)
    plot.cover(kind, tone)
    roof, own = pick(rng, SHEDS), rng.uniform(0.75, 1.1)
    deep, lane = rng.uniform(7, 14), rng.uniform(6, 10)
    v = -high + lane
    while v < high - deep:
        u = -wide + lane
        while u < wide - 20:
            end = min(u + rng.uniform(30, 110), wide - lane)
            plot.lay((u, v, end, v + deep), roof, own * rng.uniform(0.95, 1.05), 3.5)
            u = end + lane
        v += deep + lane


def school(plot: Plot, rng: Rng) -> None:
    """Draw a school: long buildings, an asphalt playground, a turf field, courts."""
    wide, high = plot.wide / 2, plot.high / 2
    field = Material.TURF if rng.random() < 0.6 else Material.DRY_GRASS
    plot.cover(field, rng.uniform(0.9, 1.1))
    kind, tone = paved(rng)
    plot.lay((-wide * 0.95, -high * 0.9, wide * 0.3, high * 0.15), kind, tone)
    roof = pick(rng, FLAT_ROOFS)
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
    """Draw a park: turf, groves, a pond, paths."""
    wide, high = plot.wide / 2, plot.high / 2
    plot.cover(Material.TURF if rng.random() < 0.7 else Material.LAWN)
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
        if not pond.contains(Point(plot.at(u, v))):
            plot.tree(u, v, rng.uniform(2, 7), rng)


def vacant(plot: Plot, rng: Rng) -> None:
    """Draw vacant land: dry ground with tracks, or a construction site."""
    wide, high = plot.wide / 2, plot.high / 2
    base = pick(rng, (Material.DRY_GRASS, Material.DIRT, Material.GRAVEL, Material.SOIL))
    plot.cover(base, rng.uniform(0.8, 1.1))
    for _ in range(3):
        ends = [plot.at(rng.uniform(-wide, wide), s * high) for s in (-1, 1)]
        plot.ground.fill([LineString(ends).buffer(1.8)], Material.DIRT, rng.uniform(0.95, 1.15))
    for _ in range(int(rng.integers(5, 60))):
        plot.tree(rng.uniform(-wide, wide), rng.uniform(-high, high), rng.uniform(0.8, 3), rng)


def desert(plot: Plot, rng: Rng) -> None:
    """Draw desert: sand or gravel with shrubs of all sizes, tracks, washes."""
    wide, high = plot.wide / 2, plot.high / 2
    base = pick(rng, (Material.SAND, Material.DIRT, Material.GRAVEL))
    plot.cover(base, rng.uniform(0.75, 1.05))
    for _ in range(int(rng.integers(1, 4))):
        ends = [plot.at(rng.uniform(-wide, wide), s * high) for s in (-1, 1)]
        wash = rng.choice([Material.SAND, Material.DIRT])
        plot.ground.fill([LineString(ends).buffer(rng.uniform(1, 5))], Material(wash), 1.0)
    largest = rng.uniform(0.9, 1.9)
    for _ in range(int(4 * wide * high / rng.uniform(18, 140))):
        spot = plot.at(rng.uniform(-wide, wide), rng.uniform(-high, high))
        plot.ground.crown(spot, rng.uniform(0.6, largest), rng.normal(1, 0.15), Material.SAGE)
    for _ in range(int(rng.integers(0, 50))):
        plot.tree(rng.uniform(-wide, wide), rng.uniform(-high, high), rng.uniform(2, 4.5), rng)


def grove(plot: Plot, rng: Rng) -> None:
    """Draw a grove: tall dense trees, shaded undergrowth, clearings."""
    wide, high = plot.wide / 2, plot.high / 2
    below = pick(rng, (Material.LAWN, Material.DRY_GRASS, Material.PASTURE))
    plot.cover(below)
    stands = [
        (plot.at(rng.uniform(-wide, wide), rng.uniform(-high, high)), rng.uniform(25, 80))
        for _ in range(int(rng.integers(5, 12)))
    ]
    dark = rng.uniform(0.4, 1.0)
    crown = Material.CONIFER if rng.random() < 0.6 else Material.YARD_TREE
    for (x, y), reach in stands:
        edge = [
            (x + reach * r * math.cos(t), y + reach * r * math.sin(t))
            for t, r in zip(np.arange(0, 6.2, 0.3), rng.uniform(0.75, 1.15, 21), strict=True)
        ]
        plot.ground.fill([Polygon(edge)], Material.UNDERGROWTH, dark)
        for _ in range(int(3.1 * reach * reach / rng.uniform(18, 40))):
            way, far = rng.uniform(0, 6.3), reach * math.sqrt(rng.random())
            spot = (x + far * math.cos(way), y + far * math.sin(way))
            plot.ground.crown(spot, rng.uniform(2.2, 6.5), rng.normal(1, 0.2), crown)
