"""Small worlds: a directory of scenes of the made ground, laid out as NAIP lies.

Everything is near 33° N 87° W, UTM zone 16, but for the seam, which is at 84° W. Origins are whole
meters and no multiple of 16 or 512; within one CRS every scene shows the same ground.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyproj import Transformer

from tests.world.scenes import (
    BAD_FILES,
    Bounds,
    SyntheticScene,
    write_bad_file,
    write_scene,
)

WEST = (502_700.0, 3_648_600.0)
EAST = (504_000.0, 3_648_500.0)
"""Upper-left corners of the two quads, which overlap by 200 × 1,100 m."""

COLS, ROWS = 1500, 1200


@dataclass(frozen=True, slots=True)
class World:
    """A directory of scenes, in the order west, east or older, newer."""

    directory: Path
    scenes: tuple[SyntheticScene, ...]

    @property
    def bounds(self) -> Bounds:
        """(left, bottom, right, top) around all scenes, in meters of their CRS."""
        left, bottom, right, top = zip(*(scene.bounds for scene in self.scenes), strict=True)
        return min(left), min(bottom), max(right), max(top)


def two_quads(
    directory: Path,
    *,
    alpha_band4: bool = False,
    collar: int = 0,
    skew: int = 0,
    year: int = 2017,
    resolution: float = 1.0,
) -> World:
    """Two overlapping scenes of one date, west and east.

    At another `resolution` they cover the same ground (2,500 × 2,000 pixels at 0.6 m).
    """
    cols, rows = round(COLS / resolution), round(ROWS / resolution)
    meters = "1" if resolution == 1 else f"{resolution:g}".replace("0.", "0")
    scenes = tuple(
        write_scene(
            directory / f"m_3208601_{quarter}_16_{meters}_{year}0903.tif",
            origin=origin,
            cols=cols,
            rows=rows,
            resolution=resolution,
            year=year,
            alpha_band4=alpha_band4,
            collar=collar,
            skew=skew,
        )
        for quarter, origin in (("nw", WEST), ("ne", EAST))
    )
    return World(directory, scenes)


def alpha_quads(directory: Path) -> World:
    """`two_quads` with the fourth band tagged alpha; the same pixels."""
    return two_quads(directory, alpha_band4=True)


def collar_quads(directory: Path) -> World:
    """`two_quads`, each turned in a collar of zeros 40 to 70 px wide, still overlapping."""
    return two_quads(directory, collar=40, skew=30)


def fine_quads(directory: Path) -> World:
    """The ground of `two_quads` at 0.6 m."""
    return two_quads(directory, resolution=0.6)


def two_years(directory: Path) -> World:
    """The west quad in 2017 and in 2019, the second one shifted by 100 m east and south."""
    older = write_scene(directory / "m_3208601_nw_16_1_20170903.tif", origin=WEST)
    newer = write_scene(
        directory / "m_3208601_nw_16_1_20190921.tif",
        origin=(WEST[0] + 100, WEST[1] - 100),
        year=2019,
    )
    return World(directory, (older, newer))


def utm_seam(directory: Path) -> World:
    """Two scenes that meet at 84° W, west in zone 16 and east in zone 17, 300 m of both shared.

    Each shows the made ground of its own CRS: the same place may have another class in the other.
    """
    scenes = []
    for epsg, name, outside in (
        (26916, "m_3208408_ne_16_1_20170903.tif", COLS - 150),
        (26917, "m_3208301_nw_17_1_20170903.tif", 150),
    ):
        x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(-84.0, 32.97)
        origin = (float(round(x) - outside), float(round(y) + ROWS // 2))
        scenes.append(write_scene(directory / name, epsg=epsg, origin=origin))
    return World(directory, tuple(scenes))


def bad_files(directory: Path) -> dict[str, Path]:
    """One file of every kind of `BAD_FILES`, `{kind}.tif`."""
    directory.mkdir(parents=True, exist_ok=True)
    return {kind: write_bad_file(directory / f"{kind}.tif", kind) for kind in BAD_FILES}
