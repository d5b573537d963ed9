"""Where nothing is built: parks, groves, vacant ground, desert."""

from __future__ import annotations

import math

import numpy as np
from shapely.geometry import LineString, Point, Polygon

from app.demo.material import Material
from app.demo.plot import Plot, Rng, pick


def park(plot: Plot, rng: Rng) -> None:
    """Turf, groves, a pond, paths."""
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
    """Dry ground with tracks, or a building site."""
    wide, high = plot.wide / 2, plot.high / 2
    base = pick(rng, (Material.DRY_GRASS, Material.DIRT, Material.GRAVEL, Material.SOIL))
    plot.cover(base, rng.uniform(0.8, 1.1))
    for _ in range(3):
        ends = [plot.at(rng.uniform(-wide, wide), s * high) for s in (-1, 1)]
        plot.ground.fill([LineString(ends).buffer(1.8)], Material.DIRT, rng.uniform(0.95, 1.15))
    for _ in range(int(rng.integers(5, 60))):
        plot.tree(rng.uniform(-wide, wide), rng.uniform(-high, high), rng.uniform(0.8, 3), rng)


def desert(plot: Plot, rng: Rng) -> None:
    """Sand or gravel strewn with shrubs too small to count, some that are not, tracks, washes."""
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
    """Tall trees close together, what grows below them in deep shade, clearings."""
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
