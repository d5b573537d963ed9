"""The plan of Demo County: what covers each square meter of it in a year."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from app.demo.ground import COLS, ROWS, Ground
from app.demo.material import Material
from app.demo.noise import cloudy, generator, smooth
from app.demo.parcels import LINES_X, LINES_Y, Parcels, survey, uses
from app.demo.town import NEIGHBORHOODS, WORKS, build_farm, build_neighborhood, build_works
from app.demo.woods import Canopy, canopy, grow

YEARS = (2013, 2017)

NEW_POND = (480.0, 2850.0)
"""Middle of the pond dug between the years, local meters east and south."""

PONDS = (
    ((2060.0, 2280.0), 118.0, Material.WATER),
    ((2620.0, 760.0), 46.0, Material.SILTY_WATER),
    ((1830.0, 900.0), 38.0, Material.WATER),
    ((300.0, 620.0), 40.0, Material.WATER),
    ((1300.0, 2480.0), 30.0, Material.SILTY_WATER),
    ((2250.0, 3060.0), 50.0, Material.WATER),
    ((160.0, 1650.0), 34.0, Material.SILTY_WATER),
    ((2150.0, 180.0), 44.0, Material.WATER),
)

WOODED = {Material.BROADLEAF, Material.PINE, Material.SCRUB}


@lru_cache(maxsize=1)
def land() -> Parcels:
    """The division of the county, the same in every year."""
    return survey()


@lru_cache(maxsize=1)
def trees() -> dict[Material, Canopy]:
    """The trees of each kind of wood, the same in every year."""
    return {
        Material.BROADLEAF: canopy(7.4, 15.0, 1),
        Material.PINE: canopy(4.4, 12.0, 2),
        Material.SCRUB: canopy(3.6, 3.0, 3),
    }


def county(year: int) -> Ground:
    """Everything on the ground in `year`, earlier things covered by later ones."""
    parcels, ground = land(), Ground()
    selected = uses(parcels, year)
    open_uses = [Material.PASTURE if use in WOODED else use for use in selected]
    ground.material = np.array(open_uses, dtype=np.uint8).take(parcels.owner)
    shape = (ROWS, COLS)
    glade = cloudy(shape, 90, 10) > 1.75
    ground.material[glade & (ground.material == Material.PASTURE)] = Material.DRY_GRASS
    river = _river()
    cover = np.array(selected, dtype=np.uint8).take(parcels.owner)
    _plant(ground, cover, glade, river)
    _tracks(ground, parcels)
    _hedges(ground, parcels, selected)
    _waters(ground, river, year)
    for number, plan in enumerate(NEIGHBORHOODS):
        if year >= plan.since:
            gate = _laid(parcels, plan.entrance)
            build_neighborhood(ground, plan._replace(entrance=gate), number)
    roads = unary_union([line for line, _ in _county_roads(parcels)])
    for number, plot in enumerate(WORKS):
        build_works(ground, plot, number, roads)
    _farms(ground, parcels, roads)
    _roads(ground, parcels)
    return ground


def _plant(ground: Ground, cover: np.ndarray, glade: np.ndarray, river: LineString) -> None:
    near, wide = np.zeros((2, ROWS, COLS), dtype=np.bool_)
    for band, reach in ((near, 34), (wide, 85)):
        where, mask = ground.mask([river.buffer(reach)])
        band[where] |= mask
    bank = near | (wide & (smooth((ROWS, COLS), 60, 11) > -0.2))
    copse = smooth((ROWS, COLS), 55, 12) > 2.1
    kinds = trees()
    for kind in (Material.SCRUB, Material.PINE):
        grow(ground, kinds[kind], (cover == kind) & ~glade, kind)
    broad = ((cover == Material.BROADLEAF) & ~glade) | bank
    broad |= copse & (cover == Material.PASTURE)
    grow(ground, kinds[Material.BROADLEAF], broad, Material.BROADLEAF)


def _tracks(ground: Ground, parcels: Parcels) -> None:
    rng = generator(13)
    for west, north, east, south in parcels.boxes:
        if rng.random() < 0.3:
            ends = _to_a_road(north, south, LINES_Y)
            _track(ground, parcels.laid([(west + 6.0, y) for y in np.arange(*ends, 12.0)]), rng)
        if rng.random() < 0.2:
            ends = _to_a_road(west, east, LINES_X)
            _track(ground, parcels.laid([(x, north + 6.0) for x in np.arange(*ends, 12.0)]), rng)


def _track(ground: Ground, line: LineString, rng: np.random.Generator) -> None:
    tone = rng.uniform(0.85, 1.08)
    if not line.intersects(_river().buffer(40)):  # there is no ford
        ground.fill([line.buffer(2.1)], Material.DIRT, tone)


def _to_a_road(start: float, end: float, lines: tuple[int, ...]) -> tuple[float, float]:
    """The stretch, made longer until it meets the nearer section line at one of its ends."""
    before = max(line for line in lines if line <= start)
    after = min(line for line in lines if line >= end)
    return (before, end) if start - before <= after - end else (start, after + 12)


def _hedges(ground: Ground, parcels: Parcels, selected: list[Material]) -> None:
    rng = generator(14)
    for (west, north, east, south), _ in zip(parcels.boxes, selected, strict=True):
        for line in (
            parcels.laid([(east - 2.0, y) for y in np.arange(north, south, 12.0)]),
            parcels.laid([(x, south - 2.0) for x in np.arange(west, east, 12.0)]),
        ):
            hedged, seed = rng.random() < 0.5, int(rng.integers(1 << 30))
            own = np.random.default_rng(seed)
            place = 0.0
            while hedged and place < line.length:
                spot = line.interpolate(place)
                at = (spot.x + own.normal(0, 1.6), spot.y + own.normal(0, 1.6))
                ground.crown(at, own.uniform(2.4, 5.6), own.normal(1, 0.12))
                place += own.uniform(3, 9) if own.random() < 0.93 else own.uniform(15, 60)
        if rng.random() < 0.5:
            for _ in range(int(rng.integers(2, 9))):
                at = (rng.uniform(west, east), rng.uniform(north, south))
                ground.crown(at, rng.uniform(3, 7), rng.normal(1, 0.12))


def _waters(ground: Ground, river: LineString, year: int) -> None:
    stream = unary_union(
        [
            Point(x, y).buffer(18 + 4.5 * math.sin(y / 71) + 2 * math.sin(y / 23))
            for x, y in river.segmentize(7).coords
        ]
    )
    bars = []
    for y in range(60, ROWS, 20):
        bend = _river_x(y + 40) - 2 * _river_x(y) + _river_x(y - 40)
        if abs(bend) > 9:
            bars.append(Point(_river_x(y) + math.copysign(17, bend), y).buffer(13))
    ground.fill([_ragged(bar, 15) for bar in [unary_union(bars)]], Material.SAND)
    ground.fill([stream], Material.SILTY_WATER, 0.9 if year == 2017 else 1.05)
    for number, (middle, radius, material) in enumerate(PONDS):
        _pond(ground, middle, radius, material, number)
    if year == 2017:
        _pond(ground, NEW_POND, 56.0, Material.SILTY_WATER, 99)


def _pond(
    ground: Ground, middle: tuple[float, float], radius: float, material: Material, number: int
) -> None:
    rng = generator(15, number)
    turns = np.linspace(0, 2 * math.pi, 90, endpoint=False)
    reach = np.ones_like(turns)
    for wave in range(2, 7):
        reach += rng.normal(0, 0.32 / wave) * np.cos(wave * turns + rng.uniform(0, 6.3))
    reach = radius * np.maximum(reach, 0.35)
    shore = Polygon(
        [
            (middle[0] + r * math.cos(t) * 1.25, middle[1] + r * math.sin(t) * 0.9)
            for r, t in zip(reach, turns, strict=True)
        ]
    ).buffer(0)
    ground.fill([shore.buffer(14)], Material.PASTURE, 0.95)
    ground.fill([shore.buffer(2.5)], Material.DIRT if number == 99 else Material.DRY_GRASS, 0.8)
    ground.fill([shore], material)


def _farms(ground: Ground, parcels: Parcels, roads: BaseGeometry) -> None:
    rng = generator(16)
    for number in range(34):
        if rng.random() < 0.5:
            x = LINES_X[1 + int(rng.integers(3))] + float(rng.choice([-58.0, 58.0]))
            place = (x, rng.uniform(60, ROWS - 60))
        else:
            y = LINES_Y[1 + 2 * int(rng.integers(2))] + float(rng.choice([-52.0, 52.0]))
            place = (rng.uniform(60, COLS - 60), y)
        spot = _laid(parcels, place)
        row, col = min(int(spot[1]), ROWS - 1), min(int(spot[0]), COLS - 1)
        near = ground.material[max(row - 40, 0) : row + 40, max(col - 40, 0) : col + 40]
        wet = np.isin(near, (Material.WATER, Material.SILTY_WATER, Material.LAWN)).any()
        if not wet:
            build_farm(ground, spot, number, roads)


def _roads(ground: Ground, parcels: Parcels) -> None:
    for line, surface in _county_roads(parcels):
        _road(ground, line, 3.6, 10.0, surface)
    path = [(x, LINES_Y[2] + 45 * math.sin(x / 640)) for x in range(-30, COLS + 40, 10)]
    highway = LineString(path)
    _verge(ground, highway, 34)
    for side in (-12, 12):
        lanes = highway.offset_curve(side)
        ground.fill([lanes.buffer(6.2)], Material.ASPHALT, 1.05)
        for off in (-4.0, 4.0):
            ground.fill([lanes.offset_curve(off).buffer(0.3)], Material.PAINT, 0.85)
    rng = generator(17)
    for _ in range(130):
        spot = highway.offset_curve(float(rng.choice([-14.0, -10.0, 10.0, 14.0]))).interpolate(
            rng.uniform(0, highway.length)
        )
        ground.block((spot.x, spot.y), (2.4, 1.0), 0.05, Material.CAR, rng.choice([0.5, 1, 1.6]))
    for x in LINES_X[1:-1]:
        line = parcels.laid([(float(x), float(y)) for y in range(1600, 1800, 10)])
        ground.fill([line.buffer(4.5)], Material.OLD_ASPHALT, 1.05)


def _county_roads(parcels: Parcels) -> list[tuple[LineString, Material]]:
    upright = [[(float(x), float(y)) for y in range(-20, ROWS + 30, 10)] for x in LINES_X[1:-1]]
    level = [
        [(float(x), float(y)) for x in range(-20, COLS + 30, 10)] for y in (LINES_Y[1], LINES_Y[3])
    ]
    roads = [(parcels.laid(points), Material.OLD_ASPHALT) for points in upright]
    return roads + [(parcels.laid(points), Material.ASPHALT) for points in level]


def _laid(parcels: Parcels, place: tuple[float, float]) -> tuple[float, float]:
    x, y = parcels.laid([place, (place[0] + 1, place[1])]).coords[0]
    return x, y


def _road(ground: Ground, line: LineString, half: float, verge: float, material: Material) -> None:
    _verge(ground, line, verge)
    ground.fill([line.buffer(half)], material)
    ground.fill([line.buffer(0.32)], Material.PAINT, 0.8)


def _verge(ground: Ground, line: LineString, half: float) -> None:
    # Open ground beside a road, but a bridge leaves the river under it alone.
    where, mask = ground.mask([line.buffer(half)])
    dry = ~np.isin(ground.material[where], (Material.WATER, Material.SILTY_WATER))
    kept = np.isin(ground.material[where], (Material.OLD_ASPHALT, Material.ASPHALT))
    kept |= np.isin(ground.material[where], (Material.CONCRETE, Material.DIRT))
    mask &= dry & ~kept
    ground.material[where][mask] = Material.PASTURE
    ground.tone[where][mask] = 1.0
    ground.height[where][mask] = 0.0


def _river_x(y: float) -> float:
    return 1010 + 165 * math.sin(y / 290 + 0.6) + 70 * math.sin(y / 121 + 1.0)


def _river() -> LineString:
    return LineString([(_river_x(y), float(y)) for y in range(-60, ROWS + 70, 8)])


def _ragged(shape: Polygon, meters: float) -> Polygon:
    return shape.buffer(meters / 3).buffer(-meters / 3)
