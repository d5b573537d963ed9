"""A plot of the city: a rotated rectangle on which objects are placed in local coordinates."""

from __future__ import annotations

import math

import numpy as np
from shapely.geometry import Polygon

from app.demo.ground import Ground
from app.demo.material import Material, pick

Rng = np.random.Generator


class Plot:
    """A rectangle of `wide` by `high` meters, rotated about its center; u is measured along it, v
    across, both from the center."""

    def __init__(
        self, ground: Ground, middle: tuple[float, float], wide: float, high: float, turn: float
    ) -> None:
        self.ground, self.middle, self.turn = ground, middle, turn
        self.wide, self.high = wide, high

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Return the ground position of local coordinates."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return self.middle[0] + u * cos - v * sin, self.middle[1] + u * sin + v * cos

    def rect(self, west: float, north: float, east: float, south: float) -> Polygon:
        """Return a rectangle given in u and v."""
        corners = ((west, north), (east, north), (east, south), (west, south))
        return Polygon([self.at(u, v) for u, v in corners])

    def lay(self, where: tuple[float, float, float, float], material: Material,
            tone: float = 1.0, height: float = 0.0) -> None:  # fmt: skip
        """Cover a rectangle (west, north, east, south in u and v)."""
        self.ground.fill([self.rect(*where)], material, tone, height)

    def cover(self, material: Material, tone: float = 1.0) -> None:
        """Cover the whole plot."""
        wide, high = self.wide / 2, self.high / 2
        self.lay((-wide, -high, wide, high), material, tone)

    def house(
        self,
        u: float,
        v: float,
        half: tuple[float, float],
        material: Material,
        tone: float,
        wall: float = 3.0,
        pitch: float = 0.5,
        skew: float = 0.0,
    ) -> None:
        """Place a building."""
        self.ground.block(self.at(u, v), half, self.turn + skew, material, tone, wall, pitch)

    def tree(self, u: float, v: float, radius: float, rng: Rng) -> None:
        """Place a tree crown."""
        self.ground.crown(self.at(u, v), radius, rng.normal(1, 0.13))


def park_cars(plot: Plot, where: tuple[float, float, float, float], rng: Rng, full: float) -> None:
    """Draw rows of parking bays, some occupied, with markings and a few trees."""
    west, north, east, south = where
    v = north + 4.0
    while v < south - 3:
        u = west + 3.0
        while u < east - 3:
            if rng.random() < full:
                plot.house(
                    u, v, (0.95, 2.2), Material.CAR, rng.choice([0.4, 0.7, 1, 1.4, 1.7]), 0, 0
                )
            plot.house(u + 1.4, v, (0.28, 2.6), Material.PAINT, 0.8, 0, 0)
            if rng.random() < 0.02:
                plot.tree(u, v, rng.uniform(1.2, 3.2), rng)
            u += 2.8
        v += rng.choice([5.6, 11.5])


def paved(rng: Rng) -> tuple[Material, float]:
    """Draw the asphalt of a plot and its brightness."""
    kinds = (
        Material.ASPHALT, Material.ASPHALT, Material.OLD_ASPHALT, Material.WARM_ASPHALT,
        Material.SEALED_ASPHALT,
    )  # fmt: skip
    return pick(rng, kinds), float(rng.uniform(0.75, 1.2))
