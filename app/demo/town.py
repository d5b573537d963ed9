"""What people built: neighborhoods of houses, works with flat roofs, farms along the roads."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from shapely.geometry import LineString, Point, Polygon, box
from shapely.geometry.base import BaseGeometry
from shapely.ops import nearest_points

from app.demo.ground import Ground
from app.demo.material import HOUSE_ROOFS, Material, pick
from app.demo.noise import generator


class Neighborhood(NamedTuple):
    """Streets between houses; bounds and entrance (a point of a road) in local meters."""

    bounds: tuple[float, float, float, float]
    entrance: tuple[float, float]
    since: int
    """The first year it stands."""
    tilt: float


NEIGHBORHOODS = (
    Neighborhood((1500, 240, 1960, 650), (1450, 430), 0, 0.05),
    Neighborhood((90, 800, 540, 1180), (620, 960), 0, -0.08),
    Neighborhood((2330, 960, 2860, 1400), (2270, 1150), 0, 0.06),
    Neighborhood((1520, 2730, 2010, 3140), (1450, 2920), 0, -0.05),
    Neighborhood((120, 1990, 560, 2440), (620, 2200), 0, 0.10),
    Neighborhood((2350, 1990, 2830, 2450), (2270, 2230), 2017, -0.04),
)

WORKS: tuple[tuple[float, float, float, float], ...] = (
    (1530, 1330, 1820, 1570),
    (1860, 1350, 2180, 1580),
    (1520, 1790, 1760, 2010),
    (300, 1320, 560, 1480),
    (2340, 1440, 2560, 1590),
    (2480, 2700, 2700, 2860),
    (720, 60, 900, 240),
    (300, 2950, 480, 3080),
)
"""Plots of asphalt with a large roof on each, local meters west, north, east, south."""


def build_neighborhood(ground: Ground, plan: Neighborhood, number: int) -> None:
    """Lawns, looped streets, drives, houses with hip roofs, trees in the yards."""
    rng = generator(30, number)
    west, north, east, south = plan.bounds
    middle = ((west + east) / 2, (north + south) / 2)

    def bend(x: float, y: float) -> tuple[float, float]:
        u, v = x - middle[0], y - middle[1]
        v += 14 * math.sin(u / 95 + number)
        turn = plan.tilt
        return (
            middle[0] + u * math.cos(turn) - v * math.sin(turn),
            middle[1] + u * math.sin(turn) + v * math.cos(turn),
        )

    def street(points: list[tuple[float, float]]) -> LineString:
        line = LineString(points).segmentize(12)
        return LineString([bend(x, y) for x, y in line.coords])

    edge = LineString(
        [(west, north), (east, north), (east, south), (west, south), (west, north)]
    ).segmentize(20)
    ground.fill([Polygon([bend(x, y) for x, y in edge.coords])], Material.LAWN)
    count = max(2, round((south - north) / 100))
    levels = [north + (i + 0.5) * (south - north) / count for i in range(count)]
    streets = [street([(west + 22, y), (east - 22, y)]) for y in levels]
    sides = [
        street([(west + 22, levels[0]), (west + 22, levels[-1])]),
        street([(east - 22, levels[0]), (east - 22, levels[-1])]),
    ]
    gate = Point(plan.entrance)
    door = LineString([gate, nearest_points(min(sides, key=gate.distance), gate)[0]])
    backs = [north + i * (south - north) / count for i in range(count + 1)]
    for line in streets:
        for side in (-1, 1):
            _yards(ground, line, side, (south - north) / count / 2, rng)
    for y in backs:
        _tree_row(ground, street([(west + 6, y), (east - 6, y)]), rng)
    paved = [line.buffer(4.0) for line in [*streets, *sides, door]]
    ground.fill(paved, Material.OLD_ASPHALT if number % 2 else Material.ASPHALT)
    for line in streets:
        for side in (-1, 1):
            place = rng.uniform(18, 26)
            while place < line.length - 16:
                _lot(ground, line, place, side, rng)
                place += rng.uniform(19, 25)


def _yards(
    ground: Ground, line: LineString, side: int, deep: float, rng: np.random.Generator
) -> None:
    # Every lot is mown, watered and fenced by somebody else.
    place = 8.0
    while place < line.length - 8:
        wide = rng.uniform(19, 26)
        here, there = line.interpolate(place + wide / 2), line.interpolate(place + wide / 2 + 1)
        angle = math.atan2(there.y - here.y, there.x - here.x)
        middle = (
            here.x - math.sin(angle) * side * deep / 2,
            here.y + math.cos(angle) * side * deep / 2,
        )
        ground.block(middle, (wide / 2, deep / 2), angle, Material.LAWN, rng.normal(1, 0.09))
        place += wide


def _tree_row(ground: Ground, line: LineString, rng: np.random.Generator) -> None:
    place = 0.0
    while place < line.length:
        spot = line.interpolate(place)
        at = (spot.x + rng.normal(0, 3), spot.y + rng.normal(0, 3.5))
        ground.crown(at, rng.uniform(2.2, 6.2), rng.normal(1, 0.15))
        place += rng.uniform(3, 11) if rng.random() < 0.86 else rng.uniform(15, 45)


def _lot(
    ground: Ground, line: LineString, place: float, side: int, rng: np.random.Generator
) -> None:
    here, there = line.interpolate(place), line.interpolate(place + 1)
    angle = math.atan2(there.y - here.y, there.x - here.x)
    offset = (-math.sin(angle) * side, math.cos(angle) * side)

    def at(along: float, off: float) -> tuple[float, float]:
        return (
            here.x + offset[0] * off + math.cos(angle) * along,
            here.y + offset[1] * off + math.sin(angle) * along,
        )

    if rng.random() < 0.05:
        return
    back = rng.uniform(19, 23)
    drive = rng.choice([-5.0, 5.0])
    surface = Material.CONCRETE if rng.random() < 0.7 else Material.OLD_ASPHALT
    ground.block(at(drive, back / 2 + 1), (2.2, back / 2 - 2), angle, surface)
    if rng.random() < 0.4:
        tone = rng.choice([0.45, 0.8, 1.3, 1.7])
        ground.block(at(drive, rng.uniform(7, 10)), (0.95, 2.2), angle, Material.CAR, tone)
    roof = pick(rng, HOUSE_ROOFS)
    tone, turn = rng.uniform(0.78, 1.2), angle + rng.normal(0, 0.06)
    half = (rng.uniform(5.8, 9.2), rng.uniform(4.2, 6.4))
    if rng.random() < 0.15:
        turn, half = turn + math.pi / 2, (min(half[0], 8.0), half[1])
    pitch, gable = rng.choice([0.0, 0.35, 0.5, 0.65], p=[0.08, 0.3, 0.4, 0.22]), rng.random() < 0.6
    ground.block(at(0, back), half, turn, roof, tone, 3.0, pitch, gable=gable)
    if rng.random() < 0.6:
        wing = (rng.uniform(6.0, 8.0), rng.uniform(3.2, 4.4))
        ground.block(
            at(drive * 0.8, back), wing, turn + math.pi / 2, roof, tone, 3.0, pitch, gable=gable
        )
    if rng.random() < 0.3:
        spot, own = at(-drive, back + rng.uniform(12, 19)), rng.uniform(0.7, 1.1)
        ground.block(spot, (2.4, 1.9), turn, pick(rng, HOUSE_ROOFS), own, 2.4, 0.3, gable=True)
    for _ in range(int(rng.integers(1, 6))):
        along, off = rng.uniform(-10, 10), rng.choice([rng.uniform(6, 11), rng.uniform(30, 46)])
        ground.crown(at(along, off), rng.uniform(1.8, 5.8), rng.normal(1, 0.15))


def build_works(
    ground: Ground, plot: tuple[float, float, float, float], number: int, roads: BaseGeometry
) -> None:
    """A plot of asphalt with a drive to `roads`, one or two flat roofs, bays with cars, trees."""
    rng = generator(40, number)
    west, north, east, south = plot
    ground.fill([box(west - 8, north - 8, east + 8, south + 8)], Material.LAWN)
    surface = Material.ASPHALT if rng.random() < 0.6 else Material.OLD_ASPHALT
    road, edge = nearest_points(roads, box(west, north, east, south).centroid.buffer(25))
    ground.fill(
        [box(west, north, east, south), LineString([road, edge]).buffer(4)],
        surface,
        rng.uniform(0.9, 1.1),
    )
    wide, high = east - west, south - north
    for lane in range(int(high * 0.42 // 17)):
        row = north + 8 + lane * 17.0
        for bay in range(int((wide - 30) // 2.8)):
            x = west + 15 + bay * 2.8
            for y in (row, row + 5.6):
                if rng.random() < 0.42:
                    tone = rng.choice([0.45, 0.7, 1.0, 1.35, 1.7])
                    ground.block((x, y), (0.95, 2.2), 0.0, Material.CAR, tone)
            ground.block((x + 1.4, row + 2.8), (0.28, 5.0), 0.0, Material.PAINT, 0.8)
    roofs = (Material.WHITE_ROOF, Material.METAL_ROOF, Material.GRAY_ROOF, Material.DARK_ROOF)
    hall = box(west + wide * 0.08, north + high * 0.5, east - wide * 0.1, south - high * 0.07)
    left, top, right, bottom = hall.bounds
    cut = left + (right - left) * rng.uniform(0.45, 0.7)
    for part in (box(left, top, cut, bottom), box(cut, top + high * 0.08, right, bottom)):
        roof = pick(rng, roofs)
        tone = rng.uniform(0.85, 1.05)
        ground.fill([part], roof, tone, 8.0)
        x0, y0, x1, y1 = part.bounds
        for _ in range(int(part.area // 450)):
            unit = (rng.uniform(x0 + 4, x1 - 4), rng.uniform(y0 + 4, y1 - 4))
            ground.block(unit, (1.2, 1.0), 0.0, roof, tone * rng.choice([0.7, 1.25]), 9.2)
    for _ in range(int(wide // 16)):
        ground.crown((rng.uniform(west, east), north - 5), rng.uniform(2, 4), rng.normal(1, 0.1))


def build_farm(
    ground: Ground, place: tuple[float, float], number: int, roads: BaseGeometry
) -> None:
    """A house, a barn or chicken houses, a yard of dirt with a drive to `roads`, old trees."""
    rng = generator(50, number)
    x, y = place
    turn = rng.uniform(-0.3, 0.3)
    ground.block((x, y), (38, 30), turn, Material.LAWN)
    drive = LineString(nearest_points(roads, Point(x + 8, y + 6)))
    ground.fill([drive.buffer(1.8)], Material.DIRT)
    ground.block((x + 8, y + 6), (16, 10), turn, Material.DIRT)
    roof = pick(rng, HOUSE_ROOFS)
    tone = rng.uniform(0.85, 1.15)
    ground.block((x - 16, y - 8), (8.5, 5.5), turn, roof, tone, 3.0, 0.5, gable=number % 2 == 0)
    for barn in range(int(rng.integers(1, 4))):
        spot = (x + 20, y - 16 + 19 * barn)
        tone = rng.uniform(0.85, 1.1)
        ground.block(
            spot, (rng.uniform(9, 26), 6), turn, Material.METAL_ROOF, tone, 4.0, 0.35, gable=True
        )
    for _ in range(9):
        spot = (x + rng.normal(-12, 20), y + rng.normal(0, 18))
        ground.crown(spot, rng.uniform(3, 6), rng.normal(1, 0.12))
