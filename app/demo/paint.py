"""From the ground to light: what a camera above it would see, before any sensor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from app.demo.ground import COLS, ROWS, Ground
from app.demo.material import LOOKS, Material
from app.demo.noise import Field, cloudy, generator, smooth, soften, white
from app.demo.parcels import Parcels, furrows

SUN = (0.42, 0.91)
"""Direction to the sun, a little east of south: east, south."""
SHADOW_PER_METER = 0.8
"""Meters of shadow per meter of height."""
TALLEST = 18
"""Meters."""
LEAFY = (Material.BROADLEAF, Material.PINE, Material.YARD_TREE, Material.SCRUB, Material.CONIFER)


def paint(ground: Ground, parcels: Parcels, year: int, depth: float = 1.25) -> Iterator[Field]:
    """Red, green, blue, near infrared, each float32 (rows, cols) on a scale of 0 to 255.

    `depth`: how deep shadows are, 1.25 in Demo County, 1.6 nearly black.
    """
    shape = (ROWS, COLS)
    shade = shadow(ground.height)
    sun = sunlight(_leafy(ground))
    lit = ground.tone * sun
    patch = np.clip(cloudy(shape, 46, 60, year), -2.2, 2.2) * np.float32(0.75)
    patch += np.float32(0.5) * smooth(shape, 170, 61, year)
    grain = white(shape, 62, year)
    grain = soften(grain) * 2 + np.float32(0.5) * grain
    code = ground.material.astype(np.uint16) * 256 + parcels.owner
    lit *= 1 + _table("grain").take(ground.material) * grain
    lit *= 1 + _table("rows").take(ground.material) * furrows(parcels)
    for band in range(4):
        infrared = band == 3
        light = _colors(band, len(parcels.boxes), year).take(code)
        light *= lit
        if infrared:  # leaves scatter it into their own shade
            light *= np.float32(0.5) + np.float32(0.5) / sun
        light *= 1 + _table("infrared" if infrared else "visible").take(ground.material) * patch
        # Skylight is blue: it fills shadows most in blue and hardly in near infrared.
        light *= 1 - shade * np.float32(depth * (0.56, 0.52, 0.44, 0.38)[band])
        yield np.float32(0.5) * (light + soften(light))


def shadow(height: Field) -> Field:
    """0 (lit) .. 1 (shaded), float32 (rows, cols), with a soft edge."""
    dark = np.zeros(height.shape, dtype=np.bool_)
    for step in range(1, int(TALLEST * SHADOW_PER_METER) + 1):
        down, right = round(step * SUN[1]), round(step * SUN[0])
        rise = np.float32(step / SHADOW_PER_METER)
        sunward = height[down:, right:]
        dark[: ROWS - down, : COLS - right] |= (
            sunward > height[: ROWS - down, : COLS - right] + rise
        )
    return soften(dark.astype(np.float32))


def sunlight(height: Field) -> Field:
    """Brightness of slopes towards and away from the sun, a factor (rows, cols)."""
    south = np.zeros_like(height)
    south[1:-1] = (height[2:] - height[:-2]) / 2
    slope = south * np.float32(-SUN[1])
    east = np.zeros_like(height)
    east[:, 1:-1] = (height[:, 2:] - height[:, :-2]) / 2
    slope -= east * np.float32(SUN[0])
    slope /= np.float32(0.7) + np.abs(slope)
    # A slope in the sun gains less than its shaded side loses.
    return np.asarray(1 + np.where(slope > 0, np.float32(0.3), np.float32(0.44)) * slope)


def _leafy(ground: Ground) -> Field:
    """Height with the branches of crowns, float32 (rows, cols): they are rough, roofs are not."""
    leafy = np.isin(np.arange(len(Material)), LEAFY).take(ground.material)
    branches = soften(ground.height) + np.float32(0.4) * smooth((ROWS, COLS), 2.3, 64)
    return np.asarray(np.where(leafy, branches, ground.height))


def _colors(band: int, parcels: int, year: int) -> Field:
    table = np.zeros((len(Material), 256), dtype=np.float32)
    for material, look in LOOKS.items():
        rng = generator(63, int(material), year)
        bright = 1 + look.parcel * np.clip(rng.normal(0, 1, 256), -1.8, 1.8)
        tint = 1 + 0.3 * look.parcel * np.clip(rng.normal(0, 1, (4, 256)), -1.8, 1.8)
        table[material] = look.color[band] * bright * tint[band]
    table[:, parcels:] = 0
    return table.ravel()


def _table(what: str) -> Field:
    values: dict[str, list[float]] = {
        "grain": [LOOKS[material].grain for material in Material],
        "rows": [LOOKS[material].rows for material in Material],
        "visible": [LOOKS[material].patch[0] for material in Material],
        "infrared": [LOOKS[material].patch[1] for material in Material],
    }
    return np.array(values[what], dtype=np.float32)
