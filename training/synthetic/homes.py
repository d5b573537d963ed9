"""Housing of Demo City: dense small houses, apartment blocks, trailers."""

from __future__ import annotations

from typing import NamedTuple

from app.demo.material import Material, pick
from training.synthetic.plot import Plot, Rng, park_cars, paved

ROOFS = (
    Material.GRAY_ROOF, Material.BROWN_ROOF, Material.TILE_ROOF, Material.TILE_ROOF,
    Material.TAN_ROOF, Material.TAN_ROOF, Material.DARK_ROOF, Material.RED_ROOF,
    Material.WHITE_ROOF, Material.SLATE_ROOF, Material.SLATE_ROOF, Material.SHINGLE_ROOF,
    Material.SHINGLE_ROOF, Material.BLACK_ROOF,
)  # fmt: skip
YARDS = (
    Material.LAWN, Material.LAWN, Material.DRY_GRASS, Material.DRY_GRASS, Material.GRAVEL,
    Material.DIRT, Material.CONCRETE,
)  # fmt: skip
DRY_YARDS = (
    Material.GRAVEL, Material.SAND, Material.GRAVEL, Material.DIRT, Material.LAWN,
    Material.CONCRETE,
)  # fmt: skip
TRAILERS = (Material.WHITE_ROOF, Material.TAN_ROOF, Material.METAL_ROOF, Material.GRAY_ROOF)


class Look(NamedTuple):
    """Properties that the houses of a plot share."""

    roofs: tuple[Material, ...]
    yards: tuple[Material, ...]
    trees: tuple[int, int]
    """Fewest on a lot, and one more than the most."""
    crowns: tuple[float, float]
    """Radii in meters."""

    @classmethod
    def selected(cls, rng: Rng) -> Look:
        """Draw a style: half of the plots have three roof types; some are dry, some shaded."""
        roofs: tuple[Material, ...] = ROOFS
        if rng.random() < 0.5:
            roofs = tuple(ROOFS[int(i)] for i in rng.integers(len(ROOFS), size=3))
        chance = rng.random()
        if chance < 0.2:
            return cls(roofs, DRY_YARDS, (0, 3), (1.0, 3.0))
        first = pick(rng, YARDS[:3])
        if chance < 0.4:
            return cls(roofs, (first, *YARDS), (4, 10), (3.0, 7.0))
        if chance < 0.6:
            return cls(roofs, (first, *YARDS), (2, 7), (2.2, 6.0))
        return cls(roofs, (first, *YARDS), (0, 4), (1.2, 4.2))


def homes(plot: Plot, rng: Rng) -> None:
    """Draw streets of small houses on narrow lots."""
    look = Look.selected(rng)
    plot.cover(look.yards[0])
    deep = rng.uniform(27, 40)
    lot = rng.uniform(12.5, 19)
    road = Material.OLD_ASPHALT if rng.random() < 0.5 else Material.ASPHALT
    tone = rng.uniform(0.8, 1.15)
    half = plot.high / 2
    v = -half + deep
    while v < half - deep + 5:
        for side in (-1, 1):
            u = -plot.wide / 2 + lot / 2
            while u < plot.wide / 2 - lot / 2:
                _lot(plot, u, v, side, (lot, deep), look, rng)
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
    plot: Plot, u: float, v: float, side: int, size: tuple[float, float], look: Look, rng: Rng
) -> None:
    lot, deep = size
    front, back = v + side * 7.2, v + side * deep
    yard, rear = (pick(rng, look.yards) for _ in range(2))
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
    roof = pick(rng, look.roofs)
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
        hut = pick(rng, ROOFS)
        plot.house(u + rng.choice([-1, 1]) * (edge - 3.2), last, (2.9, 2.7), hut,
                   rng.uniform(0.75, 1.2), 2.4, 0.2)  # fmt: skip
    if rng.random() < 0.22:
        plot.house(u, last - side * 3.0, (3.6, 1.9), Material.CONCRETE, 1.05, 0, 0)
        plot.house(u, last - side * 3.0, (2.7, 1.3), Material.POOL, rng.uniform(0.85, 1.2), 0, 0)
    for _ in range(int(rng.integers(*look.trees))):
        spot = v + side * rng.uniform(9, deep)
        radius = rng.uniform(*look.crowns)
        plot.tree(u + rng.uniform(-edge, edge), spot, radius, rng)


def flats(plot: Plot, rng: Rng) -> None:
    """Draw apartment blocks around courtyards, carports, a pool."""
    base = pick(rng, YARDS[:3])
    plot.cover(base)
    kind, tone = paved(rng)
    roof, pitch = pick(rng, ROOFS), rng.choice([0.0, 0.25])
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


def trailers(plot: Plot, rng: Rng) -> None:
    """Draw rows of trailers with a strip of driveway, awning or gravel between two."""
    wide, high = plot.wide / 2, plot.high / 2
    kind, tone = paved(rng)
    base = pick(rng, DRY_YARDS) if rng.random() < 0.5 else Material.LAWN
    plot.cover(base)
    slant, gap = rng.uniform(-0.4, 0.4), rng.uniform(8.5, 12)
    v = -high + 12
    while v < high - 12:
        u = -wide + 8
        while u < wide - 8:
            long = rng.uniform(6.0, 9.0)
            plot.house(u + gap * 0.45, v, (1.6, long * 0.8), Material.CONCRETE,
                       rng.uniform(0.85, 1.05), 0, 0, slant)  # fmt: skip
            roof = pick(rng, TRAILERS)
            plot.house(u, v, (rng.uniform(2.2, 3.8), long), roof, rng.uniform(0.75, 1.1),
                       3.0, 0.1, slant)  # fmt: skip
            if rng.random() < 0.3:
                plot.tree(u + gap * 0.5, v + rng.choice([-7, 7]), rng.uniform(1.2, 3.5), rng)
            u += gap
        plot.lay((-wide, v + 10, wide, v + 16.5), kind, tone)
        v += 26.5
